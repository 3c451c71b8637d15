"""Every fault a provider has: what is charged is at least what was billed, and no hold is lost or freed by mistake."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Generator
from datetime import UTC, datetime
from functools import partial
from typing import cast

import httpx
import openai
import pytest
from langchain_core.messages import AIMessageChunk

from bursar.nodes.gateway.providers.base import Failure
from bursar.nodes.gateway.providers.failures import failure_of
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.workers import run_coroutine
from bursar.state.refusals import BudgetExceeded, ScopeClosed
from bursar.state.rules.calls import MAX_PAUSE_SECONDS, pause_before_retry
from tests.support.bench import NOW, Bench
from tests.support.provider import Reply

LONG = "word " * 20_000


def test_a_rate_limit_is_waited_out(bench: Bench) -> None:
    """429 with Retry-After, then an answer: two holds, the first voided, and the SDK's own retries are off."""
    bench.provider.will(
        Reply(status=429, headers={"retry-after": "0"}), Reply(status=503, headers={"retry-after": "0"})
    )
    with bench.scope(max_turns=1).enter():
        assert bench.model().invoke("hello").text == "all is well"
    assert len(bench.provider.requests) == 3
    assert bench.kinds() == ["call_held", "call_voided"] * 2 + ["call_held", "call_settled"]
    assert bench.charged == bench.provider.billed


def test_a_stream_that_is_refused_is_opened_again(bench: Bench) -> None:
    """A refusal before the first chunk is retried for a stream too, sync and async."""
    refusal = Reply(status=429, headers={"retry-after": "0"})
    bench.provider.will(refusal, Reply(), refusal, Reply())
    model = bench.model()

    async def main() -> str:
        return "".join([chunk.text async for chunk in model.astream("hello")])

    with bench.scope().enter():
        assert "".join(chunk.text for chunk in model.stream("hello")) == "all is well"
        assert asyncio.run(main()) == "all is well"
    assert len(bench.provider.requests) == 4
    assert bench.charged == bench.provider.billed


def test_retries_end(bench: Bench) -> None:
    """A provider that always refuses is asked three times, each with a hold of its own, and nothing is owed."""
    bench.provider.default = Reply(status=500, headers={"retry-after": "0"})
    with bench.scope().enter(), pytest.raises(openai.InternalServerError):
        bench.model().invoke("hello")
    assert len(bench.provider.requests) == 3
    assert bench.charged == 0


def test_a_wait_beyond_the_deadline_is_not_waited(bench: Bench) -> None:
    """A hint longer than the run has left ends the call at once."""
    bench.provider.will(Reply(status=429, headers={"retry-after": "29"}))
    started = time.monotonic()
    with bench.scope(deadline=started + 25).enter(), pytest.raises(openai.RateLimitError):
        bench.model().invoke("hello")
    assert time.monotonic() - started < 20
    assert len(bench.provider.requests) == 1


def test_a_refusal_that_does_not_pass_is_not_repeated(bench: Bench) -> None:
    """400 is the caller's fault: asked once, voided."""
    bench.provider.will(Reply(status=400))
    with bench.scope().enter(), pytest.raises(openai.BadRequestError):
        bench.model().invoke("hello")
    assert len(bench.provider.requests) == 1
    assert bench.charged == 0


def test_a_proxys_timeout_stays_charged(bench: Bench) -> None:
    """A 504 says nothing of what the provider behind the proxy did: each attempt stays charged at its hold."""
    bench.provider.will(Reply(status=504, headers={"retry-after": "0"}), Reply())
    with bench.scope().enter():
        bench.model().invoke("hello")
    assert bench.kinds() == ["call_held", "call_unknown", "call_held", "call_settled"]
    assert bench.charged > bench.provider.billed


def test_a_call_that_never_left_owes_nothing(bench: Bench) -> None:
    """Nobody listens at the address: voided."""
    url = "http://127.0.0.1:9"
    with bench.scope().enter(), pytest.raises(openai.APIConnectionError):
        bench.model(base_url=url).invoke("hello")
    assert bench.charged == 0
    assert set(bench.kinds()) == {"call_held", "call_voided"}


@pytest.mark.parametrize("cut_after", [1, 3])
def test_a_cut_stream_stays_charged_at_its_hold(bench: Bench, cut_after: int) -> None:
    """The connection breaks in the middle: the call is unknown, charged at its hold, listed for reconciliation."""
    bench.provider.will(Reply(text=LONG, cut_after=cut_after))
    with bench.scope().enter(), pytest.raises((openai.APIError, httpx.HTTPError)):
        list(bench.model().stream("hello", max_tokens=200))
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged == bench.holds()[0] >= bench.provider.billed
    (hold,) = bench.ledger.open_holds()
    assert hold.state == "unknown"


