"""Anchors and erasure: what only a head kept elsewhere can show, and content that goes without breaking the log."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account
from bursar.checkpoints.ledger.anchors import Anchor, Head
from bursar.checkpoints.ledger.calls import Hold, Usage, replayable
from bursar.checkpoints.ledger.hash_chain import digest, head_of
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.errors import LedgerError
from bursar.state.events import Incident
from bursar.state.money import USD

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CENT = 10_000_000
KEY = b"a key of the tests"
SCOPES = ("session:s-1", "request:r-1")


@pytest.fixture(params=[KEY, None], ids=["keyed", "unkeyed"])
def books(request: pytest.FixtureRequest, url: str) -> Ledger:
    """A ledger, keyed or not, with five events of session s-1: opened, held, settled, an incident, closed."""
    ledger = Ledger(url, key=request.param, clock=lambda: NOW)
    run = ledger.run
    run(requests.open_session, "s-1", "acme", at=NOW)
    accounts = [Account(scope, 3 * CENT) for scope in SCOPES]
    run(requests.open_request, "s-1", "r-1", accounts=accounts, text_hash="t", at=NOW)
    run(postings.hold, Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "p", CENT, SCOPES, NOW))
    run(postings.settle, "c-1", cost=CENT // 2, usage=Usage(10, 2), response=b"secret answer", at=NOW)
    run(postings.record, "s-1", Incident(what="the provider was slow"), at=NOW)
    run(requests.close_request, "s-1", "r-1", outcome="completed", at=NOW)
    return ledger


@pytest.fixture
def change(books: Ledger) -> Callable[..., int]:
    """Change the database behind the ledger's back."""

    def run(sql: str, **values: object) -> int:
        return books.database.run(lambda connection: connection.execute(text(sql), values).rowcount)

    return run


def rechain(books: Ledger, change: Callable[..., int], key: bytes | None, edit: Callable[[str], str]) -> None:
    """Edit every payload and write the chain anew, as whoever can write the database may."""
    query = text("SELECT sequence, at, kind, payload FROM bursar_events ORDER BY sequence")
    head = "0" * 64
    for sequence, at, kind, payload in books.database.run(lambda c: c.execute(query).all()):
        new = edit(payload)
        previous, head = head, digest(key, ("s-1", sequence, at, kind, new, head))
        sql = "UPDATE bursar_events SET payload = :new, previous = :previous, hash = :head WHERE sequence = :n"
        change(sql, new=new, previous=previous, head=head, n=sequence)
    change("UPDATE bursar_sessions SET head = :head", head=head)


def cut(change: Callable[..., int], books: Ledger, last: int) -> None:
    """Cut the log after event `last`, so that its own chain is whole."""
    query = text("SELECT hash FROM bursar_events WHERE sequence = :n")
    head = books.database.run(lambda c: c.execute(query, {"n": last}).scalar_one())
    change("DELETE FROM bursar_events WHERE sequence > :n", n=last)
    change("UPDATE bursar_sessions SET sequence = :n, head = :head", n=last, head=head)


def test_an_anchor_is_plain_json(books: Ledger) -> None:
    """An anchor holds the head and the totals, goes out as JSON and comes back the same."""
    anchor = books.anchor("s-1")
    (head,) = anchor.heads
    assert (head.sequence, head.hash) == books.run(head_of, "s-1")
    assert (head.spent, head.held, head.calls) == (USD("0.005"), USD(0), 1)
    assert anchor.keyed == (books.key is not None)
    assert Anchor.model_validate_json(anchor.model_dump_json()) == anchor
    assert books.anchor().heads == anchor.heads
    with pytest.raises(LedgerError, match="no session s-9"):
        books.anchor("s-9")


def test_a_log_that_goes_on_agrees_with_its_anchor(books: Ledger) -> None:
    """What is added after the anchor, new sessions included, is no problem, and the answer names the anchor."""
    anchor = books.anchor()
    books.run(requests.open_session, "s-2", "acme", at=NOW)
    books.run(postings.record, "s-1", Incident(what="later"), at=NOW)
    found = books.verify(anchor=anchor)
    assert found.ok
    assert "held against an anchor of 2026-11-23 09:30:00 UTC" in str(found)
    assert ("unkeyed: whoever can write the database can rewrite what came after the anchor" in str(found)) == (
        books.key is None
    )
    with pytest.raises(LedgerError, match="the anchor has no session s-2"):
        books.verify("s-2", anchor=anchor)


