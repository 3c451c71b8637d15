"""Recorded work, played through the gateway: the ledger's totals, the same each time; the guard loses nothing."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks.savings.benchmark import Outcomes, play
from benchmarks.savings.plot import draw
from benchmarks.savings.prices import Prices
from benchmarks.savings.records import Recorded
from benchmarks.savings.sample import sample
from benchmarks.savings.table import dollars, lines
from benchmarks.savings.totals import PARTS, Totals, compare, totals_of
from benchmarks.savings.variants import ALL, CACHING, CHOICE, GUARD, NOTHING, VARIANTS, cost
from bursar.state.rules.pricing import Usage

pytestmark = pytest.mark.slow


def a_little() -> Recorded:
    """A part of the sample: a run of each model, and a looping run of each kind."""
    whole = sample()
    return replace(whole, questions=(*whole.questions[:8], *whole.questions[-8:]), runs=whole.runs[:3])


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """What came of playing it."""
    return play(a_little())


@pytest.fixture(scope="module")
def totals(outcomes: Outcomes) -> Totals:
    """Its totals."""
    return totals_of(outcomes)


def test_the_ledger_has_what_list_prices_give(outcomes: Outcomes) -> None:
    """Without any way to save: the dear model's price of each question, and each call of the runs in full."""
    recorded, prices, nothing = a_little(), Prices.listed(), outcomes.of(NOTHING)
    for source, played in nothing.questions.items():
        asked = recorded.of(source)
        expected = sum(prices.dear.cost(Usage(one.input_tokens, one.dear_tokens)) for one in asked)
        assert played.spent == expected
        assert played.right == sum(one.dear_right for one in asked)
    assert nothing.runs.spent == sum(map(cost, recorded.runs))
    assert nothing.runs.hits == 0


def test_totals_are_the_same_each_time(totals: Totals) -> None:
    """To the nano-dollar, whatever runs at once."""
    assert totals_of(play(a_little())) == totals


def test_the_guard_loses_no_success_and_stops_what_loops(outcomes: Outcomes) -> None:
    """It lets every recorded run go on to its end, and ends each looping run before a limit of calls alone does."""
    assert outcomes.of(GUARD).runs == outcomes.of(NOTHING).runs
    looping = outcomes.looping
    assert looping.no_limit.stopped == ()
    assert {one.limit for one in looping.sane_default.stopped} == {"turns"}
    assert "loop" in {one.limit for one in looping.guard.stopped}
    assert len(looping.guard.stopped) == looping.guard.runs
    assert looping.guard.spent < looping.sane_default.spent < looping.no_limit.spent


def test_caching_changes_what_is_spent_and_nothing_else(outcomes: Outcomes) -> None:
    """The same runs end the same way, for less."""
    with_caching, without = outcomes.of(CACHING).runs, outcomes.of(NOTHING).runs
    assert with_caching.hits > 0
    assert with_caching.spent < without.spent
    assert replace(with_caching, spent=0, hits=0) == replace(without, spent=0, hits=0)


def test_all_together_is_all_that_each_saves(outcomes: Outcomes) -> None:
    """Choice saves on questions and caching on runs; neither takes from the other."""
    together, nothing = outcomes.of(ALL), outcomes.of(NOTHING)
    saved = {one.name: nothing.spent - outcomes.of(one).spent for one in (GUARD, CHOICE, CACHING)}
    assert nothing.spent - together.spent == sum(saved.values())


def test_what_is_worse_than_before_is_found(totals: Totals) -> None:
    """More spent or less right is worse; less spent is a change; the same is neither."""
    assert compare(totals, totals) == ([], [])
    assert compare(totals, changed(totals, "spent", -1))[0]
    assert compare(totals, changed(totals, "runs right", 1))[0]
    worse, better = compare(totals, changed(totals, "spent", 1))
    assert not worse
    assert "--renew" in better[-1]
    assert not compare(totals, None)[0]


def changed(totals: Totals, name: str, by: int) -> Totals:
    """The totals with one of them changed."""
    return {**totals, ALL.name: {**totals[ALL.name], name: totals[ALL.name][name] + by}}


def test_the_table_fits_and_the_picture_shows_what_was_spent(outcomes: Outcomes, totals: Totals) -> None:
    """The table has 130 columns at most; the picture is SVG, and names each variant with its total."""
    assert [line for line in lines(outcomes) if len(line) > 130] == []
    picture = ElementTree.fromstring(draw(totals))
    texts = " ".join(text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert all(one.name in texts for one in VARIANTS)
    bars = [one for one in picture.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "28"]
    assert len(bars) == len(VARIANTS) * len(PARTS)
    assert dollars(totals[NOTHING.name]["spent"]).startswith("$")
