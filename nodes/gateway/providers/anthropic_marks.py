"""Anthropic's `cache_control`: where it stands in a call, and where the gateway puts it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, SystemMessage

from bursar.nodes.gateway.providers.fields import HIDING_PLACES

CACHE_CONTROL = "cache_control"
EPHEMERAL: Mapping[str, str] = {"type": "ephemeral"}  # kept for five minutes after the last read
# Anthropic's documentation of prompt caching lists the fewest tokens of a prefix that is cached, by model.
LEAST_TOKENS = 1_024
LEAST_TOKENS_OF: Mapping[str, int] = {
    **dict.fromkeys(("opus-4-5", "opus-4-6", "opus-4-7", "haiku-4-5"), 4_096),
    **dict.fromkeys(("haiku-3", "3-haiku", "3-5-haiku"), 2_048),
}


def least_cached_tokens(model: str) -> int:
    """Return the fewest tokens of a prefix that Anthropic caches for the model of this name."""
    plain = model.lower().replace(".", "-")
    return next((least for name, least in LEAST_TOKENS_OF.items() if name in plain), LEAST_TOKENS)


def marks_cache(model: BaseChatModel, messages: Sequence[BaseMessage], options: Mapping[str, object]) -> bool:
    """Whether the caller has set `cache_control`: in the call, its tools or messages, or in the model's settings."""
    settings = [_mapping(getattr(model, place, None)) for place in HIDING_PLACES]
    blocks = (block for message in messages for block in _items(_content(message)))
    placed: Iterable[Mapping[str, object]] = map(_mapping, (options, *settings, *_items(options.get("tools")), *blocks))
    return any(one.get(CACHE_CONTROL) for one in placed)


def with_static_mark(
    messages: list[BaseMessage], options: dict[str, object]
) -> tuple[list[BaseMessage], dict[str, object]]:
    """Return messages and options with a mark on the last block of what every call of the agent begins with.

    That is the last system message before all others, otherwise the last tool. If there is neither, nothing is marked.
    """
    system = sum(1 for _ in takewhile(lambda message: isinstance(message, SystemMessage), messages))
    if system and (marked := _marked(messages[system - 1])) is not None:
        return [*messages[: system - 1], marked, *messages[system:]], options
    tools = _items(options.get("tools"))
    last = _mapping(tools[-1] if tools else None)
    if system or not last:
        return messages, options
    return messages, {**options, "tools": [*tools[:-1], {**last, CACHE_CONTROL: dict(EPHEMERAL)}]}


def _marked(message: BaseMessage) -> BaseMessage | None:
    """Return a copy of the message whose last block is marked; None if its last block is no text, or is empty."""
    content = _content(message)
    blocks = [content] if isinstance(content, str) else list(content)
    last = blocks[-1] if blocks else ""
    block = {"type": "text", "text": last} if isinstance(last, str) else dict(_mapping(last))
    if block.get("type") != "text" or not block.get("text"):
        return None
    return message.model_copy(update={"content": [*blocks[:-1], {**block, CACHE_CONTROL: dict(EPHEMERAL)}]})


def _content(message: BaseMessage) -> str | list[object]:
    return cast("str | list[object]", message.content)  # pyright: ignore[reportUnknownMemberType]


def _items(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