def test_a_cut_tail_without_money_is_missed_by_the_requests(books: Ledger, change: Callable[..., int]) -> None:
    """Of events without money, cut with their session's count, the row of their request tells; or else an anchor."""
    anchor = books.anchor()
    cut(change, books, 3)
    assert books.verify().problems == ("request r-1: its outcome is 'completed', its events say None",)
    assert not books.verify("s-1")
    change("UPDATE bursar_requests SET outcome = NULL, closed_at = NULL")
    assert books.verify().ok
    assert books.verify(anchor=anchor).problems == (
        "session s-1: event 5, which the anchor has as the last, is missing; the log was cut",
    )
    assert not books.verify("s-1", anchor=anchor)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("DELETE FROM bursar_requests", "request r-1: its events tell of it, and it is not in the books"),
        (
            "INSERT INTO bursar_requests VALUES ('r-2', 's-1', 't', 'now', NULL, NULL, NULL)",
            "request r-2: it is in the books, and no event tells that it was opened",
        ),
        (
            "UPDATE bursar_requests SET text_hash = 'u'",
            "request r-1: its text hash is 'u', its events say 't'",
        ),
        (
            "UPDATE bursar_requests SET outcome = 'failed'",
            "request r-1: its outcome is 'failed', its events say 'completed'",
        ),
    ],
)
def test_requests_and_their_events_tell_the_same(
    books: Ledger, change: Callable[..., int], sql: str, problem: str
) -> None:
    """A request that was added, removed or edited behind the log's back is found."""
    change(sql)
    assert books.verify().problems == (problem,)


def test_a_head_from_a_trace_is_an_anchor(books: Ledger, change: Callable[..., int]) -> None:
    """A trace has the sequence and the hash alone; that is enough to find a log that was cut or rewritten."""
    sequence, head = books.run(head_of, "s-1") or (0, "")
    anchor = Anchor(at=NOW, keyed=False, heads=(Head(session_id="s-1", sequence=sequence, hash=head),))
    assert books.verify(anchor=Anchor.model_validate_json(anchor.model_dump_json())).ok
    cut(change, books, 4)
    change("UPDATE bursar_requests SET outcome = NULL, closed_at = NULL")
    assert books.verify().ok
    assert books.verify("s-1", anchor=anchor).problems == (
        "session s-1: event 5, which the anchor has as the last, is missing; the log was cut",
    )


def test_a_cut_tail_with_money_is_missed_by_the_totals(books: Ledger, change: Callable[..., int]) -> None:
    """A settlement that was cut, with its call's row, leaves accounts that say more than the log."""
    cut(change, books, 1)
    change("DELETE FROM bursar_calls")
    problems = books.verify().problems
    assert "request r-1: 5000000 nano-dollars spent, its calls add up to 0" in problems


def test_everything_taken_back_needs_an_anchor(books: Ledger, change: Callable[..., int]) -> None:
    """A database put back whole to an earlier moment agrees with itself, not with the anchor."""
    anchor = books.anchor()
    for table in ("events", "calls", "accounts", "requests", "sessions"):
        change(f"DELETE FROM bursar_{table}")
    assert books.verify().ok
    assert any("the log was cut" in problem for problem in books.verify(anchor=anchor).problems)


def test_a_rewritten_log(books: Ledger, change: Callable[..., int]) -> None:
    """A log edited and chained anew without the key fails the key; without one only an anchor shows it."""
    anchor = books.anchor()
    rechain(books, change, None, lambda payload: payload.replace("slow", "fast"))
    plain, anchored = books.verify(), books.verify(anchor=anchor)
    assert "session s-1: event 5 is not the one that the anchor has; the log was rewritten" in anchored.problems
    if books.key is None:
        assert plain.ok
        assert str(plain).startswith("verified: 1 session, 5 events, unkeyed:")
    else:
        assert any("it was written without the key" in problem for problem in plain.problems)


