"""The prompts that stand for recorded ones."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.savings.conversation import CLOCK_BYTES, prompts
from benchmarks.savings.records import AgentRun, RecordedCall

sizes = st.lists(st.tuples(st.integers(200, 9_000), st.integers(1, 500)), min_size=1, max_size=12)


def a_run(calls: list[tuple[int, int]]) -> AgentRun:
    """A run with calls of these sizes."""
    return AgentRun("r:1", "r", "openai", "gpt-4.1", tuple(RecordedCall(*call) for call in calls), is_success=True)


@given(calls=sizes, clock_first=st.booleans())
def test_a_prompt_has_the_recorded_size(calls: list[tuple[int, int]], clock_first: bool) -> None:
    """To the byte, wherever the clock stands, and also where a run began anew."""
    made = list(prompts(a_run(calls), clock_first=clock_first))
    assert [len(prompt.text) for prompt in made] == [size for size, _ in calls]


@given(calls=sizes)
def test_what_is_stable_begins_the_next_prompt_if_that_can_hold_it(calls: list[tuple[int, int]]) -> None:
    """A prompt too short for what was said begins anew, and shares less than OpenAI would cache."""
    made = list(prompts(a_run(calls), clock_first=False))
    for (size, spoken), (before, after) in zip(calls, pairwise(made), strict=False):
        goes_on = after.stable >= size - CLOCK_BYTES + spoken
        assert after.text.startswith(before.text[: before.stable]) == goes_on


@given(calls=sizes)
def test_a_clock_at_the_head_leaves_nothing_stable(calls: list[tuple[int, int]]) -> None:
    """Prompts that follow each other differ within the clock."""
    made = list(prompts(a_run(calls), clock_first=True))
    assert {prompt.stable for prompt in made} == {0}
    heads = [prompt.text[:CLOCK_BYTES] for prompt in made]
    assert all(before != after for before, after in pairwise(heads))
