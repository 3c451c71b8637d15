"""A request of Genie's that was cut off is resumed, wherever it was cut off."""

from pathlib import Path
from typing import Any

import pytest

from bursar import SQLAlchemySaver
from bursar.genie.app import Genie, open_genie
from bursar.genie.household.sample import END, sample_files

QUESTION = "What did I spend on groceries in March 2025?"


class Cut(Exception):
    """The process is gone."""


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database with the sample household."""
    url = f"sqlite:///{tmp_path}/genie.db"
    genie = opened(url)
    genie.import_files(sample_files())
    genie.close()
    return url


def opened(url: str) -> Genie:
    """Genie on a database, without a model."""
    return open_genie(url, as_of=END, environment={})


@pytest.mark.parametrize(("step", "runs"), [(1, 0), (2, 1)], ids=["supervisor", "specialist"])
def test_a_step_whose_nodes_have_all_ended_is_gone_on_from(
    database: str, monkeypatch: pytest.MonkeyPatch, step: int, runs: int
) -> None:
    """The node has written, and its step is not in a checkpoint: no node is next, yet there is no answer."""
    put = SQLAlchemySaver.put

    def cut(saver: Any, config: Any, checkpoint: Any, metadata: Any, versions: Any) -> Any:
        if metadata["step"] == step:
            raise Cut
        return put(saver, config, checkpoint, metadata, versions)

    genie = opened(database)
    monkeypatch.setattr(SQLAlchemySaver, "put", cut)
    with pytest.raises(Cut):
        genie.ask(QUESTION, "s-1")
    monkeypatch.setattr(SQLAlchemySaver, "put", put)
    state = genie.app.get_state({"configurable": {"thread_id": "s-1"}})
    assert (state.next, len(state.values["runs"])) == ((), runs)
    resumed = genie.resume("s-1")
    assert resumed["ending"] == "answered"
    assert len(resumed["runs"]) == 1
    assert genie.resume("s-1")["messages"] == resumed["messages"]  # nothing runs again
    genie.close()
