"""What installed applications add to the command line, and what becomes of one that cannot be loaded."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bursar.cli.common import applications
from bursar.genie.agents.database_connector.connector import QueryTimeout
from bursar.genie.app import Genie
from tests.cli.conftest import HEAVY, Run

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """`install(["module:name"], drills=[…])`: the only entry points; a module may stand in the test's folder."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def give(commands: Sequence[str] = (), drills: Sequence[str] = ()) -> None:
        def entry_points(*, group: str) -> list[EntryPoint]:
            values = {"bursar.commands": commands, "bursar.drills": drills}[group]
            return [EntryPoint(f"app{number}", value, group) for number, value in enumerate(values, 1)]

        monkeypatch.setattr(applications, "entry_points", entry_points)

    return give


@pytest.mark.parametrize("value", ["no.such.module:commands", "json:nothing", "json:loads", "raises:commands"])
def test_an_application_that_cannot_be_loaded_is_told_in_one_line(
    run: Run, install: Install, tmp_path: Path, value: str
) -> None:
    """No module, no such name, no commands, any error at import: the others' commands and the engine's still work."""
    (tmp_path / "raises.py").write_text("raise RuntimeError('on import')\n")
    install([value, "bursar.genie.cli:commands"])

    ended = run("--help")

    assert ended.code == 0
    assert ended.err.startswith(f"bursar: {value} ")
    assert len(ended.err.splitlines()) == 1
    assert "demo" in ended.out
    assert "top-up" in ended.out


def test_the_engines_commands_are_its_own(run: Run, install: Install, tmp_path: Path) -> None:
    """An application adds commands and replaces none."""
    (tmp_path / "adds_two.py").write_text(
        "import typer\n"
        "commands = typer.Typer()\n"
        "commands.command(name='verify')(lambda: print('all is well'))\n"
        "commands.command(name='hello')(lambda: print('hello'))\n"
    )
    install(["adds_two:commands"])
    assert run("hello").out == "hello\n"
    assert run("verify").refused_in_one_line(2, "there is no database")
    assert run("ask", "hi").code == 2  # Genie's, which is not installed here


def test_which_graph_is_drilled(run: Run, install: Install) -> None:
    """The only one there is; of several the one that is named; otherwise one line that says what there is."""
    install()
    assert run("drill").refused_in_one_line(2, "there are: none")
    install(drills=["bursar.genie.app:graph_to_drill", "no.such.module:graph"])
    assert run("drill").refused_in_one_line(2, "say by --graph which graph to drill; there are: app1, app2")
    assert run("drill", "--graph", "app2").refused_in_one_line(2, "no.such.module:graph cannot be loaded")
    assert run("drill", "--graph", "app1", "--agent", "ghost").refused_in_one_line(2, "no agent ghost")


@pytest.mark.slow
def test_genies_commands_load_nothing_that_only_some_need() -> None:
    """A base install lists and finds them: no extra is imported before a command runs."""
    code = f"import sys, bursar.genie.cli; print([name for name in {(*HEAVY, 'langgraph')!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_data_that_cannot_be_read_are_one_line(run: Run, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the household's data ends a command as wrong use does."""

    def fail(*_: object, **__: object) -> None:
        raise QueryTimeout("the query took longer than 2 s")

    monkeypatch.setattr(Genie, "ask", fail)
    assert run("ask", "hi").refused_in_one_line(2, "took longer than 2 s")
