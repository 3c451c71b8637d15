"""Any cascade of functions, outside any session: which rungs are asked, for any prices, gains, stakes and budgets."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar import USD, Cascade, Report, Task
from bursar.nodes.cascades.stakes import stake_of
from bursar.state.money import ZERO

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
PLACES = range(4)
amounts = st.integers(0, 10**10).map(USD.from_nanos)


def task(left: USD) -> Task:
    """Return a task that may spend `left`."""
    return Task(text="?", specialist="a", session_id="s", request_id="r", tenant="t", now=NOW, left=left)


def rung(place: int, asked: list[int], *, fails: bool) -> Callable[[Task], Any]:
    """Return a function that notes that it was asked, and answers by its place or fails."""

    async def answer(given: Task) -> Report:
        asked.append(place)
        if fails:
            raise ValueError("no")
        return Report(answer=str(place), confidence=0.1 * place)

    return answer


@given(
    st.lists(amounts, min_size=4, max_size=4).map(sorted),
    st.lists(st.decimals(0, 1, places=3), min_size=4, max_size=4),
    amounts,
    amounts,
    st.sets(st.integers(0, 3)),
    st.integers(0, 4),
)
def test_no_rung_is_asked_that_is_not_borne(
    prices: list[USD], gains: list[Decimal], stake: USD, left: USD, failing: set[int], accepts: int
) -> None:
    """From each rung without an accepted answer the first later one is asked that is worth it and fits; no other is."""
    asked: list[int] = []
    names = [f"r{place}" for place in PLACES]
    cascade = Cascade(
        {name: rung(place, asked, fails=place in failing) for place, name in enumerate(names)},
        accept=lambda report: report.answer == str(accepts),
        stake=stake,
        gain=lambda segment, name: gains[names.index(name)],
        prices=dict(zip(names, prices, strict=True)),
    )
    end = asyncio.run(_end(cascade, task(left)))
    expected, at = [0], 0
    while not (at == accepts and at not in failing):
        borne = (
            later
            for later in range(at + 1, 4)
            if (not prices[later] or gains[later] * stake.nanos > prices[later].nanos - prices[at].nanos)
            and prices[later] <= left
        )
        following = next(borne, None)
        if following is None:
            break
        expected.append(at := following)
    assert asked == expected
    answered = [place for place in asked if place not in failing]
    if not answered:
        assert isinstance(end, ValueError)
    else:
        assert isinstance(end, Report)
        accepted = accepts == answered[-1] == asked[-1]
        assert end.answer == str(answered[-1])
        assert bool(end.gaps) is not accepted


async def _end(cascade: Cascade, given: Task) -> Report | BaseException:
    [end] = await asyncio.gather(cascade(given), return_exceptions=True)
    return end


def giving(amount: object) -> Callable[[Task], Any]:
    """Return a stake's function that returns this."""
    return lambda task: amount


def raising(task: Task) -> str:
    """Raise, as a stake's function that misses a figure."""
    raise KeyError("missing")


@pytest.mark.parametrize(
    ("stake", "why"),
    [
        (giving("-1"), "-$1.00 is negative"),
        (giving(Decimal("NaN")), "its stake counts as $0.00: "),
        (giving(0.5), "its stake counts as $0.00: "),
        (raising, "it failed (KeyError)"),
    ],
)
def test_a_stake_that_is_none_counts_as_nothing_and_is_named(stake: Any, why: str) -> None:
    """Nothing is asked for it that costs more, and nobody has to guess why."""
    amount, note = stake_of(stake, task(ZERO))
    assert amount == ZERO
    assert note.startswith("its stake counts as $0.00")
    assert why in note


def test_a_stake_of_the_task_is_the_amount() -> None:
    """A function's amount is taken as it is, without a note."""
    assert stake_of(lambda task: "12.50", task(ZERO)) == (USD("12.50"), "")