ALIASES: dict[str, tuple[str, str]] = {
    "a key twice": ('"cost":"0.005000000"', '"cost":"9","cost":"0.005000000"'),
    "another spelling of an amount": ('"cost":"0.005000000"', '"cost":"0.005"'),
    "a number for a text": ('"cost":"0.005000000"', '"cost":"5e-3"'),
    "an unknown field with a NaN": ('"input_tokens":10', '"extra":NaN,"input_tokens":10'),
    "a left-out default": ('"cache_read_tokens":0,', ""),
    "white space": ('"cost":', '"cost": '),
}


@pytest.mark.parametrize("alias", ALIASES)
def test_an_aliased_payload_is_found(books: Ledger, change: Callable[..., int], alias: str) -> None:
    """A payload that reads as the same event and is another text is found even where its hash was made anew."""
    usual, other = ALIASES[alias]
    rechain(books, change, books.key, lambda payload: payload.replace(usual, other))
    assert books.verify().problems == (
        "session s-1: event 3 is not written as Bursar writes it; two texts must not tell the same",
    )


def test_a_nan_is_found(books: Ledger, change: Callable[..., int]) -> None:
    """A NaN in place of a number cannot be read, even where its hash was made anew."""
    rechain(books, change, books.key, lambda payload: payload.replace('"input_tokens":10', '"input_tokens":NaN'))
    assert "session s-1: event 3 cannot be read" in books.verify().problems


def test_edited_tokens_are_found(books: Ledger, change: Callable[..., int]) -> None:
    """The tokens of a call's row are those that its settlement tells."""
    change("UPDATE bursar_calls SET output_tokens = 1")
    assert books.verify("s-1").problems == ("call c-1: its output tokens is 1, its events say 2",)


def test_an_anchor_that_lies_about_totals_is_found(books: Ledger) -> None:
    """An anchor whose totals are not those of its own event does not agree."""
    anchor = books.anchor()
    forged = anchor.heads[0].model_copy(update={"spent": USD("0.004")})
    (problem,) = books.verify(anchor=anchor.model_copy(update={"heads": (forged,)})).problems
    assert problem.endswith(
        "up to event 5 1 calls, 5000000 nano-dollars spent and 0 held; the anchor has 1, 4000000 and 0"
    )


def test_erased_answers_leave_log_and_sums_whole(books: Ledger, change: Callable[..., int]) -> None:
    """Erasing removes the answers and nothing else; verification says so, and such a call is paid for anew."""
    anchor, spend = books.anchor(), books.spend("s-1")
    assert books.erase("s-1", note="asked by the user") == 1
    assert books.erase("s-1") == 0
    assert books.run(replayable, "s-1", "ns", "hash", 0) is None
    rows = books.database.run(lambda c: c.execute(text("SELECT response FROM bursar_calls")).scalars().all())
    assert rows == [None]
    assert books.spend("s-1") == spend
    found = books.verify(anchor=anchor)
    assert (found.ok, found.erased) == (True, 1)
    assert "1 answer erased on purpose" in str(found)
    erased = books.audit("s-1")[-1].as_dict()
    assert (erased["kind"], erased["answers"], erased["note"]) == ("erased", 1, "asked by the user")
    with pytest.raises(LedgerError, match="no session s-9"):
        books.erase("s-9")


def test_an_erased_answer_does_not_come_back(books: Ledger, change: Callable[..., int]) -> None:
    """An answer put back after its erasure is found; one paid for after it is kept and checked as ever."""
    books.erase("s-1")
    run = books.run
    run(postings.hold, Hold("c-2", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "p", CENT, SCOPES, NOW))
    run(postings.settle, "c-2", cost=1, usage=Usage(), response=b"again", at=NOW)
    kept = run(replayable, "s-1", "ns", "hash", 0)
    assert kept is not None
    assert kept.answer == b"again"
    assert books.verify()
    change("UPDATE bursar_calls SET response = :secret", secret=b"secret answer")
    assert books.verify().problems == (
        "call c-1: its answer was erased, and one is there",
        "call c-2: its answer is not the one that was paid for",
    )


def test_an_answer_lost_without_erasure_is_found(books: Ledger, change: Callable[..., int]) -> None:
    """An answer that is gone, and of which no event tells that it was erased, is a problem."""
    change("UPDATE bursar_calls SET response = NULL")
    assert books.verify().problems == ("call c-1: its answer is not the one that was paid for",)
