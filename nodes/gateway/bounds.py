"""Upper bounds of a call: its input tokens from its bytes, its output tokens from the money that is left.

The input bound rests on one fact: a byte-level tokeniser never makes more tokens than there are UTF-8 bytes. The
request is written as JSON, which is never shorter than the texts, names and schemas in it. The bound is the number of
bytes of that JSON, plus an allowance for what a provider adds out of sight (role marks, the prompt that explains
tools).

A hold covers those bytes and the output cap, at the price of the model, the tier and the number of answers that the
gateway knows. A request field that is not listed may cost more, so it is refused by its name; `meter(model, allow=…)`
allows it. A field that decides what is priced must not hide in `extra_body` or `model_kwargs`, where it would win over
the field that was priced.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic import BaseModel

from bursar.nodes.gateway.prices import PricedModel
from bursar.nodes.gateway.providers.base import Provider
from bursar.nodes.gateway.providers.generic import CAP_OPTIONS
from bursar.state.refusals import Refused

TOKENS_PER_REQUEST = 16  # marks around the conversation and the start of the answer
TOKENS_PER_MESSAGE = 8  # marks around one message: 3 to 4 at OpenAI
TOKENS_PER_TOOL = 32  # what a provider writes around one schema
ORDINARY_OUTPUT_TOKENS = 512
SHARE_OF_WHAT_IS_LEFT = 4

TEXT_BLOCKS = frozenset({"text", "thinking", "reasoning", "redacted_thinking", "tool_use", "tool_call", "refusal"})
NOT_SENT = frozenset({"parsed", "tool_calls"})  # additional_kwargs that repeat other fields of the message

HIDING_PLACES = ("extra_body", "model_kwargs")
UNBOUNDED: Mapping[str, str] = {
    **dict.fromkeys(("audio", "modalities"), "answers in sound have their own prices"),
    "prediction": "rejected tokens are billed as output beyond the cap",
    **dict.fromkeys(
        ("web_search_options", "mcp_servers", "container", "plugins"), "the provider charges its own tools"
    ),
    **dict.fromkeys(
        ("previous_response_id", "conversation", "prompt", "context_management"),
        "the tokens that the provider keeps are not counted here",
    ),
    **dict.fromkeys(("best_of", "models", "route"), "the provider may bill more answers, or another model"),
}
# These decide what is priced: the gateway reads them from the call or the model, and nowhere else.
PRICED = frozenset(
    {"model", "model_name", "n", "service_tier", "messages", "input", "system", "instructions", "tools", "functions"}
    | {"stream", "stream_options", *CAP_OPTIONS}
)
# They add no tokens, or only those of their own bytes, which the input bound counts.
COMMON_FIELDS = frozenset(
    PRICED
    | {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "random_seed",
        "stop",
        "stop_sequences",
        "logprobs",
        "logit_bias",
    }
    | {"presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty"}
    | {"tool_choice", "parallel_tool_calls", "function_call", "strict", "response_format", "format", "text"}
    | {
        "thinking",
        "reasoning",
        "reasoning_effort",
        "reasoning_format",
        "verbosity",
        "effort",
        "output_config",
        "thinking_budget",
        "thinking_level",
    }
    | {"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    | {"prompt_cache_options", "cache_control", "include", "truncation", "safe_prompt", "safety_settings"}
    | {"stream_usage", "timeout", "use_responses_api", "output_version"}  # the client's own, which it does not send
    | {"ls_structured_output_format"}  # LangChain's own, for the trace
)


@dataclass(frozen=True, slots=True)
class WrittenRequest:
    """The hash of a request's JSON, by which the ledger finds its answer again, and a bound of its input tokens."""

    hash: str
    input_tokens: int


def write_request(
    identity: bytes, messages: Sequence[BaseMessage], options: Mapping[str, object], *, provider: Provider
) -> WrittenRequest:
    """Return the hash and the token bound of a request.

    Message ids and response metadata differ from run to run, so neither the hash nor the bound includes them.
    `identity` is the model's own settings as JSON. Raises `Refused` for content whose tokens have no bound: images,
    audio, files, tools that run at the provider, a conversation that the provider keeps.
    """
    _check_tools(options)
    body = json.dumps(
        {"messages": [_message(message) for message in messages], "options": options},
        default=_plain,
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    ).encode("utf-8", "surrogatepass")
    tools = _tool_count(options)
    tokens = (
        len(identity)
        + len(body)
        + TOKENS_PER_REQUEST
        + TOKENS_PER_MESSAGE * len(messages)
        + TOKENS_PER_TOOL * tools
        + provider.hidden_input_tokens(tools)
    )
    return WrittenRequest(sha256(identity + b"\n" + body).hexdigest(), tokens)


