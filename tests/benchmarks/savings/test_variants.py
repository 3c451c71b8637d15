"""The limits of a guarded run."""

from dataclasses import replace

from benchmarks.savings.learning import fold_of
from benchmarks.savings.sample import sample
from benchmarks.savings.variants import NO_CEILING, cost, guarded

RUN = sample().runs[0]
SUCCESSES = [replace(RUN, name=f"r:{number}", is_success=True) for number in range(20)]


def test_a_ceiling_is_above_what_its_agents_successes_cost() -> None:
    """Three times the dearest of them."""
    assert guarded(SUCCESSES[0], SUCCESSES).ceiling.nanos == 3 * cost(RUN)


def test_a_ceiling_is_not_learned_from_the_runs_own_fold_nor_from_other_agents_or_failures() -> None:
    """Such runs may cost anything: the ceiling stays."""
    asked = SUCCESSES[0]
    dear = replace(RUN, calls=RUN.calls * 10, is_success=True)
    own = next(name for name in (f"d:{number}" for number in range(1_000)) if fold_of(name) == fold_of(asked.name))
    other = next(name for name in (f"d:{number}" for number in range(1_000)) if fold_of(name) != fold_of(asked.name))
    more = [
        replace(dear, name=own),
        replace(dear, name=other, agent="another"),
        replace(dear, name=other, is_success=False),
    ]
    assert guarded(asked, [*SUCCESSES, *more]) == guarded(asked, SUCCESSES)
    assert guarded(asked, [*SUCCESSES, replace(dear, name=other)]).ceiling > guarded(asked, SUCCESSES).ceiling


def test_an_agent_that_is_not_known_has_no_ceiling() -> None:
    """Its calls and repeats are limited all the same."""
    limits = guarded(replace(RUN, agent="unknown"), SUCCESSES)
    assert limits.ceiling == NO_CEILING
    assert (limits.turns, limits.repeats) == (40, 3)
