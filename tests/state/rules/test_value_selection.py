"""Selection by value per expected cost."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.money import USD, ZERO
from bursar.state.rules.value_selection import ScoredCandidate, select


def candidate(name: str, score: float, cost: str, *, fits: bool = True, value: str = "1") -> ScoredCandidate:
    """A candidate with a cost in dollars."""
    return ScoredCandidate(name=name, score=score, value=Decimal(value), expected_cost=USD(cost), fits=fits)


def test_most_value_per_dollar_comes_first() -> None:
    """A cheaper specialist of nearly the same score is chosen before a dear one."""
    considered = select([candidate("dear", 0.9, "0.02"), candidate("cheap", 0.8, "0.005")], USD("0.03"))
    assert [(c.name, c.verdict) for c in considered] == [("cheap", "chosen"), ("dear", "chosen")]


def test_what_does_not_fit_is_passed_over_and_said() -> None:
    """A dear one is cut with its figures; a cheaper one after it still runs."""
    considered = select(
        [candidate("a", 0.9, "0.02"), candidate("b", 0.8, "0.02"), candidate("c", 0.3, "0.01")], USD("0.03")
    )
    assert [(c.name, c.verdict) for c in considered] == [("a", "chosen"), ("b", "budget"), ("c", "chosen")]
    assert considered[1].reason == "expects $0.02, $0.01 left of the plan"


def test_a_free_specialist_runs_without_budget() -> None:
    """What costs nothing is chosen with nothing left."""
    considered = select([candidate("paid", 1, "0.01"), candidate("free", 0.4, "0")], ZERO)
    assert {c.name: c.verdict for c in considered} == {"paid": "budget", "free": "chosen"}


def test_value_weighs_the_score() -> None:
    """At the same score and cost, the specialist declared more valuable goes first."""
    considered = select([candidate("a", 0.5, "0.01"), candidate("b", 0.5, "0.01", value="2")], USD("0.01"))
    assert [(c.name, c.verdict) for c in considered] == [("b", "chosen"), ("a", "budget")]


CANDIDATES = st.lists(
    st.builds(
        ScoredCandidate,
        name=st.text("abcdef", min_size=1, max_size=4),
        score=st.floats(0, 1),
        value=st.decimals("0", "5", places=2),
        expected_cost=st.integers(0, 50_000_000).map(USD.from_nanos),
        fits=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda c: c.name,
)


@given(CANDIDATES, st.integers(0, 100_000_000).map(USD.from_nanos), st.randoms(use_true_random=False))
def test_selection_is_a_bound_and_ignores_order(candidates: list[ScoredCandidate], left: USD, shuffle: object) -> None:
    """Chosen costs never exceed what is left, every candidate is judged once, and input order changes nothing."""
    considered = select(candidates, left)
    chosen = sum(c.expected_cost.nanos for c in considered if c.verdict == "chosen")
    assert chosen <= left.nanos
    assert sorted(c.name for c in considered) == sorted(c.name for c in candidates)
    shuffled = list(candidates)
    shuffle.shuffle(shuffled)  # type: ignore[attr-defined]
    assert select(shuffled, left) == considered
    assert all(c.verdict == "unfit" for c in considered for x in candidates if x.name == c.name and not x.fits)
