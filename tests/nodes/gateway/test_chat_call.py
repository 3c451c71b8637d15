"""A call through the gateway: held, sent with its cap, settled; the provider's own books are the truth."""

import asyncio
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import LLMResult
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from bursar.nodes.gateway.meter import Price, meter
from bursar.state.errors import BursarError, ConfigurationError, UnknownPrice
from bursar.state.refusals import BudgetExceeded, NoSession, Refused, ScopeClosed
from tests.support.bench import SECRET, Bench
from tests.support.provider import Reply


class Total(BaseModel):
    """A category's total."""

    category: str
    cents: int


TOTAL = {"category": "food", "cents": 1250}


def test_a_plain_call_is_charged_what_the_provider_billed(bench: Bench) -> None:
    """One call, two commits, one bill, to the nano-dollar; the answer and its usage reach the caller."""
    with bench.scope().enter():
        answer = bench.model().invoke("how much did I spend?")
    assert answer.text == "all is well"
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert bench.charged == bench.provider.billed > 0
    assert bench.kinds() == ["call_held", "call_settled"]


def test_the_hold_is_a_bound_of_the_bill(bench: Bench) -> None:
    """What is held before the call is at least what the provider could bill, and the cap is in the request."""
    with bench.scope().enter():
        bench.model().invoke("x" * 900, max_tokens=100)
    (held,) = bench.holds()
    assert bench.provider.requests[0]["max_completion_tokens"] == 100
    assert held >= bench.provider.bills[0].input_tokens * 150 + 100 * 600


def test_cached_and_reasoning_tokens_are_priced_apart(bench: Bench) -> None:
    """Cache reads cost their own rate and reasoning counts as output, as the provider bills them."""
    bench.provider.will(Reply(cached_tokens=20, reasoning_tokens=40))
    with bench.scope().enter():
        bench.model().invoke("x" * 300)
    assert bench.charged == bench.provider.billed


def test_a_stream_arrives_in_pieces_and_is_charged_what_was_billed(bench: Bench) -> None:
    """Usage is asked for although the base URL is a custom one, and each piece reaches the caller as it comes."""
    with bench.scope().enter():
        pieces = [chunk.text for chunk in bench.model().stream("hello")]
    assert [piece for piece in pieces if piece] == ["all", " is", " well"]
    assert bench.provider.requests[0]["stream_options"] == {"include_usage": True}
    assert bench.charged == bench.provider.billed > 0


def test_async_calls_and_streams_are_the_same(bench: Bench) -> None:
    """`ainvoke`, `astream` and `abatch` are held, sent and settled as their sync forms are."""
    model = bench.model()

    async def main() -> list[str]:
        with bench.scope().enter():
            first = await model.ainvoke("one")
            streamed = "".join([chunk.text async for chunk in model.astream("two")])
            batch = await model.abatch(["three", "four"])
        return [first.text, streamed, *(answer.text for answer in batch)]

    assert asyncio.run(main()) == ["all is well"] * 4
    assert bench.charged == bench.provider.billed
    assert len(bench.provider.bills) == 4


def test_a_batch_is_metered_call_by_call(bench: Bench) -> None:
    """`batch` runs its calls in threads, each with its own hold."""
    with bench.scope().enter():
        bench.model().batch(["one", "two", "three"])
    assert len(bench.provider.bills) == 3
    assert bench.charged == bench.provider.billed


def test_bound_tools_are_sent_and_called_through_the_gateway(bench: Bench) -> None:
    """`bind_tools` is the inner model's own; the call it makes is metered, its schema inside the hold."""
    bench.provider.will(Reply(tool="Total", arguments=TOTAL))
    with bench.scope().enter():
        answer = bench.model().bind_tools([Total]).invoke("how much for food?")
    assert answer.tool_calls[0]["args"] == TOTAL
    assert bench.provider.requests[0]["tools"][0]["function"]["name"] == "Total"
    assert bench.charged == bench.provider.billed