def write_identity(settings: Mapping[str, object]) -> bytes:
    """Return a model's own settings as JSON, the same bytes in every process.

    Raises `Refused` for a tool that runs at the provider.
    """
    _check_tools(settings)
    text = json.dumps(settings, default=_plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _check_tools(options: Mapping[str, object]) -> None:
    """Raise `Refused` for a tool that runs at the provider: its use is charged besides the tokens, without a bound."""
    for tool in _items(options.get("tools")):
        kind = _mapping(tool).get("type", "function")
        if kind not in {"function", "custom"}:
            raise Refused(f"tool {kind!r} runs at the provider, and its charge has no bound; use a tool of your own")


def check_fields(fields: Mapping[str, object], allowed: Collection[str], *, cap_option: str) -> None:
    """Raise `Refused`, naming the field, unless every field that has a value may be sent.

    `allowed` names the fields that may be sent; `cap_option`, which caps the output, may be sent too. `fields` are
    those of a call, or the settings of a model that become fields. If `extra_body` or `model_kwargs` is among them, the
    fields inside it are checked: there no field that decides the price or the cap may be sent.
    """
    for name, value in fields.items():
        if name in HIDING_PLACES:
            _check_hidden(name, value, allowed, cap_option)
        elif value is not None and name != cap_option:
            _check(name, value, allowed)


def check_allow(allow: Collection[str]) -> None:
    """Raise `Refused` for a name in `allow` that no hold can cover."""
    for name in sorted(allow):
        if name in UNBOUNDED or name in HIDING_PLACES:
            raise Refused(f"{name!r} cannot be allowed: {UNBOUNDED.get(name, 'allow the fields inside it by name')}")


def _check_hidden(place: str, fields: object, allowed: Collection[str], cap_option: str) -> None:
    for name, value in cast("Mapping[str, object]", fields if isinstance(fields, Mapping) else {}).items():
        if name in HIDING_PLACES:
            _check_hidden(f"{name} in {place}", value, allowed, cap_option)
        elif name in PRICED or name == cap_option:
            raise Refused(f"{name} in {place} would win over what the gateway prices; set it on the model or the call")
        else:
            _check(name, value, allowed)


def _check(name: str, value: object, allowed: Collection[str]) -> None:
    if name in UNBOUNDED and value:
        raise Refused(f"option {name!r} is billed beyond any bound that Bursar knows: {UNBOUNDED[name]}")
    if name not in allowed and name not in UNBOUNDED:
        raise Refused(
            f"option {name!r} is not known to cost nothing more; call without it, or say that it does not: "
            f"meter(model, allow={{{name!r}}})"
        )


def output_cap(
    price: PricedModel,
    *,
    input_tokens: int,
    left: int | None,
    asked: int | None,
    maximum: int,
    minimum: int,
    choices: int = 1,
) -> int | None:
    """Return the output cap, in tokens, of a call that fits `left` nano-dollars; None if less than `minimum` would fit.

    If `left` is None, the money has no limit. If the caller `asked` for a cap, that cap is lowered only as far as the
    money requires. Otherwise the cap is lowered until the call's worst case is at most a quarter of what is left, but
    not below `ORDINARY_OUTPUT_TOKENS`: a model that may write 16,000 tokens must not block the other calls of its
    budget. `choices` is the number of answers that the call asks for at once.
    """
    wanted = maximum if asked is None else min(asked, maximum)
    fitting = wanted if left is None else _within(price, input_tokens, left, choices, wanted)
    if asked is None and left is not None:
        share = _within(price, input_tokens, left // SHARE_OF_WHAT_IS_LEFT, choices, wanted)
        fitting = min(fitting, max(share, ORDINARY_OUTPUT_TOKENS, minimum))
    return fitting if fitting >= min(minimum, wanted) and fitting > 0 else None


def _within(price: PricedModel, input_tokens: int, nanos: int, choices: int, wanted: int) -> int:
    most = price.output_within(input_tokens, nanos)
    return wanted if most is None else min(wanted, most // choices)


def _message(message: BaseMessage) -> dict[str, object]:
    written: dict[str, object] = {"role": _role(message), "content": _content(message)}
    if message.name:
        written["name"] = message.name
    if isinstance(message, AIMessage):
        if message.tool_calls:
            written["tool_calls"] = message.tool_calls
        if message.invalid_tool_calls:
            written["invalid_tool_calls"] = message.invalid_tool_calls
    elif isinstance(message, ToolMessage):
        written["tool_call_id"] = message.tool_call_id
        written["status"] = message.status
    more = {key: value for key, value in _additional(message).items() if key not in NOT_SENT and value is not None}
    if "audio" in more:
        raise Refused("a message holds audio, whose tokens have no bound that Bursar knows; send its text")
    if more:
        written["more"] = more
    return written


def _role(message: BaseMessage) -> str:
    return "ai" if message.type == "AIMessageChunk" else message.type  # a streamed answer has the role of a whole one


def _additional(message: BaseMessage) -> Mapping[str, object]:
    return cast(Mapping[str, object], message.additional_kwargs)  # pyright: ignore[reportUnknownMemberType]


def _content(message: BaseMessage) -> object:
    content = cast(str | list[object], message.content)  # pyright: ignore[reportUnknownMemberType]
    for block in () if isinstance(content, str) else content:
        kind = "text" if isinstance(block, str) else _mapping(block).get("type")
        if kind not in TEXT_BLOCKS:
            raise Refused(f"a message holds {kind!r} content, whose tokens have no bound that Bursar knows; send text")
    return content


def _tool_count(options: Mapping[str, object]) -> int:
    tools = len(_items(options.get("tools"))) + len(_items(options.get("functions")))
    return tools + (1 if options.get("response_format") else 0)


def _items(value: object) -> Sequence[object]:
    return cast(Sequence[object], value) if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> Mapping[str, object]:
    return cast(Mapping[str, object], value) if isinstance(value, Mapping) else {}


def _plain(value: object) -> object:
    """Return a form that JSON can write, for a value of a type that JSON cannot write.

    The form of a model class is its schema in full, because the schema is sent in full.
    """
    if isinstance(value, type) and issubclass(value, BaseModel):
        schema = value.model_json_schema()
        return [schema, schema]  # a provider's strict form of a schema is longer than ours, but not twice as long
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(cast(Mapping[object, object], value))
    if isinstance(value, set | frozenset):
        return sorted(map(repr, cast(frozenset[object], value)))
    return repr(cast(object, value))
