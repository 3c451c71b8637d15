"""What is on disk when: before a paid call leaves, after it is settled, and before an answer is given."""

from pathlib import Path
from typing import Any

import pytest

from bursar import Ledger, Report, SQLAlchemySaver, Task
from bursar.checkpoints.database import connections
from tests.crash.programs import failpoints
from tests.support.graphs import answer_of, ask, build, priced, scripted, specialist, words


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the test did, in order: `disk` and `no disk` for commits that waited for it or not, and failpoints."""
    told: list[str] = []
    commit = connections.DriverConnection.commit

    def committed(self: Any) -> None:
        commit(self)
        told.append("disk" if self._durable else "no disk")

    monkeypatch.setattr(connections.DriverConnection, "commit", committed)
    monkeypatch.setattr(failpoints, "listeners", [told.append])
    return told


def asked(ledger: Ledger, saver: SQLAlchemySaver) -> None:
    model = priced(scripted(words(3)))

    async def food(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    app = build(ledger, [specialist("food", food)], checkpointer=saver)
    assert answer_of(ask(app)) == words(3)


def test_money_waits_for_the_disk_and_steps_wait_for_money(ledger: Ledger, happened: list[str]) -> None:
    """Hold and settlement are on disk before the call goes on; what stands between them is so with the next of them."""
    saver = SQLAlchemySaver(ledger.database)
    happened.clear()
    asked(ledger, saver)
    for named in ("after_hold", "after_settle"):
        assert happened[happened.index(named) - 1] == "disk"
    assert happened.count("disk") < happened.count("no disk")


def test_an_answer_waits_for_the_disk(ledger: Ledger, happened: list[str]) -> None:
    """After the last specialist has ended, a commit waits for the disk before the answer is given."""
    asked(ledger, SQLAlchemySaver(ledger.database))
    assert "disk" in happened[happened.index("before_node_end") :]


def test_checkpoints_in_a_database_of_their_own_wait_for_the_disk(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No commit of the ledger would put them there."""
    saver = SQLAlchemySaver(f"sqlite:///{tmp_path}/checkpoints.db")
    commit, levels = connections.DriverConnection.commit, list[bool]()

    def committed(self: Any) -> None:
        if self._engine is saver.database.engine:
            levels.append(self._durable)
        commit(self)

    monkeypatch.setattr(connections.DriverConnection, "commit", committed)
    asked(ledger, saver)
    saver.database.close()
    assert set(levels[2:]) == {True}  # before them the lease, which needs no disk, and what is read then
