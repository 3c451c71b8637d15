"""What the README says, tried: its Python runs, its picture is the graph's, its tables are the code's."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from bursar.cli import options
from bursar.cli.main import make_app
from bursar.genie import cli
from bursar.genie.app import Genie, open_genie
from bursar.genie.household.sample import END, sample_files
from tests.docs.pages import ROOT, blocks, first_column, run_python, wide_lines
from tests.support.provider import Provider

README = (ROOT / "README.md").read_text()


@pytest.fixture
def sample() -> Iterator[Genie]:
    """Genie over the sample household, as `bursar demo` opens it."""
    genie = open_genie("sqlite://", as_of=END)
    genie.import_files(sample_files())
    yield genie
    genie.close()


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks run one after the other as one script, with a provider on loopback behind `ChatOpenAI`."""
    provider = Provider()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    try:
        run_python(README, ROOT / "README.md")
    finally:
        provider.close()
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [provider.default.text, "answered []"]
    assert len(provider.requests) == 1


def test_the_picture_is_the_graphs_own() -> None:
    """The Mermaid block is what `bursar graph` prints; when this fails, paste that into the README."""
    genie = open_genie("sqlite://")
    drawn = genie.app.get_graph().draw_mermaid()
    genie.close()
    ((_, picture),) = blocks(README, "mermaid")
    assert picture.strip() == drawn.strip()


def test_the_demo_answers_what_the_readme_shows(sample: Genie) -> None:
    """The excerpt is the beginning of the first answer."""
    answer = sample.ask(cli.DEMO_QUESTIONS[0], "s-1")["messages"][-1].text
    shown = next(text for _, text in blocks(README, "text"))
    assert answer.startswith(shown.strip())


def test_every_setting_is_in_the_table() -> None:
    """The variables of the settings table are those that the code reads."""
    sources = [
        file.read_text()
        for folder in ("src", "state", "checkpoints", "nodes", "graphs", "genie")
        for file in python(folder)
    ]
    read = {name for source in sources for name in re.findall(r'"((?:BURSAR|OPENAI)_[A-Z_]+)"', source)}
    assert set(first_column(README, "variable")) == read


def python(folder: str) -> Iterator[Path]:
    """The Python files of a top-level folder."""
    return (file for file in (ROOT / folder).rglob("*.py") if not file.parent.is_symlink())


def test_every_command_is_in_the_table() -> None:
    """The commands of the table are those of the command line."""
    group = typer.main.get_group(make_app())
    assert {row.split()[1] for row in first_column(README, "command")} == set(group.commands)


def test_the_exit_codes_are_the_command_lines() -> None:
    """Each exit code of the table has a name in the command line, and each name is there."""
    named = [cli.ANSWERED, cli.GAPS, cli.WRONG_USE, cli.REFUSED, cli.INTERRUPTED, cli.DRAINED]
    assert named[:4] == [options.ANSWERED, options.GAPS, options.WRONG_USE, options.REFUSED]
    assert first_column(README, "exit code") == [str(code) for code in named]


def test_every_file_that_is_named_exists() -> None:
    """Links into the repository, and the tests that stand behind the promises, lead somewhere."""
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    named = re.findall(r"`(tests/[\w/.]+)`", README)
    assert [path for path in [*linked, *named] if not (ROOT / path).exists()] == []
    assert linked
    assert named


def test_lines_fit() -> None:
    """Prose is at most 130 characters wide, so that it reads well as text."""
    assert wide_lines(README) == []
