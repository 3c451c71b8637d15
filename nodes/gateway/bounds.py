"""What may be sent, and an upper bound of its input tokens.

The bound rests on one fact: a byte-level tokeniser never makes more tokens than there are UTF-8 bytes. The
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

from bursar.nodes.gateway.providers.base import Provider
from bursar.nodes.gateway.providers.fields import HIDING_PLACES, PRICED, UNBOUNDED
from bursar.state.refusals import Refused

TOKENS_PER_REQUEST = 16  # marks around the conversation and the start of the answer
TOKENS_PER_MESSAGE = 8  # marks around one message: 3 to 4 at OpenAI
TOKENS_PER_TOOL = 32  # what a provider writes around one schema

TEXT_BLOCKS = frozenset({"text", "thinking", "reasoning", "redacted_thinking", "tool_use", "tool_call", "refusal"})


@dataclass(frozen=True, slots=True)
class WrittenRequest:
    """The hash of a request's JSON, by which the ledger finds its answer again, and a bound of its input tokens.

    `messages` are its messages as JSON.
    """

    hash: str
    input_tokens: int
    messages: tuple[str, ...]


def write_request(
    identity: bytes, messages: Sequence[BaseMessage], options: Mapping[str, object], *, provider: Provider
) -> WrittenRequest:
    """Return the hash and the token bound of a request.

    Message ids and response metadata differ from run to run, so neither the hash nor the bound includes them.
    `identity` is the model's own settings as JSON. Raises `Refused` for content whose tokens have no bound: images,
    audio, files, tools that run at the provider, a conversation that the provider keeps. Raises `UnicodeEncodeError`
    for half a character.
    """
    _check_tools(options)
    # With spaces, as clients write the arguments of tool calls: each may be a token.
    written = tuple(
        json.dumps(_message(message), default=_plain, ensure_ascii=False, sort_keys=True) for message in messages
    )
    asked = json.dumps(options, default=_option, ensure_ascii=False, sort_keys=True)
    body = f'{{"messages": [{", ".join(written)}], "options": {asked}}}'.encode()
    tools = _tool_count(options)
    tokens = (
        len(identity)
        + len(body)
        + TOKENS_PER_REQUEST
        + TOKENS_PER_MESSAGE * len(messages)
        + TOKENS_PER_TOOL * tools
        + provider.hidden_input_tokens(tools)
    )
    return WrittenRequest(sha256(identity + b"\n" + body).hexdigest(), tokens, written)


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
        kind = _mapping(tool.model_dump() if isinstance(tool, BaseModel) else tool).get("type", "function")
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
    if name in UNBOUNDED and value is not None:
        raise Refused(f"option {name!r} is billed beyond any bound that Bursar knows: {UNBOUNDED[name]}")
    if name not in allowed and name not in UNBOUNDED:
        raise Refused(
            f"option {name!r} is not known to cost nothing more; call without it, or say that it does not: "
            f"meter(model, allow={{{name!r}}})"
        )


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
    more = {key: value for key, value in _additional(message).items() if key != "parsed" and value is not None}
    if "tool_calls" in written or "invalid_tool_calls" in written:
        more.pop("tool_calls", None)  # a client sends the message's own in their place
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


def _option(value: object) -> object:
    """Return a form that JSON can write, for a value in the options of a call.

    Raises `Refused` for a value that may be longer than it looks, such as a generator, whose items nobody has seen.
    """
    if isinstance(value, type | BaseModel | Mapping | set | frozenset):
        return _plain(cast("object", value))
    raise Refused(f"an option holds a {type(value).__name__}, whose size is not known; give it as a list, dict or text")


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
