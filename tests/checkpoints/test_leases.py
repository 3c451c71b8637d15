"""One owner per session: who gets a lease, when, and what a superseded owner may still do: nothing."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from sqlalchemy import Connection, text

from bursar.checkpoints.lease_renewal import LeaseRenewer
from bursar.checkpoints.leases import LEASE, LeaseHolder, lease_of
from bursar.checkpoints.process_identity import Process
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.state.errors import SessionBusy
from bursar.state.refusals import LeaseLost

S = "s-1"


@pytest.fixture
def saver(url: str) -> SQLAlchemySaver:
    """A saver over tables that are empty."""
    return SQLAlchemySaver(url, lease_seconds=30)


def row(saver: SQLAlchemySaver) -> Any:
    """The session's lease as it is stored."""
    return saver.database.run(lambda c: c.execute(text("SELECT * FROM bursar_leases")).mappings().one())


def change(saver: SQLAlchemySaver, assignment: str, **values: object) -> None:
    """Change the stored lease behind the saver's back."""

    def work(connection: Connection) -> None:
        connection.execute(text(f"UPDATE bursar_leases SET {assignment}"), values)

    saver.database.run(work)


def put(saver: SQLAlchemySaver, config: Any) -> Any:
    """Store a checkpoint with one value."""
    new: Checkpoint = {**empty_checkpoint(), "channel_values": {"a": "x"}, "channel_versions": {"a": "1"}}
    where: RunnableConfig = {"configurable": {"checkpoint_ns": "", **config["configurable"]}}
    return saver.put(where, new, {"step": 1}, {"a": "1"})


def at(checkpoint: Any, owned: LeaseHolder) -> RunnableConfig:
    """The checkpoint's config, under that owner's lease."""
    return {"configurable": {**checkpoint["configurable"], LEASE: owned.lease}}


def test_a_session_has_one_owner(saver: SQLAlchemySaver) -> None:
    """Who comes second is told at once who owns it and what to do; when it is free again, the epoch is the next."""
    with saver.own(S) as owned:
        with pytest.raises(SessionBusy, match=rf"session s-1 is running in process {os.getpid()} on .*--take-over"):
            saver.own(S).__enter__()
        with saver.own("s-2"):
            pass
        assert owned.lease.epoch == 1
        assert lease_of(owned.config) == owned.lease
    with saver.own(S) as owned:
        assert owned.lease.epoch == 2


async def _enter(saver: SQLAlchemySaver, seconds: float) -> int:
    async with saver.own(S, wait_seconds=seconds) as owned:
        return owned.lease.epoch