def test_a_cut_answer_stays_charged_at_its_hold(bench: Bench) -> None:
    """A plain answer that does not arrive whole is unknown, and is not asked for again."""
    bench.provider.will(Reply(cut_after=0))
    with bench.scope().enter(), pytest.raises(openai.APIConnectionError):
        bench.model().invoke("hello")
    assert len(bench.provider.requests) == 1
    assert bench.charged == bench.holds()[0] >= bench.provider.billed


@pytest.mark.parametrize("streams", [False, True])
def test_missing_usage_is_settled_at_the_hold(bench: Bench, streams: bool) -> None:
    """Without the provider's count the hold is what is charged, never zero; the answer is kept."""
    bench.provider.will(Reply(usage=False))
    with bench.scope().enter():
        model = bench.model()
        text = "".join(chunk.text for chunk in model.stream("hello")) if streams else model.invoke("hello").text
    assert text == "all is well"
    assert bench.charged == bench.holds()[0] >= bench.provider.billed
    assert bench.kinds() == ["call_held", "call_settled"]


def test_a_provider_that_ignores_the_cap_is_booked_in_full(bench: Bench) -> None:
    """An actual cost above its hold is the truth: all of it is charged, and an incident says so."""
    bench.provider.will(Reply(text=LONG, ignores_cap=True))
    with bench.scope().enter():
        bench.model().invoke("hello", max_tokens=100)
    assert bench.charged == bench.provider.billed > bench.holds()[0]
    assert bench.kinds() == ["call_held", "call_settled", "incident"]


@pytest.mark.slow
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_stops_when_its_hold_is_used_up(bench: Bench, asynchronous: bool) -> None:
    """A provider that streams on beyond the cap is hung up on; what was received is charged."""
    bench.provider.will(Reply(text=LONG, ignores_cap=True))
    model = bench.model()

    async def main() -> list[str]:
        return [chunk.text async for chunk in model.astream("hello", max_tokens=100)]

    with bench.scope().enter():
        if asynchronous:
            pieces = asyncio.run(main())
        else:
            pieces = [chunk.text for chunk in model.stream("hello", max_tokens=100)]
    assert len([piece for piece in pieces if piece]) == 101
    assert bench.charged >= bench.holds()[0]
    assert bench.held == 0


def test_an_honest_stream_is_never_cut_short(bench: Bench) -> None:
    """A provider that stops at its cap is read to the end."""
    bench.provider.will(Reply(text="indented" + " " * 40 + "text " * 500))
    with bench.scope().enter():
        pieces = [chunk.text for chunk in bench.model().stream("hello", max_tokens=100)]
    assert len(pieces) >= 100
    assert bench.charged == bench.provider.billed


def test_a_stream_that_is_closed_early_stays_charged_at_its_hold(bench: Bench) -> None:
    """A caller that hangs up does not know what was billed, so the hold stands."""
    bench.provider.will(Reply(text="word " * 200))
    with bench.scope().enter():
        stream = cast("Generator[AIMessageChunk]", bench.model().stream("hello", max_tokens=300))
        assert isinstance(next(stream), AIMessageChunk)
        stream.close()
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged == bench.holds()[0] >= bench.provider.billed


def test_a_cancelled_stream_stays_charged_at_its_hold(bench: Bench) -> None:
    """Cancelling the task in the middle of its stream leaves an unknown call, not a free one."""
    gate = threading.Event()
    bench.provider.will(Reply(waits_for=gate))
    model = bench.model()

    async def main() -> None:
        seen = asyncio.Event()

        async def read() -> None:
            async for chunk in model.astream("hello"):
                if "finish_reason" in chunk.response_metadata:  # pyright: ignore[reportUnknownMemberType]
                    seen.set()  # the provider sends nothing more until the gate opens

        task = asyncio.ensure_future(read())
        await seen.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with bench.scope().enter():
        asyncio.run(main())
    gate.set()
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged == bench.holds()[0] >= bench.provider.billed


def test_a_cancelled_call_stays_charged_at_its_hold(bench: Bench) -> None:
    """A call that was sent and cancelled may have been billed, so its hold stands."""
    gate = threading.Event()
    bench.provider.will(Reply(waits_for=gate))
    model = bench.model()

    async def main() -> None:
        task = asyncio.ensure_future(model.ainvoke("hello"))
        await asyncio.to_thread(bench.provider.arrived.wait, 10)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with bench.scope().enter():
        asyncio.run(main())
    gate.set()
    assert bench.kinds() == ["call_held", "call_unknown"]
    assert bench.charged >= bench.provider.billed


def test_a_call_cancelled_while_its_hold_is_committed_owes_nothing(bench: Bench) -> None:
    """The hold is waited for and voided: nothing was sent, nothing is charged, nothing is left in flight."""
    model, scope = bench.model(), bench.scope()
    blocked, free = threading.Event(), threading.Event()

    async def main() -> None:
        def block(_connection: object) -> None:
            blocked.set()
            free.wait(60)

        other = asyncio.ensure_future(bench.ledger.database.arun(block))  # SQLite has one writer: the hold queues
        await asyncio.to_thread(blocked.wait, 60)
        task = asyncio.ensure_future(model.ainvoke("hello"))
        for _ in range(20):  # turns of the loop: the hold is submitted in the first, and cannot be committed yet
            await asyncio.sleep(0)
        assert scope.turns == 1
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other

    with scope.enter():
        asyncio.run(main())
    assert bench.kinds() == ["call_held", "call_voided"]
    assert bench.provider.requests == []
    assert (bench.charged, bench.held) == (0, 0)


