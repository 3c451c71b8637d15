"""`bursar pause`, `unpause`, `pauses` and `breakers`, as a person uses them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bursar.cli.main import make_app
from bursar.state.errors import ConfigurationError
from bursar.state.refusals import Paused

run = CliRunner().invoke
app = make_app()


def test_everything_is_paused_and_works_again(tmp_path: Path) -> None:
    """Asked while paused, Genie refuses; the list says who and why; twice is told."""
    database = ["--database", f"sqlite:///{tmp_path}/genie.db"]
    assert run(app, ["ask", "Where did my money go?", *database]).exit_code in {0, 1}
    assert run(app, ["breakers", *database]).stdout == "Every breaker is closed.\n"
    assert run(app, ["pauses", *database]).stdout == "Nothing is paused.\n"
    paused = run(app, ["pause", *database, "--by", "ann", "--note", "audit"])
    assert (paused.exit_code, paused.stdout) == (0, "everything is paused.\n")
    assert run(app, ["pause", *database]).stdout == "everything was paused already.\n"
    [row] = json.loads(run(app, ["pauses", *database, "--json"]).stdout)
    assert (row["scope"], row["by"], row["note"]) == ("all", "ann", "audit")
    refused = run(app, ["ask", "Where did my money go?", *database])
    assert isinstance(refused.exception, Paused)  # which `main` tells in one line, with exit code 3
    assert "`bursar unpause all`" in str(refused.exception)
    assert run(app, ["unpause", *database]).stdout == "everything works again.\n"
    assert run(app, ["unpause", *database]).stdout == "everything was not paused.\n"
    assert run(app, ["ask", "Where did my money go?", *database]).exit_code in {0, 1}
    assert run(app, ["verify", *database]).exit_code == 0


@pytest.mark.parametrize("words", [["agent"], ["tenant"], ["all", "tax"]])
def test_a_pause_says_of_what(tmp_path: Path, words: list[str]) -> None:
    """An agent and a tenant have a name, everything has none."""
    found = run(app, ["pause", *words, "--database", f"sqlite:///{tmp_path}/none.db"])
    assert isinstance(found.exception, ConfigurationError)
    assert "agent NAME or tenant NAME" in str(found.exception)
