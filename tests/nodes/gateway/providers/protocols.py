"""Sellers on loopback that speak the protocols of Anthropic and of Ollama, and bill what they received."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.provider import NO_CAP, Bill, Handler, Provider, Reply, count_tokens

CLAUDE, LLAMA = "claude-haiku-4-5", "llama3.2"
CLAUDE_TOOL_PROMPT_TOKENS = 497  # what the seller adds to a call with tools
LLAMA_TEMPLATE_TOKENS = 30  # what the seller adds to each call


@dataclass(frozen=True, kw_only=True)
class ClaudeReply(Reply):
    """A reply that also writes to the cache. Of the writes, `told_short` and `told_long` are in the breakdown."""

    short_writes: int = 0
    long_writes: int = 0
    told_short: int | None = None  # None: all of them
    told_long: int | None = None
    breaks_down: bool = True
    starts_with_input: bool = False  # as older servers: the input is only in a stream's first event


@dataclass(frozen=True)
class ClaudeBill(Bill):
    """The tokens that Anthropic bills for a request."""

    short_writes: int = 0
    long_writes: int = 0

    @property
    def nanos(self) -> int:
        """The cost of the tokens, in nano-dollars: 1, 0.10, 1.25, 2 and 5 dollars per million."""
        fresh = self.input_tokens - self.cached_tokens - self.short_writes - self.long_writes
        writes = self.short_writes * 1_250 + self.long_writes * 2_000
        return fresh * 1_000 + self.cached_tokens * 100 + writes + self.output_tokens * 5_000


@dataclass(frozen=True)
class LlamaBill(Bill):
    """The tokens that a seller of Ollama's protocol bills for a request."""

    @property
    def nanos(self) -> int:
        """The cost of the tokens, in nano-dollars: 0.10 and 0.40 dollars per million."""
        return self.input_tokens * 100 + self.output_tokens * 400


class Anthropic(Provider):
    """A seller of `/v1/messages`."""

    def handler(self) -> type[Handler]:
        return _AnthropicHandler

    def cap(self, body: Mapping[str, Any]) -> int:
        return int(body.get("max_tokens") or NO_CAP)

    def bill(self, body: Mapping[str, Any], reply: Reply) -> ClaudeBill:
        hidden = CLAUDE_TOOL_PROMPT_TOKENS if body.get("tools") else 0
        asked = [body["messages"], body.get("system"), body.get("tools"), body.get("output_config")]
        more = reply if isinstance(reply, ClaudeReply) else ClaudeReply()
        return ClaudeBill(
            input_tokens=count_tokens(asked) + hidden,
            output_tokens=len(reply.words(self.cap(body))) + reply.reasoning_tokens + bool(reply.tool),  # its name
            cached_tokens=reply.cached_tokens,
            model=str(body.get("model")),
            short_writes=more.short_writes,
            long_writes=more.long_writes,
        )


class _AnthropicHandler(Handler):
    def whole(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> dict[str, Any]:
        return {**_message(body), "content": [self._block(body, reply)], "usage": _claude_usage(reply, bill)}

    def events(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> Iterator[str]:
        usage = _claude_usage(reply, bill)
        block = self._block(body, reply)
        if reply.tool:
            empty = {**block, "input": dict[str, Any]()}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(reply.arguments)}]
        else:
            empty = {"type": "text", "text": ""}
            words = reply.words(self.provider.cap(body))
            deltas = [{"type": "text_delta", "text": word if i == 0 else f" {word}"} for i, word in enumerate(words)]
        yield _event("message_start", message={**_message(body), "content": [], "usage": {**usage, "output_tokens": 1}})
        yield _event("content_block_start", index=0, content_block=empty)
        for delta in deltas:
            yield _event("content_block_delta", index=0, delta=delta)
        yield _event("content_block_stop", index=0)
        if isinstance(reply, ClaudeReply) and reply.starts_with_input:
            usage = {"output_tokens": usage["output_tokens"]}
        if reply.usage:
            yield _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage)
        yield _event("message_stop")

    def _block(self, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
        if reply.tool:
            return {"type": "tool_use", "id": "toolu_1", "name": reply.tool, "input": dict(reply.arguments)}
        return {"type": "text", "text": " ".join(reply.words(self.provider.cap(body)))}


def _message(body: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
    return {**fixed, "stop_reason": "end_turn", "stop_sequence": None}


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def _claude_usage(reply: Reply, bill: Bill) -> dict[str, Any]:
    more = reply if isinstance(reply, ClaudeReply) else ClaudeReply()
    short = more.short_writes if more.told_short is None else more.told_short
    long = more.long_writes if more.told_long is None else more.told_long
    written = more.short_writes + more.long_writes
    usage: dict[str, Any] = {
        "input_tokens": bill.input_tokens - bill.cached_tokens - written,
        "cache_read_input_tokens": bill.cached_tokens,
        "cache_creation_input_tokens": written,
        "output_tokens": bill.output_tokens,
    }
    if more.breaks_down:
        usage["cache_creation"] = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    return usage


class Ollama(Provider):
    """A seller of `/api/chat`."""

    def handler(self) -> type[Handler]:
        return _OllamaHandler

    def cap(self, body: Mapping[str, Any]) -> int:
        cap = int(body.get("options", {}).get("num_predict", -1))
        return cap if cap >= 0 else NO_CAP

    def bill(self, body: Mapping[str, Any], reply: Reply) -> Bill:
        if "input" in body:
            return super().bill(body, reply)
        return LlamaBill(
            input_tokens=count_tokens([body["messages"], body.get("tools"), body.get("format")])
            + LLAMA_TEMPLATE_TOKENS,
            output_tokens=len(reply.words(self.cap(body))) + reply.reasoning_tokens,
            model=str(body.get("model")),
        )


class _OllamaHandler(Handler):
    stream_type = "application/x-ndjson"

    def _embed(self, body: dict[str, Any], reply: Reply, bill: Bill) -> None:
        self._plain(
            {"model": body["model"], "embeddings": [[float(len(text)), 0.5] for text in body["input"]]}, 200, {}
        )

    def is_streamed(self, body: Mapping[str, Any]) -> bool:
        return body.get("stream") is not False  # the server streams unless it is told not to

    def whole(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> dict[str, Any]:
        words = reply.words(self.provider.cap(body))
        return {**_said(body, " ".join(words), reply), **_done(reply, bill)}

    def events(self, body: Mapping[str, Any], reply: Reply, bill: Bill) -> Iterator[str]:
        words = [] if reply.tool else reply.words(self.provider.cap(body))
        pieces = [_said(body, word if i == 0 else f" {word}", Reply()) for i, word in enumerate(words)]
        if reply.tool:
            pieces.append(_said(body, "", reply))
        for piece in pieces:
            yield json.dumps({**piece, "done": False}) + "\n"
        yield json.dumps({**_said(body, "", Reply()), **_done(reply, bill)}) + "\n"


def _said(body: Mapping[str, Any], text: str, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reply.tool:
        message["tool_calls"] = [{"function": {"name": reply.tool, "arguments": dict(reply.arguments)}}]
    return {"model": body["model"], "created_at": "2026-11-23T09:30:00Z", "message": message}


def _done(reply: Reply, bill: Bill) -> dict[str, Any]:
    ended: dict[str, Any] = {"done": True, "done_reason": "stop", "total_duration": 5_000_000}
    counted = {"prompt_eval_count": bill.input_tokens, "eval_count": bill.output_tokens}
    return {**ended, **counted} if reply.usage else ended