def test_who_waits_gets_it_when_it_is_free(saver: SQLAlchemySaver) -> None:
    """Threads and tasks that wait each get their turn, one at a time; who waits too short is told."""
    inside: list[int] = []

    def work() -> None:
        with saver.own(S, wait_seconds=60) as owned:
            inside.append(owned.lease.epoch)
            assert row(saver)["owner"] == owned.lease.owner

    async def tasks() -> list[int]:
        return await asyncio.gather(*(_enter(saver, 60) for _ in range(4)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    with saver.own(S):
        for thread in threads:
            thread.start()
        with pytest.raises(SessionBusy):
            asyncio.run(_enter(saver, 0.12))
    epochs = asyncio.run(tasks())
    for thread in threads:
        thread.join()
    assert sorted([*inside, *epochs]) == list(range(2, 10))


def test_a_lease_expires_by_the_databases_clock(saver: SQLAlchemySaver) -> None:
    """The time that is left is the database's own; the clock of this machine is not asked for it."""
    with saver.own(S) as first:
        assert 25_000 < saver.database.run(_left) <= 30_000
        change(saver, "expires_at = expires_at - 31000, host = 'elsewhere'")
        with saver.own(S) as second:
            assert second.lease.epoch == first.lease.epoch + 1
            put(saver, second.config)
            with pytest.raises(LeaseLost):
                put(saver, first.config)
    assert row(saver)["owner"] == ""


def _left(connection: Connection) -> int:
    now = {
        "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        "postgresql": "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    }[connection.dialect.name]
    return int(connection.execute(text(f"SELECT expires_at - {now} FROM bursar_leases")).scalar_one())


def test_it_is_renewed_while_its_owner_works(saver: SQLAlchemySaver) -> None:
    """Well before it expires, also while the owner blocks without a loop."""
    short = SQLAlchemySaver(saver.database, lease_seconds=3)
    with short.own(S) as owned:
        first = row(saver)["expires_at"]
        deadline = time.monotonic() + 60
        while row(saver)["expires_at"] < first + 300 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert row(saver)["expires_at"] >= first + 300
        put(saver, owned.config)
        with pytest.raises(SessionBusy):
            saver.own(S).__enter__()


def test_a_superseded_owner_writes_nothing(saver: SQLAlchemySaver) -> None:
    """Neither a checkpoint nor a task's writes, in one piece or many; the new owner's are kept."""
    with saver.own(S) as first:
        before = put(saver, first.config)
        saver.put_writes(at(before, first), [("a", 1)], "t")
        with saver.own(S, take_over=True) as second:
            with pytest.raises(LeaseLost, match="another took it over"):
                put(saver, first.config)
            for writes in ([("b", 2)], [("b", n) for n in range(60)]):
                with pytest.raises(LeaseLost):
                    saver.put_writes(at(before, first), writes, "t-2")
            after = put(saver, second.config)
        assert row(saver)["owner"] == ""
    found = list(saver.list({"configurable": {"thread_id": S, "checkpoint_ns": ""}}))
    ids = {one.checkpoint["id"] for one in found}
    assert ids == {one["configurable"]["checkpoint_id"] for one in (before, after)}
    assert [writes for one in found for writes in one.pending_writes or ()] == [("t", "a", 1)]


def test_releasing_a_lost_lease_frees_nobody_elses(saver: SQLAlchemySaver) -> None:
    """The first owner ends after the second began."""
    first = saver.own(S).__enter__()
    with saver.own(S, take_over=True) as second:
        first.__exit__(None, None, None)
        assert row(saver)["owner"] == second.lease.owner
        put(saver, second.config)


def test_without_a_lease_nothing_is_fenced(saver: SQLAlchemySaver) -> None:
    """A graph that never asked may write beside an owner, as with any other checkpointer."""
    with saver.own(S):
        put(saver, {"configurable": {"thread_id": S}})
        assert saver.get_tuple({"configurable": {"thread_id": S}}) is not None


def test_deleting_a_session_ends_its_ownership(saver: SQLAlchemySaver) -> None:
    """What its owner writes afterwards does not bring it back."""
    with saver.own(S) as owned:
        put(saver, owned.config)
        saver.delete_thread(S)
        with pytest.raises(LeaseLost):
            put(saver, owned.config)
    assert saver.get_tuple({"configurable": {"thread_id": S}}) is None


@pytest.fixture
def ended() -> Process:
    """A process of this host that has ended."""
    found = "from bursar.checkpoints.process_identity import Process; own = Process.current()"
    say = f"{found}; print(own.host, own.process, sep='|')"
    told = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True).stdout.strip()
    host, _, process = told.partition("|")
    return Process(host, process)


@pytest.mark.slow
def test_a_process_that_is_gone_owns_nothing(saver: SQLAlchemySaver, ended: Process) -> None:
    """On this host its lease is taken over at once; one of another host, or of a live process, is not."""
    assert ended.is_gone
    assert not Process.current().is_gone
    elsewhere = Process("elsewhere", ended.process)
    assert not elsewhere.is_gone
    with saver.own(S):
        for holder in (elsewhere, Process.current()):
            change(saver, "host = :host, process = :process", host=holder.host, process=holder.process)
            with pytest.raises(SessionBusy, match=holder.name):
                saver.own(S).__enter__()
        change(saver, "host = :host, process = :process", host=ended.host, process=ended.process)
        with saver.own(S) as second:
            assert second.lease.epoch == 2


def test_a_number_that_is_used_again_is_another_process() -> None:
    """The number of this process with another start is a process that has ended."""
    ours = Process.current()
    number, _, start = ours.process.partition(" ")
    if not start:
        pytest.skip("this system does not tell when a process began")
    assert Process(ours.host, f"{number} {int(start) + 1}").is_gone


async def _cancelled(saver: SQLAlchemySaver) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with saver.own(S):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hold())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_owner_lets_go(saver: SQLAlchemySaver) -> None:
    """Its lease is released, not left to expire."""
    asyncio.run(_cancelled(saver))
    with saver.own(S) as owned:
        assert owned.lease.epoch == 2


def test_renewing_ends_with_the_lease_and_leaves_no_thread() -> None:
    """What is removed, or no longer holds, is not renewed; the thread ends when nothing is left to do."""
    renewals = LeaseRenewer()
    renewed = threading.Semaphore(0)

    def renew() -> bool:
        renewed.release()
        return False

    renewals.add("lost", renew, every=0.001)
    renewals.add("kept", lambda: True, every=3600)
    assert renewed.acquire(timeout=60)
    renewals.remove("kept")
    renewals.remove("kept")
    assert not renewed.acquire(timeout=0.05)


def test_a_database_that_hangs_delays_no_others_leases(tmp_path: Path) -> None:
    """While renewing in one waits for a lock, leases in another are renewed; the first goes on when it can."""
    hangs = SQLAlchemySaver(f"sqlite:///{tmp_path}/hangs.db?timeout=60", lease_seconds=0.3)
    works = SQLAlchemySaver(f"sqlite:///{tmp_path}/works.db", lease_seconds=0.3)
    other = sqlite3.connect(tmp_path / "hangs.db", isolation_level=None)
    with hangs.own(S), works.own(S):
        other.execute("BEGIN IMMEDIATE")
        seen: set[int] = set()
        until = time.monotonic() + 120
        while len(seen) < 5 and time.monotonic() < until:
            seen.add(row(works)["expires_at"])
            time.sleep(0.01)  # between two looks, within the deadline
        stuck = other.execute("SELECT expires_at FROM bursar_leases").fetchone()
        other.rollback()
        assert len(seen) == 5
        while row(hangs)["expires_at"] == stuck[0] and time.monotonic() < until:
            time.sleep(0.01)
        assert row(hangs)["expires_at"] > stuck[0]
    other.close()
    hangs.database.close()
    works.database.close()


def test_what_is_no_lease_fences_nothing() -> None:
    """A config without one, or with something that a caller put in its place."""
    assert lease_of({}) is None
    assert lease_of({"configurable": {LEASE: "forged"}}) is None