@pytest.mark.parametrize("include_raw", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_goes_through_the_gateway(bench: Bench, method: str, include_raw: bool) -> None:
    """Both methods, with and without the raw message, give the parsed object and one settled call."""
    import json

    called = method == "function_calling"
    bench.provider.will(Reply(tool="Total", arguments=TOTAL) if called else Reply(text=json.dumps(TOTAL)))
    structured = bench.model().with_structured_output(Total, method=method, include_raw=include_raw)
    with bench.scope().enter():
        result = structured.invoke("how much for food?")
    parsed = result["parsed"] if isinstance(result, dict) else result
    assert parsed == Total(category="food", cents=1250)
    assert bench.charged == bench.provider.billed > 0


def test_bindings_retries_and_fallbacks_of_langchain_stay_metered(bench: Bench) -> None:
    """`bind`, `with_retry`, `with_fallbacks`, `with_config` wrap the metered model; each attempt has its own hold."""
    bench.provider.will(Reply(status=400), Reply(status=400))
    model = bench.model()
    chain = model.bind(stop=["END"]).with_retry(stop_after_attempt=2).with_fallbacks([model.with_config(tags=["x"])])
    with bench.scope().enter():
        assert chain.invoke("hello").text == "all is well"
    assert len(bench.provider.requests) == 3
    assert bench.provider.requests[0]["stop"] == ["END"]
    assert bench.charged == bench.provider.billed
    assert bench.kinds() == ["call_held", "call_voided"] * 2 + ["call_held", "call_settled"]


def test_a_call_that_does_not_fit_is_not_sent(bench: Bench) -> None:
    """Below the useful minimum the call is refused: no request at the provider, the refusal in the log and latched."""
    scope = bench.scope("0.00001")
    with scope.enter(), pytest.raises(BudgetExceeded, match="request:r-1") as refused:
        bench.model().invoke("hello")
    assert refused.value.scope == "request:r-1"
    assert scope.refusal is refused.value
    assert bench.provider.requests == []
    assert bench.kinds() == ["call_refused"]
    assert bench.charged == 0


def test_the_cap_is_lowered_to_what_fits(bench: Bench) -> None:
    """A call whose cap does not fit what is left is sent with the cap that does."""
    bench.provider.will(Reply(text="word " * 5_000))
    with bench.scope("0.0005").enter():
        bench.model().invoke("tell me everything", max_tokens=5_000)
    assert 64 <= bench.provider.requests[0]["max_completion_tokens"] < 900
    assert bench.provider.billed <= bench.charged <= 500_000


def test_the_callers_own_small_cap_is_no_reason_to_refuse(bench: Bench) -> None:
    """A caller may ask for fewer tokens than the minimum."""
    with bench.scope().enter():
        bench.model().invoke("yes or no?", max_tokens=1)
    assert bench.provider.requests[0]["max_completion_tokens"] == 1


def test_a_large_worst_case_does_not_freeze_the_other_calls(bench: Bench) -> None:
    """Three calls in flight at once under $0.03 all go, although the model may write 16,384 tokens."""
    model = bench.model()
    assert model.profile is not None
    assert model.profile.get("max_output_tokens") == 16_384

    async def main() -> None:
        with bench.scope().enter():
            await asyncio.gather(*(model.ainvoke(f"question {number}") for number in range(3)))

    asyncio.run(main())
    assert len(bench.provider.bills) == 3
    assert all(body["max_completion_tokens"] >= 512 for body in bench.provider.requests)


@pytest.mark.parametrize("calls", [10, 40])
def test_parallel_calls_never_exceed_the_cap(bench: Bench, calls: int) -> None:
    """However many threads call at once, the provider bills at most the budget, and every refusal is a clear one."""
    bench.provider.default = Reply(text="word " * 20_000)
    model, scope = bench.model(), bench.scope("0.002")
    failures: list[BaseException] = []

    def one(number: int) -> None:
        try:
            model.invoke(f"question {number}")
        except BudgetExceeded as refusal:
            failures.append(refusal)

    with scope.enter(), ThreadPoolExecutor(8) as pool:
        for call in [pool.submit(copy_context().run, one, number) for number in range(calls)]:
            call.result()
    assert 0 < bench.provider.billed <= bench.charged <= 2_000_000
    assert len(bench.provider.bills) + len(failures) == calls
    assert bench.held == 0


def test_outside_any_session_nothing_is_sent(bench: Bench) -> None:
    """A metered model without a scope refuses, sync and async."""
    with pytest.raises(NoSession, match="outside any session"):
        bench.model().invoke("hello")
    with pytest.raises(NoSession):
        asyncio.run(bench.model().ainvoke("hello"))
    assert bench.provider.requests == []


def test_a_closed_scope_cannot_spend(bench: Bench) -> None:
    """What still runs of an ended run is refused, and the refusal is in the log."""
    scope = bench.scope()
    scope.close()
    with scope.enter(), pytest.raises(ScopeClosed):
        bench.model().invoke("hello")
    assert bench.provider.requests == []
    assert bench.kinds() == ["call_refused"]


def test_a_passed_deadline_refuses(bench: Bench) -> None:
    """After the run's deadline no paid call is sent."""
    with bench.scope(deadline=0.0).enter(), pytest.raises(ScopeClosed, match="deadline"):
        bench.model().invoke("hello")
    assert bench.provider.requests == []


def test_a_deterministic_handler_cannot_pay(bench: Bench) -> None:
    """With `paid=False` every call is refused, whatever is left."""
    with bench.scope(paid=False).enter(), pytest.raises(BudgetExceeded, match="deterministic"):
        bench.model().invoke("hello")
    assert bench.provider.requests == []


def test_turns_are_counted(bench: Bench) -> None:
    """The paid calls of a run are capped, and the one beyond is refused."""
    scope = bench.scope(max_turns=2)
    with scope.enter():
        bench.model().batch(["one", "two"])
        with pytest.raises(BudgetExceeded, match="2 turns") as refused:
            bench.model().invoke("three")
    assert refused.value.scope == "turns"
    assert len(bench.provider.requests) == 2


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}], "image_url"),
        ([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}], "audio"),
        ([{"type": "file", "file": {"file_id": "f-1"}}], "file"),
    ],
)
def test_content_without_a_bound_is_refused(
    bench: Bench, content: list[str | dict[object, object]], named: str
) -> None:
    """Images, audio and files have no bound here, so a call with them is not sent."""
    scope = bench.scope()
    with scope.enter(), pytest.raises(Refused, match=named):
        bench.model().invoke([HumanMessage(content)])
    assert bench.provider.requests == []
    assert scope.refusal is not None


