"""PostgreSQL keeps a request waiting, by another program's lock or because it is frozen: it ends in time."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from langchain_core.messages import BaseMessage

from bursar import Ledger, Report, Task
from bursar.checkpoints.database import retry_queue as again
from bursar.checkpoints.database.database import Database
from bursar.state.errors import DatabaseError
from bursar.state.money import USD
from tests.support import servers
from tests.support.clock import Stopwatch, wait_until
from tests.support.databases import verified
from tests.support.graphs import answer_of, ask, build, priced, scripted, session, specialist

pytestmark = pytest.mark.postgres

DEADLINE = 5.0  # of a run, in seconds; a statement has thirty
COLD_DEADLINE = 8.0  # where the server is asked once more after the run, by whom the error passes
ALLOWED = 3  # as a share of the deadline: a busy machine is late, but without a deadline nobody would come
AMPLE = 25.0  # two seconds for each connection that is replaced; less than a frozen one would be waited for


@pytest.fixture
def ledger(postgres: str) -> Iterator[Ledger]:
    """Empty books on PostgreSQL."""
    with verified(postgres) as made:
        yield made


@pytest.fixture
def lock(postgres: str) -> Iterator[Callable[[str], None]]:
    """`lock(table)`: from now on another program has all rows of the table, until `lock("")`."""
    with psycopg.connect(postgres.replace("+psycopg", "")) as other:

        def take(table: str) -> None:
            if table:
                other.execute(f"SELECT * FROM {table} FOR UPDATE".encode())
            else:
                other.rollback()

        yield take


def _put(app: Any, *, asynchronous: bool, question: bool = True) -> Any:
    given: Any = {"messages": [("user", "how much?")]} if question else None
    return asyncio.run(app.ainvoke(given, session())) if asynchronous else app.invoke(given, session())


def _handler(model: Any, before: Callable[[], None], *, asynchronous: bool) -> Any:
    async def coroutine(task: Task) -> Report:
        before()
        return Report(answer=(await priced(model).ainvoke(task.text)).text)

    def function(task: Task) -> Report:
        before()
        return Report(answer=priced(model).invoke(task.text).text)

    return coroutine if asynchronous else function


class Began(Stopwatch):
    """Started by the run's first line; `then` follows."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self._then = then
        self._called = False

    def __call__(self) -> None:
        if not self._called:
            self._called = True
            self.__enter__()
            self._then()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_account_that_another_program_has_locked(
    ledger: Ledger, lock: Callable[[str], None], asynchronous: bool
) -> None:
    """The fallback answers by the deadline, nothing is held, and the session is free at once for the next request."""
    began = Began(lambda: lock("bursar_accounts"))
    model = scripted("one")
    app = build(
        ledger, [specialist("a", _handler(model, began, asynchronous=asynchronous), timeout=DEADLINE, max_turns=1)]
    )
    result = _put(app, asynchronous=asynchronous)
    assert began.stop() >= DEADLINE
    assert began.is_within(DEADLINE * ALLOWED)
    assert answer_of(result).startswith("a by rule")
    assert f"no answer within {DEADLINE:g} s" in answer_of(result)
    assert ledger.open_holds() == []
    lock("")
    result = _put(app, asynchronous=asynchronous)
    assert answer_of(result) == "one"
    assert [row.event.model_dump()["action"] for row in ledger.audit("s-1") if row.kind == "lease"] == [
        "taken",
        "released",
    ] * 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_lock_that_keeps_a_settlement_waiting(
    postgres: str, lock: Callable[[str], None], asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer does not wait for it, the hold stays, and it is booked when the lock is gone, however late."""
    monkeypatch.setattr(again, "RETRY_SECONDS", 0.2)
    began = Began(lambda: None)

    def locks(messages: list[BaseMessage]) -> str:
        lock("bursar_accounts")
        return "one"

    with verified(Database(f"{postgres}?statement_timeout={DEADLINE + 1:g}")) as ledger:
        handler = _handler(scripted(locks), began, asynchronous=asynchronous)
        result = _put(build(ledger, [specialist("a", handler, timeout=DEADLINE)]), asynchronous=asynchronous)
        assert began.stop() >= DEADLINE
        assert began.is_within(DEADLINE * ALLOWED)
        assert answer_of(result).startswith("a by rule")
        assert result["spend"].held == USD("0.005")
        time.sleep(2.5)  # the first attempt has given up meanwhile
        assert [hold.amount for hold in ledger.open_holds()] == [USD("0.005")]
        lock("")
        wait_until(lambda: ledger.open_holds() == [])
        assert ledger.spend("s-1").spent == USD("0.001")
        assert ledger.spend("s-1").held == USD(0)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_session_that_another_program_has_locked(
    ledger: Ledger, lock: Callable[[str], None], asynchronous: bool
) -> None:
    """Nothing can be logged, so nothing can be answered: an error says so in time. Resumed, the request is answered."""
    began = Began(lambda: lock("bursar_sessions"))
    handler = _handler(scripted("one"), began, asynchronous=asynchronous)
    app = build(ledger, [specialist("a", handler, timeout=DEADLINE)])
    with pytest.raises(DatabaseError, match="another program may hold a lock"):
        _put(app, asynchronous=asynchronous)
    assert began.stop() >= DEADLINE
    assert began.is_within(DEADLINE * ALLOWED)
    lock("")
    result = _put(app, asynchronous=asynchronous, question=False)
    assert answer_of(result) == "one"
    assert ledger.spend("s-1").spent == USD("0.001")


def test_a_request_has_its_deadline_before_any_run(ledger: Ledger, lock: Callable[[str], None]) -> None:
    """It opens in its own time, or says that it cannot."""
    app = build(ledger, [specialist("a", scripted())], timeout=DEADLINE)
    ask(app, name="s-2")
    with Stopwatch() as usual:
        ask(app, name="s-2")
    lock("bursar_accounts")
    with Stopwatch() as took, pytest.raises(DatabaseError, match="another program may hold a lock"):
        ask(app, name="s-2")
    assert took.is_within(DEADLINE * ALLOWED + usual.seconds)


@pytest.mark.parametrize(("asynchronous", "when"), [(False, "before the hold"), (True, "during the call")])
def test_a_server_that_is_frozen(asynchronous: bool, when: str) -> None:
    """The request ends in time with an error that says so; thawed, the next run answers, and all is paid once."""
    with servers.postgres() as server, verified(server.url) as ledger, ExitStack() as cold:
        began = Began(lambda: cold.enter_context(servers.frozen(server)) if when == "before the hold" else None)

        def freezes(messages: list[BaseMessage]) -> str:
            cold.enter_context(servers.frozen(server))
            return "one"

        model = scripted(freezes if when == "during the call" else "one", "two")
        app = build(ledger, [specialist("a", _handler(model, began, asynchronous=asynchronous), timeout=COLD_DEADLINE)])
        with pytest.raises(DatabaseError, match="the server does not answer"):
            _put(app, asynchronous=asynchronous)
        assert began.is_within(COLD_DEADLINE * ALLOWED)
        cold.close()
        result = _put(app, asynchronous=asynchronous, question=False)
        assert answer_of(result) in {"one", "two"}
        wait_until(lambda: all(hold.state == "unknown" for hold in ledger.open_holds()))
        charged = {True: USD("0.001"), False: USD("0.006")}  # the answer was booked late, or its end never seen
        assert ledger.spend("s-1").spent == charged[answer_of(result) == "one"]


def test_frozen_processes_of_a_server_that_is_well() -> None:
    """Their connections are replaced while there is time: the run completes."""
    with servers.postgres() as server, verified(server.url) as ledger, ExitStack() as cold:
        began = Began(lambda: cold.enter_context(servers.frozen(server, clients_only=True)))
        app = build(ledger, [specialist("a", _handler(scripted("one"), began, asynchronous=False), timeout=AMPLE)])
        assert answer_of(ask(app)) == "one"
        assert ledger.spend("s-1").spent == USD("0.001")
