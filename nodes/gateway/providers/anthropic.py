"""Anthropic as a provider: the counts that it billed, and what it adds to a call."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from pydantic import BaseModel

from bursar.nodes.gateway.providers.anthropic_marks import (
    CACHE_CONTROL,
    EPHEMERAL,
    least_cached_tokens,
    marks_cache,
    with_static_mark,
)
from bursar.nodes.gateway.providers.base import BilledUsage, CacheAdvice, ProviderClient
from bursar.nodes.gateway.providers.generic import (
    GenericProvider,
    ancestry,
    class_settings,
    count,
    mapping,
    own_fields,
    with_method,
)

TOOL_PROMPT_TOKENS = 1_024  # Anthropic's documentation lists 264 to 804
CLIENT_SETTINGS = frozenset(
    {"anthropic_api_key", "anthropic_api_url", "anthropic_proxy", "default_headers", "default_request_timeout"}
    | {"max_retries", "streaming", "stream_usage"}
)
MAKE_CHUNK = "_make_message_chunk_from_anthropic_event"  # of `ChatAnthropic`
REPORTS = "usage_reports"  # in `response_metadata` of a streamed answer: each usage that Anthropic sent for it


class AnthropicProvider(GenericProvider):
    """The provider of chat models that name Anthropic as their provider in traces (`ls_provider`)."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model names Anthropic as its provider in traces."""
        return model._get_ls_params().get("ls_provider") == "anthropic"  # pyright: ignore[reportPrivateUsage]

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """Return the client of `GenericProvider.prepare`. The chunks of its model keep the counts that Anthropic sent.

        `usage_metadata` alone does not do: it leaves out the cache writes that are in no part of the breakdown.
        """
        client = super().prepare(model)
        if not hasattr(client.model, MAKE_CHUNK):
            return client  # the counts of its streams are not known, so `usage` trusts only what leaves nothing out
        return replace(client, model=with_method(client.model, MAKE_CHUNK, _keeping_reports))

    def own_fields(self, model: BaseChatModel) -> Mapping[str, object]:
        """Return the fields that the model adds to every request: `ChatAnthropic` sends most of its settings."""
        return {**own_fields(model), **class_settings(model, "ChatAnthropic", CLIENT_SETTINGS)}

    def usage(self, result: ChatResult, /) -> BilledUsage | None:
        """Return the usage that Anthropic billed, by the counts that it sent.

        Cache writes that are in no part of the breakdown count as kept for an hour, which costs the most. Without
        Anthropic's own counts, return None if writes may be missing from the answer's `usage_metadata`.
        """
        message = result.generations[0].message if result.generations else None
        reported = message.usage_metadata if isinstance(message, AIMessage) else None
        if message is None or reported is None:
            return None  # a stream that ended before its last report
        if reports := _reports(message, result):
            return _billed(reports)
        details = mapping(reported.get("input_token_details"))
        broken_down = any(count(details.get(name)) for name in details if name.startswith("ephemeral_"))
        return None if broken_down else super().usage(result)

    def use_cache(
        self, client: ProviderClient, messages: list[BaseMessage], options: dict[str, object], advice: CacheAdvice, /
    ) -> tuple[list[BaseMessage], dict[str, object]]:
        """Return messages and options with `cache_control` where a write pays: two places of Anthropic's four at most.

        One is the end of the static part: the last block of the system messages, or the last tool. The other is the end
        of the prompt, which Anthropic itself marks for a `cache_control` of the whole request. A part that is certainly
        shorter than the model's minimum is not marked. If the caller has set a `cache_control` anywhere, none is added.
        The messages given are not changed.
        """
        if "ChatAnthropic" not in ancestry(client.model) or marks_cache(client.model, messages, options):
            return messages, options
        least = least_cached_tokens(client.name)
        if advice.static_pays and advice.static_size >= least:
            messages, options = with_static_mark(messages, options)
        if advice.whole_pays and advice.size >= least:
            options = {**options, CACHE_CONTROL: dict(EPHEMERAL)}
        return messages, options

    def hidden_input_tokens(self, tools: int, /) -> int:
        """Return a bound of the tokens of the prompt by which Anthropic explains tools to a model; 0 without tools."""
        return TOOL_PROMPT_TOKENS if tools else 0


def _keeping_reports(make_chunk: Callable[..., object]) -> Callable[..., object]:
    """Return `make_chunk`, so that its chunks have in their metadata the usage of the event that they are made of."""

    def make(event: object, **options: object) -> object:
        made = cast("tuple[object, ...]", make_chunk(event, **options))
        usage = getattr(event, "usage", getattr(getattr(event, "message", None), "usage", None))
        for chunk in made:
            if isinstance(chunk, AIMessage) and isinstance(usage, BaseModel):
                known = cast("dict[str, object]", chunk.response_metadata)  # pyright: ignore[reportUnknownMemberType]
                known[REPORTS] = [usage.model_dump(exclude_none=True)]  # LangChain joins the lists of a stream's chunks
        return made

    return make


def _reports(message: BaseMessage, result: ChatResult) -> list[Mapping[str, object]]:
    """Return the counts that Anthropic sent: once with a whole answer, several times in a stream."""
    known = cast("Mapping[str, object]", message.response_metadata)  # pyright: ignore[reportUnknownMemberType]
    streamed = known.get(REPORTS)
    whole = mapping(result.llm_output).get("usage")
    reports = cast("list[object]", streamed) if isinstance(streamed, list) else [whole]
    return [mapping(report) for report in reports if report]


def _billed(reports: list[Mapping[str, object]]) -> BilledUsage | None:
    """Return the usage by these reports. Each count is the greatest reported, since a later report covers all so far.

    Anthropic's `input_tokens` leave out what was read from the cache and what was written to it.
    """

    def most(name: str, part_of: str = "") -> int:
        return max(count((mapping(one.get(part_of)) if part_of else one).get(name)) for one in reports)

    read, output = most("cache_read_input_tokens"), most("output_tokens")
    short = most("ephemeral_5m_input_tokens", part_of="cache_creation")
    long = most("ephemeral_1h_input_tokens", part_of="cache_creation")
    written = max(most("cache_creation_input_tokens"), short + long)
    inputs = most("input_tokens") + read + written
    if inputs == 0 or output == 0:
        return None  # Anthropic did not count
    return BilledUsage(
        input_tokens=inputs,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=most("thinking_tokens", part_of="output_tokens_details"),
        long_cache_write_tokens=written - short,
    )