def test_options_without_a_bound_are_refused(bench: Bench) -> None:
    """A tool that runs at the provider, a prediction and a hidden output cap are refused before anything is sent."""
    model = bench.model()
    with bench.scope().enter():
        for bound in (
            model.bind(tools=[{"type": "web_search"}]),
            model.bind(prediction={"type": "content", "content": "x"}),
            model.bind(extra_body={"max_tokens": 99_999}),
        ):
            with pytest.raises(Refused):
                bound.invoke("hello")
    assert bench.provider.requests == []


def test_several_answers_are_held_for_each(bench: Bench) -> None:
    """`n` answers may each reach the cap, so the hold counts them all."""
    with bench.scope().enter():
        bench.model().invoke("hello", n=3, max_tokens=100)
    assert bench.holds()[0] >= 3 * 100 * 600


def test_a_model_named_by_the_call_has_its_own_price(bench: Bench) -> None:
    """`bind(model=…)` is charged at that model's price, and refused without one."""
    model = bench.model()
    with bench.scope().enter():
        model.bind(model="gpt-4o").invoke("hello", max_tokens=10)
        with pytest.raises(UnknownPrice, match="no-such-model"):
            model.bind(model="no-such-model").invoke("hello")
    bill = bench.provider.bills[0]
    assert bench.charged == bill.input_tokens * 2_500 + bill.output_tokens * 10_000


def test_metering_changes_neither_the_model_nor_a_metered_one(bench: Bench) -> None:
    """`meter` works on a copy, and on a metered model it does nothing."""
    chat = bench.chat()
    metered = meter(chat)
    assert meter(metered) is metered
    inner = metered._terms.client.model  # pyright: ignore[reportPrivateUsage]
    assert chat.root_client.max_retries == 2
    assert isinstance(inner, ChatOpenAI)
    assert inner.root_client.max_retries == inner.root_async_client.max_retries == 0
    assert inner.client._client.max_retries == inner.async_client._client.max_retries == 0


def test_nothing_leaks_the_key(bench: Bench) -> None:
    """Neither the text nor a pickle of a metered model holds its credentials; tracing sees the inner model."""
    model = bench.model()
    assert SECRET not in repr(model) + str(model) + str(model._serialized)  # pyright: ignore[reportPrivateUsage]
    assert model._get_ls_params().get("ls_model_name") == "gpt-4o-mini"  # pyright: ignore[reportPrivateUsage]
    assert model._llm_type == "openai-chat"  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(BursarError, match="pickle"):
        pickle.dumps(model)


class Counter(BaseCallbackHandler):
    """Counts what LangChain tells its callbacks."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.ends = 0

    def on_chat_model_start(self, serialized: object, messages: object, **kwargs: object) -> None:
        self.starts.append(str(kwargs.get("name")))

    def on_llm_end(self, response: LLMResult, **kwargs: object) -> None:
        self.ends += 1


def test_callbacks_fire_once(bench: Bench) -> None:
    """The caller's callbacks and the model's own hear of a call once, not once for each layer."""
    callers, own = Counter(), Counter()
    model = bench.model(callbacks=[own])
    with bench.scope().enter():
        model.invoke("hello", config={"callbacks": [callers]})
        list(model.stream("hello", config={"callbacks": [callers]}))
    assert (len(callers.starts), callers.ends, len(own.starts), own.ends) == (2, 2, 2, 2)


def test_a_model_without_a_price_or_a_cap_is_not_metered() -> None:
    """No price, no call; no output cap, no call; the error says what to do."""
    with pytest.raises(ConfigurationError, match="no output cap"):
        meter(FakeListChatModel(responses=["hello"]), price=Price("1", "1"))
    with pytest.raises(ConfigurationError, match="meter the model, then bind"):
        meter("gpt-4o-mini")  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_hidden_cap_in_the_models_settings_is_a_configuration_error(bench: Bench) -> None:
    """An output cap in `extra_body` would win over the gateway's."""
    with pytest.raises(ConfigurationError, match="extra_body"):
        bench.model(extra_body={"max_tokens": 9})


@pytest.mark.slow
def test_importing_the_gateway_is_light() -> None:
    """The gateway loads neither a provider's package nor the price data until a model is metered."""
    code = (
        "import sys, bursar.nodes.gateway.meter, bursar.nodes.gateway.unmetered_guard\n"
        "print([m for m in ('langchain_openai', 'openai', 'genai_prices') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
