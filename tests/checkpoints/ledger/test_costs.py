"""Costs: rows by agent, model, day, tenant and session that add up to what the accounts say."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.accounts import Account, open_account
from bursar.checkpoints.ledger.calls import Hold, Usage
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.errors import LedgerError
from bursar.state.money import USD

NOW = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
CENT = 10_000_000
HOLD = Hold("c-1", "s-1", "r-1", "tax", "ns", "hash", 0, "gpt", "prices-1", CENT, ("session:s-1",), NOW)


@pytest.fixture
def books(ledger: Ledger) -> Ledger:
    """Two tenants, two days: settled $0.004, unknown $0.01, held $0.01 and a void call, over two agents and models."""
    run = ledger.run
    tomorrow = NOW + timedelta(hours=1)
    for session, tenant in (("s-1", "acme"), ("s-2", "zeta")):
        run(requests.open_session, session, tenant, at=NOW)
        run(open_account, Account(f"session:{session}", None))
    run(postings.hold, HOLD)
    used = Usage(100, 20, 30, 4, 5)
    run(postings.settle, "c-1", cost=4 * CENT // 10, usage=used, saved=-7, response=None, at=tomorrow)
    run(postings.hold, replace(HOLD, call_id="c-2", agent="tax → reader", model="mini", at=tomorrow))
    run(postings.mark_unknown, "c-2", reason="cut off", at=tomorrow)
    other = replace(HOLD, session_id="s-2", scopes=("session:s-2",), agent="risk")
    run(postings.hold, replace(other, call_id="c-3", at=tomorrow))
    run(postings.hold, replace(other, call_id="c-4"))
    run(postings.void, "c-4", reason="429", at=NOW)
    return ledger


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("agent", [("risk", "0.00", "0.01", 0), ("tax", "0.004", "0.00", 0), ("tax → reader", "0.01", "0.00", 1)]),
        ("model", [("gpt", "0.004", "0.01", 0), ("mini", "0.01", "0.00", 1)]),
        ("day", [("2026-11-23", "0.004", "0.00", 0), ("2026-11-24", "0.01", "0.01", 1)]),
        ("tenant", [("acme", "0.014", "0.00", 1), ("zeta", "0.00", "0.01", 0)]),
        ("session", [("s-1", "0.014", "0.00", 1), ("s-2", "0.00", "0.01", 0)]),
    ],
)
def test_costs_by(books: Ledger, by: str, rows: list[tuple[str, str, str, int]]) -> None:
    """What was spent and is held is divided up by name; void calls cost nothing and do not count."""
    found = books.costs(by)  # pyright: ignore[reportArgumentType]
    assert [(row.name, row.spent, row.held, row.unknown) for row in found] == [
        (name, USD(spent), USD(held), unknown) for name, spent, held, unknown in rows
    ]
    assert sum(row.calls for row in found) == 3


def test_costs_of_a_session_and_a_time(books: Ledger) -> None:
    """Costs are limited to a session, and to holds from a moment on and before another."""
    assert [row.name for row in books.costs("agent", session="s-2")] == ["risk"]
    assert [row.name for row in books.costs("model", start=date(2026, 11, 24))] == ["gpt", "mini"]
    assert [row.name for row in books.costs("agent", end=date(2026, 11, 24))] == ["tax"]
    assert books.costs("agent", start=NOW, end=NOW) == []
    with pytest.raises(LedgerError, match="needs its time zone"):
        books.costs("agent", start=NOW.replace(tzinfo=None))
    with pytest.raises(LedgerError, match="costs are by agent, model, day, tenant, session, not by colour"):
        books.costs("colour")  # pyright: ignore[reportArgumentType]


def test_costs_make_a_data_frame(books: Ledger) -> None:
    """Rows as mappings make a data frame whose column is named after the division; amounts are decimal strings."""
    frame = pd.DataFrame([row.as_dict() for row in books.costs("agent")]).set_index("agent")
    assert frame["spent"].to_dict() == {"risk": "0.000000000", "tax": "0.004000000", "tax → reader": "0.010000000"}
    assert frame["input_tokens"].to_dict() == {"risk": 0, "tax": 100, "tax → reader": 0}
    assert list(frame["calls"]) == [1, 1, 1]
    assert frame["cache_hit_rate"].to_dict() == {"risk": "0.0000", "tax": "0.3000", "tax → reader": "0.0000"}
    assert frame["cache_saved"].to_dict() == {
        "risk": "0.000000000",
        "tax": "-0.000000007",
        "tax → reader": "0.000000000",
    }


def test_savings_of_a_cache_add_up_and_may_be_negative(books: Ledger) -> None:
    """Each division has the same sum of what hits saved less what writes cost more, and the log verifies with it."""
    for by in ("agent", "model", "day", "tenant", "session"):
        assert sum(row.cache_saved.nanos for row in books.costs(by)) == -7  # pyright: ignore[reportArgumentType]
    assert books.verify()


def test_spend_by_day(books: Ledger) -> None:
    """A session's spend is divided by the days of its holds too."""
    assert books.spend("s-1").by_day == {"2026-11-23": USD("0.004"), "2026-11-24": USD("0.01")}
    assert books.spend("s-2").by_day == {}
