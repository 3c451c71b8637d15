"""Request fields, wherever a caller puts them: the seller bills what it got, and that is never more than the budget."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bursar.state.errors import ConfigurationError
from bursar.state.money import USD
from bursar.state.refusals import Refused
from tests.support.bench import Bench
from tests.support.provider import DEAREST_MODEL, MODEL, Reply

pytestmark = pytest.mark.filterwarnings("ignore:Parameters:UserWarning")  # ChatOpenAI's word on model_kwargs
BUDGET = USD("0.002").nanos
LONG = "word " * 2_000
DEAR_MESSAGES = [{"role": "user", "content": "w" * 8_000}]

FREE: dict[str, Any] = {  # they cost nothing more: each must really be sent
    "temperature": 0.25,
    "top_p": 0.5,
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "user": "u-1",
    "metadata": {"team": "a"},
    "store": True,
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "verbosity": "low",
    "response_format": {"type": "text"},
}
DEAR: dict[str, list[Any]] = {  # they multiply or re-price: each is priced, or refused by its name
    "n": [2, 10, 128],
    "best_of": [20],
    "model": ["gpt-4o", DEAREST_MODEL],
    "models": [[DEAREST_MODEL]],
    "service_tier": ["priority"],
    "max_tokens": [16_000],
    "max_completion_tokens": [16_000],
    "messages": [DEAR_MESSAGES],
    "prediction": [{"type": "content", "content": LONG}],
    "web_search_options": [{}, {"search_context_size": "high"}],
    "previous_response_id": ["resp_1"],
    "prompt": [{"id": "pmpt_1"}],
    "plugins": [[{"id": "web"}]],
    "top_logprobs": [5],
    "never_heard_of": [1],
}
CONSTRUCTOR = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "n", "service_tier", "model")
PLACES = ("call", "bind", "constructor", "model_kwargs", "extra_body", "extra_body of the call", "extra_body in kwargs")

Named = tuple[str, int]  # a field, and which of its values: the values themselves are long
free = st.sampled_from([(name, 0) for name in sorted(FREE)])
dear = st.sampled_from([(name, number) for name, values in DEAR.items() for number in range(len(values))])


def place(name: str, value: Any, where: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """The settings of the model, the options of the call, and whether the options are bound."""
    field = {name: value}
    if name in {"metadata", "messages"} and "extra_body" not in where:
        where = "extra_body"  # elsewhere they are LangChain's own arguments
    elif where == "constructor" and name not in CONSTRUCTOR:
        where = "model_kwargs"
    elif where == "model_kwargs" and name in CONSTRUCTOR:
        where = "extra_body"  # ChatOpenAI takes it in `model_kwargs` by no means
    places: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
        "call": ({}, field, False),
        "bind": ({}, field, True),
        "constructor": (field, {}, False),
        "model_kwargs": ({"model_kwargs": field}, {}, False),
        "extra_body": ({"extra_body": field}, {}, False),
        "extra_body of the call": ({}, {"extra_body": field}, False),
        "extra_body in kwargs": ({"model_kwargs": {"extra_body": field}}, {}, False),
    }
    return places[where]


_numbers = itertools.count()


def ask(bench: Bench, placed: list[tuple[str, Any, str]], *, streams: bool, **metering: Any) -> Exception | None:
    """Ask with the fields where they are placed, until the money is gone; what was raised but for that."""
    own: dict[str, Any] = {}
    options: dict[str, Any] = {}
    bound = False
    for name, value, where in placed:
        model_settings, call_options, binds = place(name, value, where)
        for target, added in ((own, model_settings), (options, call_options)):
            for key, field in added.items():
                target[key] = {**target.get(key, {}), **field} if isinstance(field, dict) and key in target else field
        bound |= binds
    try:
        from bursar.nodes.gateway.meter import meter

        model: Any = meter(bench.chat(**own), **metering)
        caller = model.bind(**options) if bound else model
        call = {} if bound else options
        request = f"r-{next(_numbers)}"
        with bench.scope("0.002", request=request, checkpoint_ns=request).enter():  # elsewhere: nothing is replayed
            for number in range(3):
                list(caller.stream(f"hello {number}", **call)) if streams else caller.invoke(f"hello {number}", **call)
    except (Refused, ConfigurationError, ValidationError) as refusal:  # the last is ChatOpenAI's own
        return refusal
    return None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.one_of(free, dear), st.sampled_from(PLACES)), min_size=1, max_size=3), st.booleans())
def test_no_placement_of_any_field_costs_more_than_the_budget(
    bench: Bench, placed: list[tuple[Named, str]], streams: bool
) -> None:
    """The bill for the bodies that the seller received is at most the budget, and no more than what was charged."""
    bench.provider.default = Reply(text=LONG)
    billed = bench.provider.billed
    values = {**{name: [value] for name, value in FREE.items()}, **DEAR}
    refusal = ask(bench, [(name, values[name][number], where) for (name, number), where in placed], streams=streams)
    note(f"{refusal}; sent {[{k: v for k, v in b.items() if k != 'messages'} for b in bench.provider.requests[-3:]]}")
    assert bench.provider.billed - billed <= BUDGET
    assert bench.provider.billed <= sum(row.spent.nanos for row in bench.ledger.costs("session"))
    assert not bench.ledger.incidents()


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", sorted(FREE))
def test_every_field_that_costs_nothing_is_sent(bench: Bench, name: str, where: str) -> None:
    """Wherever it is put."""
    assert ask(bench, [(name, FREE[name], where)], streams=False) is None
    assert [body.get(name) for body in bench.provider.requests] == [FREE[name]] * 3


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", ["top_logprobs", "never_heard_of"])
def test_an_unknown_field_is_refused_by_name_until_it_is_allowed(bench: Bench, name: str, where: str) -> None:
    """The refusal says how to allow it; allowed, it is sent."""
    value = DEAR[name][0]
    if name == "never_heard_of" and where in {"call", "bind", "constructor", "model_kwargs"}:
        where = "extra_body"  # the SDK takes no field that it does not know
    refusal = ask(bench, [(name, value, where)], streams=False)
    assert f"meter(model, allow={{'{name}'}})" in str(refusal)
    assert not bench.provider.requests
    assert ask(bench, [(name, value, where)], streams=False, allow={name}) is None
    assert {body[name] for body in bench.provider.requests} == {value}


@pytest.mark.parametrize("name", ["previous_response_id", "best_of", "prediction", "extra_body"])
def test_what_no_hold_can_cover_cannot_be_allowed(bench: Bench, name: str) -> None:
    """Allowing it is a configuration error, also before anyone uses it."""
    refusal = ask(bench, [], streams=False, allow={name})
    assert isinstance(refusal, ConfigurationError)
    assert f"{name!r} cannot be allowed" in str(refusal)


def test_a_conversation_that_the_provider_keeps_is_refused(bench: Bench) -> None:
    """Its tokens are counted by nobody here."""
    with pytest.raises(ConfigurationError, match="use_previous_response_id goes on with what the provider keeps"):
        bench.model(use_responses_api=True, use_previous_response_id=True)


def test_several_answers_of_a_dear_tier_are_priced(bench: Bench) -> None:
    """Put where the gateway reads them, they are sent, and the hold covers them."""
    assert ask(bench, [("n", 2, "call"), ("service_tier", "priority", "constructor")], streams=False) is None
    assert [(body["n"], body["service_tier"], body["model"]) for body in bench.provider.requests] == [
        (2, "priority", MODEL)
    ] * 3
    assert 0 < bench.provider.billed <= sum(row.spent.nanos for row in bench.ledger.costs("session"))
