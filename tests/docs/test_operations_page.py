"""The page on operations: its tables are the command line's and the code's."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

from bursar.cli.common import options
from bursar.cli.main import make_app
from bursar.genie import cli
from tests.docs.pages import ROOT, first_column

PAGE = (ROOT / "docs" / "operations.md").read_text()
FOLDERS = ("src", "state", "checkpoints", "nodes", "graphs", "genie")


def test_every_command_is_in_the_table() -> None:
    """The commands of the table are those of the command line."""
    group = typer.main.get_group(make_app())
    assert {row.split()[1] for row in first_column(PAGE, "command")} == set(group.commands)


def test_the_exit_codes_are_the_command_lines() -> None:
    """Each exit code of the table has a name in the command line, and each name is there."""
    named = [cli.ANSWERED, cli.GAPS, cli.WRONG_USE, cli.REFUSED, cli.INTERRUPTED, cli.DRAINED]
    assert named[:4] == [options.ANSWERED, options.GAPS, options.WRONG_USE, options.REFUSED]
    assert first_column(PAGE, "exit code") == [str(code) for code in named]


def test_every_setting_is_in_the_table() -> None:
    """The variables of the settings table are those that the code reads."""
    sources = [file.read_text() for folder in FOLDERS for file in _python(folder)]
    read = {name for source in sources for name in re.findall(r'"((?:BURSAR|OPENAI)_[A-Z_]+)"', source)}
    assert set(first_column(PAGE, "variable")) == read


def _python(folder: str) -> Iterator[Path]:
    """The Python files of a top-level folder."""
    return (file for file in (ROOT / folder).rglob("*.py") if not file.parent.is_symlink())
