"""The audit log shows every way of tampering with it, or with the money that it tells of."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.hash_chain import digest
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.decision import Considered, Decision
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Decided, Incident
from bursar.state.money import USD

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CENT = 10_000_000
SCOPES = ("tenant:acme:2026-11-23", "session:s-1", "request:r-1")
HOLD = Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "prices-1", CENT, SCOPES, NOW)


@pytest.fixture
def books(ledger: Ledger) -> Ledger:
    """A ledger with five events of session s-1: opened, held, settled, an incident, closed."""
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account(scope, 3 * CENT) for scope in SCOPES]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    run(postings.hold, HOLD)
    run(postings.settle, "c-1", cost=CENT // 2, usage=Usage(10, 2), response=b"answer", at=NOW)
    run(postings.record, "s-1", Incident(what="the provider was slow"), at=NOW)
    run(requests.close_request, "s-1", "r-1", outcome="completed", at=NOW)
    assert ledger.verify()
    return ledger


TAMPERING = {
    "an edited payload": (
        "UPDATE bursar_events SET payload = replace(payload, 'slow', 'fast') WHERE sequence = 4",
        "event 4 does not match its hash",
    ),
    "an edited time": (
        "UPDATE bursar_events SET at = '2026-11-24T09:30:00.000000+00:00' WHERE sequence = 2",
        "event 2 does not match its hash",
    ),
    "an edited kind": (
        "UPDATE bursar_events SET kind = 'decided' WHERE sequence = 4",
        "event 4 is called decided and is a incident",
    ),
    "an edited hash": ("UPDATE bursar_events SET hash = previous WHERE sequence = 3", "event 4 does not follow"),
    "a deleted event": ("DELETE FROM bursar_events WHERE sequence = 4", "event 4 is missing"),
    "a deleted first event": ("DELETE FROM bursar_events WHERE sequence = 1", "event 1 is missing"),
    "a cut tail": ("DELETE FROM bursar_events WHERE sequence >= 4", "the log ends at event 3, the session counts 5"),
    "every event cut": ("DELETE FROM bursar_events", "the log ends at event 0, the session counts 5"),
    "a cut tail and a counted-down session": (
        "UPDATE bursar_sessions SET sequence = 4",
        "the log ends at event 5, the session counts 4",
    ),
    "a deleted session": ("DELETE FROM bursar_sessions", "its row is missing"),
    "an edited cost": ("UPDATE bursar_calls SET cost = 1", "call c-1: its cost is 1, its events say 5000000"),
    "an edited saving": (
        "UPDATE bursar_calls SET cache_saved = 1",
        "call c-1: its cache saving is 1, its events say 0",
    ),
    "an edited length": (
        "UPDATE bursar_calls SET whole = NOT whole",
        "call c-1: its whole answer is",
    ),
    "an edited state": ("UPDATE bursar_calls SET state = 'void'", "call c-1: its state is 'void'"),
    "an edited hold": ("UPDATE bursar_calls SET amount = 1", "call c-1: its hold is 1"),
    "a deleted call": ("DELETE FROM bursar_calls", "call c-1: its events tell of it, and it is not in the books"),
    "a changed spend": (
        "UPDATE bursar_accounts SET spent = 0 WHERE scope = 'request:r-1'",
        "request r-1: 0 nano-dollars spent, its calls add up to 5000000",
    ),
    "a hold out of nowhere": (
        "UPDATE bursar_accounts SET held = 7 WHERE scope = 'session:s-1'",
        "session s-1: 7 nano-dollars held, its calls add up to 0",
    ),
    "a raised cap": (
        "UPDATE bursar_accounts SET cap = 900000000 WHERE scope = 'request:r-1'",
        "request r-1: its cap is 900000000 nano-dollars, it was opened with 30000000",
    ),
    "a deleted account": ("DELETE FROM bursar_accounts WHERE scope = 'request:r-1'", "its account is missing"),
    "a changed tenant's spend": (
        "UPDATE bursar_accounts SET spent = 0 WHERE scope = 'tenant:acme:2026-11-23'",
        "tenant acme on 2026-11-23: 0 nano-dollars spent",
    ),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found(books: Ledger, execute: Callable[..., int], how: str) -> None:
    """Each way of changing the books behind their back is a problem that names where."""
    sql, problem = TAMPERING[how]
    assert execute(sql) >= 1
    found = books.verify()
    assert not found.ok
    assert any(problem in line for line in found.problems), found.problems
    assert str(found).startswith("NOT verified: 1 session, ")


def test_a_mark_that_is_neither_true_nor_false_is_found(books: Ledger, execute: Callable[..., int]) -> None:
    """SQLite keeps any text as a truth value: it does not pass for true, as which it does not count.

    PostgreSQL takes no such text.
    """
    books.run(postings.hold, replace(HOLD, call_id="c-2"))
    books.run(postings.settle, "c-2", cost=1, usage=Usage(10, 2), response=b"answer", at=NOW, whole=True)
    assert books.verify()
    strange = "UPDATE bursar_calls SET whole = 'x' WHERE call_id = 'c-2'"
    if books.url.get_backend_name() == "postgresql":
        with pytest.raises(DataError):
            execute(strange)
        return
    execute(strange)
    assert "call c-2: its whole answer is 'x', its events say True" in books.verify().problems


def test_reordered_events_are_found(books: Ledger, execute: Callable[..., int]) -> None:
    """Two events that changed places do not match the hashes at their new places."""
    for old, new in ((3, 99), (4, 3), (99, 4)):
        execute("UPDATE bursar_events SET sequence = :new WHERE sequence = :old", old=old, new=new)
    problems = books.verify("s-1").problems
    assert any("event 3 does not follow the event before it" in line for line in problems)
    assert any("event 4 does not match its hash" in line for line in problems)


def test_an_edited_answer_is_found(books: Ledger, execute: Callable[..., int]) -> None:
    """An answer kept for replay that is not the one that was paid for is found."""
    execute("UPDATE bursar_calls SET response = :other", other=b"another")
    assert books.verify("s-1").problems == ("call c-1: its answer is not the one that was paid for",)


def test_a_rewritten_log_needs_the_key(books: Ledger, execute: Callable[..., int]) -> None:
    """Whoever can write the database but has no key cannot make an edited log verify."""
    query = text("SELECT sequence, at, kind, payload FROM bursar_events ORDER BY sequence")
    head = "0" * 64
    for sequence, at, kind, payload in books.database.run(lambda c: c.execute(query).all()):
        edited = payload.replace("slow", "fast")
        previous, head = head, digest(None, ("s-1", sequence, at, kind, edited, head))
        execute(
            "UPDATE bursar_events SET payload = :payload, previous = :previous, hash = :hash WHERE sequence = :n",
            payload=edited,
            previous=previous,
            hash=head,
            n=sequence,
        )
    execute("UPDATE bursar_sessions SET head = :head", head=head)
    assert any("it was written without the key" in line for line in books.verify().problems)
    assert not Ledger(books.database, key=b"guessed").verify()
    unkeyed = Ledger(books.database)
    assert unkeyed.verify().ok
    assert "unkeyed: whoever can write the database can rewrite its history" in str(unkeyed.verify())


def test_another_key_does_not_verify(books: Ledger) -> None:
    """A log verifies under its own key only."""
    assert len(Ledger(books.database, key=b"other").verify().problems) == 5
    assert str(books.verify()) == "verified: 1 session, 5 events"


def test_one_session_is_checked_without_the_others(books: Ledger, execute: Callable[..., int]) -> None:
    """Verifying a session looks at its own log, calls and accounts; damage elsewhere is another session's."""
    books.run(requests.open_session, "s-2", "acme", at=NOW)
    books.run(postings.record, "s-2", Incident(what="x"), at=NOW)
    execute("UPDATE bursar_events SET payload = '{}' WHERE session_id = 's-2'")
    execute("UPDATE bursar_accounts SET spent = 0 WHERE scope LIKE 'tenant:%'")
    assert books.verify("s-1")
    assert not books.verify("s-2")
    assert len(books.verify().problems) == 3


