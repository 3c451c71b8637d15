"""What a provider says that it billed, in every shape: charged right, or up to the hold, and never down."""

import itertools
from typing import get_args

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bursar.state.events import CallHeld
from tests.support.bench import SESSION, Bench
from tests.support.provider import Reply, Shape

PROMPT = "hello " * 30  # about 90 tokens with what is written around it
_numbers = itertools.count()


def ask(bench: Bench, reply: Reply, *, streams: bool) -> tuple[int, int, int]:
    """The nano-dollars billed, charged and held for one call that is answered so."""
    bench.provider.default = reply
    billed, spent = bench.provider.billed, _spent(bench)
    request = f"r-{next(_numbers)}"
    with bench.scope("0.01", request=request, checkpoint_ns=request).enter():  # elsewhere: nothing is replayed
        model = bench.model(max_tokens=400)
        list(model.stream(PROMPT)) if streams else model.invoke(PROMPT)
    held = [row.event.amount.nanos for row in bench.ledger.audit(SESSION) if isinstance(row.event, CallHeld)][-1]
    assert bench.provider.billed > billed
    return bench.provider.billed - billed, _spent(bench) - spent, held


def _spent(bench: Bench) -> int:
    return sum(row.spent.nanos for row in bench.ledger.costs("session"))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(get_args(Shape)),
    st.integers(1, 60),
    st.integers(0, 40),
    st.integers(0, 60),
    st.booleans(),
    st.booleans(),
)
def test_a_bill_in_any_shape_is_charged_in_full_and_closes_no_session(
    bench: Bench, shape: Shape, words: int, reasoning: int, cached: int, usage: bool, streams: bool
) -> None:
    """Neither less than was billed, nor more than the hold where parts disagree; no incident, for nothing went over."""
    assume(shape != "cache beside" or cached > 45)  # otherwise the parts agree, and nobody can see that some is missing
    assume(shape != "reasoning beside" or reasoning > words)
    reply = Reply(
        text=" ".join(["word"] * words), reasoning_tokens=reasoning, cached_tokens=cached, usage=usage, shape=shape
    )
    billed, charged, held = ask(bench, reply, streams=streams)
    if shape == "too low":  # what was written is seen, what was thought is not
        billed -= reasoning * 600 + (words - words // 4) * 600
    assert billed <= charged <= held
    assert not bench.ledger.incidents()


@pytest.mark.parametrize("shape", ["sound", "cumulative", "repeated"])
@pytest.mark.parametrize("streams", [False, True])
def test_a_report_that_is_repeated_counts_once(bench: Bench, shape: Shape, streams: bool) -> None:
    """To the nano-dollar, wherever in the stream it stands."""
    reply = Reply(text="word " * 40 + "end", reasoning_tokens=7, cached_tokens=20, shape=shape)
    billed, charged, _ = ask(bench, reply, streams=streams)
    assert charged == billed > 0