def test_a_run_closed_while_its_hold_is_committed_cannot_send(bench: Bench) -> None:
    """The scope is looked at again between hold and send."""
    scope = bench.scope()
    new_id = scope.new_id

    def close_late() -> str:
        scope.close()  # an id is asked for inside the hold's transaction
        return new_id()

    scope.new_id = close_late
    with scope.enter(), pytest.raises(ScopeClosed):
        bench.model().invoke("hello")
    assert bench.kinds() == ["call_held", "call_voided", "call_refused"]
    assert bench.provider.requests == []
    assert bench.charged == 0


def test_a_refusal_is_not_swallowed_by_a_fallback_chain_for_free(bench: Bench) -> None:
    """`with_fallbacks` tries the next model, which the same budget refuses too."""
    model = bench.model()
    with bench.scope("0.00001").enter(), pytest.raises(BudgetExceeded):
        model.with_fallbacks([bench.model()]).invoke("hello")
    assert bench.provider.requests == []


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 09:30:07 GMT"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_the_servers_hint_is_read(hint: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are understood; nonsense is no hint."""
    error = httpx.HTTPStatusError(
        "no", request=httpx.Request("POST", "http://127.0.0.1/"), response=httpx.Response(429, headers=hint)
    )
    fault = failure_of(error, answered=False, now=NOW)
    assert (fault.owed, fault.pause_seconds) == ("nothing", seconds)


def test_pauses_are_bounded() -> None:
    """Pauses grow, a hint beyond the limit ends it, and so do the third attempt and the deadline."""
    fault = Failure("nothing", retry=True, reason="HTTP 429")
    pause = partial(pause_before_retry, retry=fault.retry, pause_seconds=fault.pause_seconds, seconds_left=None)
    assert pause(0) == 0.5
    assert pause(1) == 1.0
    assert pause(2) is None
    assert pause(0, seconds_left=0.4) is None
    patient = Failure("nothing", retry=True, reason="HTTP 429", pause_seconds=MAX_PAUSE_SECONDS + 1)
    assert pause(0, pause_seconds=patient.pause_seconds) is None


def test_an_errors_text_stays_out_of_the_books() -> None:
    """An error may quote the request, so only its type and status are kept."""
    fault = failure_of(ValueError("secret text"), answered=False, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert fault == Failure("unknown", retry=False, reason="ValueError")


@pytest.mark.parametrize(
    ("error", "left", "at_fault"),
    [
        (httpx.ReadTimeout("slow"), None, True),
        (httpx.ReadTimeout("slow"), 5.0, True),
        (httpx.ReadTimeout("slow"), 0.0, False),  # the run's own deadline
        (httpx.ConnectError("refused"), 5.0, True),
        (httpx.RemoteProtocolError("cut"), 5.0, True),
        (ConnectionResetError(), 5.0, True),
        (httpx.PoolTimeout("our own pool"), 5.0, False),
        (httpx.UnsupportedProtocol("no scheme"), 5.0, False),
        (ValueError("cannot be parsed"), 5.0, False),
        (asyncio.CancelledError(), 5.0, False),
        (KeyboardInterrupt(), 5.0, False),
    ],
)
def test_only_a_providers_own_faults_open_a_breaker(error: BaseException, left: float | None, at_fault: bool) -> None:
    """Timeouts and broken connections; not the caller's deadline, its cancellation, nor what cannot be read."""
    assert failure_of(error, answered=False, now=NOW, seconds_left=left).at_fault is at_fault
    assert failure_of(error, answered=True, now=NOW, seconds_left=left).at_fault is at_fault


def test_a_time_out_while_the_hold_waits_for_a_lock_costs_nothing(bench: Bench) -> None:
    """The handlers' loop waits in the commit itself; a call that times out there is not sent, and nothing is owed."""
    model, scope = bench.model(), bench.scope()
    lock = sqlite3.connect(str(bench.ledger.database.url.database), isolation_level=None, check_same_thread=False)

    async def handler() -> None:
        lock.execute("BEGIN IMMEDIATE")
        threading.Timer(2.0, lock.execute, ["COMMIT"]).start()
        async with asyncio.timeout(0.05):
            await model.ainvoke("hello")

    async def run() -> Captured[None] | None:
        with scope.enter():
            return await run_coroutine("spending", handler, seconds=20, apart=True)

    end = asyncio.run(run())
    lock.close()
    assert end is not None
    assert isinstance(end.error, TimeoutError)
    assert bench.provider.requests == []
    assert bench.kinds() == ["call_held", "call_voided"]
