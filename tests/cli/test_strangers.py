"""Genie's commands where they are strangers: a plain install, and a session that another application made."""

import sys
from pathlib import Path

import pytest

from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    "command", [("demo",), ("ask", "how much?"), ("import", "file.csv"), ("graph",), ("resume", "s-1")], ids=" ".join
)
def test_a_plain_install_says_what_genie_needs(
    run: Run, sample: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, with the command that mends it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    ended = run(*command)
    assert ended.refused_in_one_line(2, "this command is Genie's")
    assert "pip install 'bursar[genie]'" in ended.err


def test_a_session_of_another_application_is_left_alone(run: Run, sample: Path) -> None:
    """It is named, with its place and how to go on; there it goes on as if nobody had asked."""
    url = f"sqlite:///{sample}"
    ledger, stops = Ledger(url), [KeyboardInterrupt()]

    @deterministic
    def cook(task: Task) -> Report:
        if stops:
            raise stops.pop()
        return Report(answer="Onion soup.")

    cooking = Specialist(name="cook", description="Food", handler=cook, examples=["what shall I eat"])
    app = build_supervisor([cooking], budget=Budget("0.03"), ledger=ledger, checkpointer=SQLAlchemySaver(url))
    config = {"configurable": {"thread_id": "mine"}}
    with pytest.raises(KeyboardInterrupt):
        app.invoke({"messages": [("user", "What shall I eat?")]}, config)  # pyright: ignore
    ended = run("resume", "mine")
    assert ended.refused_in_one_line(
        2, "session 'mine' is not Genie's: it is at cook; resume it in its own application"
    )
    assert app.invoke(None, config)["messages"][-1].text == "Onion soup."  # pyright: ignore
    ledger.close()