GARBAGE = ["", "null", "[]", "{", '{"kind": "no such kind"}', '{"kind": "call_settled", "cost": NaN}', "☃", "1e999"]


@pytest.mark.parametrize("payload", GARBAGE)
def test_garbage_is_a_problem_not_a_crash(books: Ledger, execute: Callable[..., int], payload: str) -> None:
    """Whatever a payload holds, verification answers; reading the log says to run it."""
    execute("UPDATE bursar_events SET payload = :payload, kind = '', previous = '' WHERE sequence = 2", payload=payload)
    execute("UPDATE bursar_calls SET scopes = '{', state = 'nonsense'")
    execute("UPDATE bursar_sessions SET sequence = -5, head = ''")
    assert any("event 2 cannot be read" in line for line in books.verify().problems)
    with pytest.raises(LedgerError, match="event 2 cannot be read; run verify"):
        books.audit("s-1")


@pytest.mark.parametrize("value", ["X'FFFE00'", "CAST(X'FF41' AS TEXT)", "1.5", "'text'", "9e999"])
@pytest.mark.parametrize(
    "column",
    [
        "events.payload",
        "events.at",
        "events.hash",
        "events.kind",
        "calls.cost",
        "calls.scopes",
        "calls.response",
        "accounts.spent",
        "accounts.cap",
        "sessions.head",
        "sessions.sequence",
    ],
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_values_of_any_type_do_not_crash_it(
    books: Ledger, execute: Callable[..., int], column: str, value: str
) -> None:
    """SQLite keeps any value in any column; verification survives and reports them all."""
    table, _, name = column.partition(".")
    execute("PRAGMA ignore_check_constraints = ON")
    execute(f"UPDATE bursar_{table} SET {name} = {value}")
    assert not books.verify()


def test_problems_are_bounded(books: Ledger, execute: Callable[..., int]) -> None:
    """A log with hundreds of damaged events reports the first hundred problems and the number of the others."""
    works = [books.bind(postings.record, "s-1", Incident(what="x"), at=NOW) for _ in range(300)]
    books.database.run(lambda connection: [work(connection) for work in works])
    execute("UPDATE bursar_events SET previous = 'x'")
    problems = books.verify().problems
    assert len(problems) == 101
    assert problems[-1] == "and 510 more"


def test_events_come_back_as_they_went(books: Ledger) -> None:
    """An event read from the log equals the one recorded, text of any kind included."""
    considered = Considered(name="tax", score=0.25, expected_cost=USD("0.000000001"), verdict="chosen")
    decision = Decision(kind="route", by="router ☃ \x00", rule="best", candidates=(considered,), left=USD("0.03"))
    event = Decided(request_id="r-1", decision=decision)
    assert books.run(postings.record, "s-1", event, at=NOW)[0] == 6
    assert books.audit("s-1")[-1].event == event
    assert EVENTS.validate_json(event.model_dump_json()) == event
    assert books.verify()


def test_long_reasons_are_cut() -> None:
    """A reason is kept to its first thousand characters, as UTF-8 that both databases take."""
    event = Incident(what="\ud800" + "x" * 5000)
    assert len(event.what) == 1000
    assert event.what.startswith("?x")
    assert event.what.endswith("…")


def test_processes_write_to_a_log_in_turn(books: Ledger) -> None:
    """Each remembers where the log ended when it last wrote; what the other wrote meanwhile is not written over."""
    record = books.bind(postings.record, "s-1", Incident(what="x"), at=NOW)
    others = Database(books.database.url)
    try:
        for turn in range(6):
            writer = (books.database, others)[turn % 2]
            assert writer.run(record)[0] == 6 + turn
    finally:
        others.close()
    assert books.verify()


def test_a_log_goes_on_after_what_was_rolled_back(books: Ledger) -> None:
    """An event of a transaction that failed leaves no trace in what is remembered."""
    record = books.bind(postings.record, "s-1", Incident(what="x"), at=NOW)

    def failing(connection: Connection) -> None:
        record(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.database.run(failing)
    assert books.database.run(record)[0] == 6
    assert books.verify()
