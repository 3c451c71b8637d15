"""What OpenTelemetry's spans say of calls, refusals and errors: names and attributes, by the conventions.

The names are those of the newest conventions for generative AI. No convention has money, so ours begin with `bursar.`.
An amount is a double in US dollars, made here from an exact one.
"""

import traceback
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.errors import GraphBubbleUp
from opentelemetry.trace import SpanKind

from bursar.nodes.isolation.captured import capture_call
from bursar.nodes.observers.base import CallContext, CallEnd, RunContext
from bursar.state.masking import MOST_CHARACTERS, mask_secrets
from bursar.state.money import USD
from bursar.state.refusals import BreakerOpen, BudgetExceeded, Paused, Refused
from bursar.state.rules.pricing import Usage

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = dict[str, AttributeValue]

MODELS = ("chat", "embeddings")  # the kinds of calls that a model answers
OTHER = "_OTHER"  # the conventions' word for a value that is not known
PORTS = {"https": 443, "http": 80}
# The conventions' names of providers that LangChain or genai-prices names otherwise.
PROVIDERS = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "x-ai": "x_ai",
    "xai": "x_ai",
}


def dollars(amount: USD) -> float:
    """Return the amount in US dollars as a double: attributes have no exact numbers."""
    return float(amount.dollars)


def error_type(error: BaseException) -> str:
    """Return the name of the error's class."""
    return type(error).__name__


def is_pause(error: BaseException) -> bool:
    """Whether the error only stops a graph for a while, as an interrupt that asks a person does."""
    return isinstance(error, GraphBubbleUp) and not isinstance(error, Refused)


def operation(call: CallContext, end: CallEnd) -> str:
    """Return the conventions' name of what was done. An answer from the ledger is fetched, whatever gave it first."""
    if end.state == "replayed":
        return "fetch_response"
    return call.kind if call.kind in MODELS else "execute_tool"


def call_name(call: CallContext, end: CallEnd) -> str:
    """Return the name of the call's span."""
    return f"{operation(call, end)} {call.model}"


def call_kind(call: CallContext) -> SpanKind:
    """Return the kind of the call's span: a model is asked as a server."""
    return SpanKind.CLIENT if call.kind in MODELS else SpanKind.INTERNAL


def call_error(end: CallEnd) -> str | None:
    """Return the type of the error with which the call ended, None if it ended well."""
    if end.error is not None:
        return error_type(end.error)
    return end.state if end.state in {"unknown", "void"} else None


def provider_name(call: CallContext) -> str:
    """Return the conventions' name of the provider."""
    return PROVIDERS.get(call.provider, call.provider) or OTHER


def server_of(call: CallContext) -> Attributes:
    """Return host and port of the server that is asked, nothing if that is not known."""
    host = capture_call(urlsplit, call.server).value
    if host is None or not host.hostname:
        return {}
    port = capture_call(getattr, host, "port").value or PORTS.get(host.scheme)
    return {"server.address": host.hostname, **({} if port is None else {"server.port": port})}


def call_attributes(run: RunContext, call: CallContext, end: CallEnd) -> Attributes:
    """Return the attributes of the span of a call that was not refused."""
    attributes: Attributes = {
        "gen_ai.operation.name": operation(call, end),
        "gen_ai.conversation.id": run.session_id,
        "bursar.request_id": run.request_id,
        "bursar.tenant": run.tenant,
        "bursar.agent": call.agent,
        "bursar.call_id": call.call_id,
        "bursar.state": end.state,
        "bursar.cost_usd": dollars(end.cost),
    }
    if end.state == "replayed":
        attributes["bursar.replayed"] = True
    else:
        attributes |= {"bursar.held_usd": dollars(call.held), "bursar.attempt": call.attempt}
    if end.cache_saved:
        attributes["bursar.cache_saved_usd"] = dollars(end.cache_saved)
    if call.instead_of:
        attributes["bursar.instead_of"] = call.instead_of
    if call.kind in MODELS:
        return attributes | _model_attributes(call, end)
    return attributes | {"gen_ai.tool.name": call.model, "gen_ai.tool.type": "function"}


def refusal_attributes(call: CallContext, end: CallEnd) -> Attributes:
    """Return the attributes of the event that a call was refused: the account, what was needed, and what was left."""
    error = end.error
    attributes: Attributes = {
        "bursar.account": account_of(error),
        "bursar.call": call.model,
        "error.type": OTHER if error is None else error_type(error),
        "bursar.reason": mask_secrets(end.reason or _text(error)),
    }
    if isinstance(error, BudgetExceeded) and error.left is not None:
        attributes |= {
            "bursar.needs_usd": dollars(USD.from_nanos(error.needs)),
            "bursar.left_usd": dollars(USD.from_nanos(error.left)),
        }
    return attributes


def account_of(error: BaseException | None) -> str:
    """Return the account, the breaker or the pause that refused a call; "run" if it was the run itself."""
    if isinstance(error, BudgetExceeded | Paused):
        return error.scope
    return error.breaker if isinstance(error, BreakerOpen) else "run"


def usage_attributes(usage: Usage | None) -> dict[str, int]:
    """Return the tokens that the call used, by the names of their attributes; none if the provider reported none."""
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        return {}
    parts = {
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_write.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        **{name: tokens for name, tokens in parts.items() if tokens},
    }


def exception_attributes(error: BaseException) -> Attributes:
    """Return type, message and stack trace of the error, with known shapes of secrets masked.

    Of a long trace, the last lines are kept: there it was raised.
    """
    trace = "".join(traceback.format_exception(error))
    if len(trace) > MOST_CHARACTERS:
        trace = trace[-MOST_CHARACTERS:].partition("\n")[2]  # the rest of a cut line might be a secret without its name
    return {
        "exception.type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        "exception.message": mask_secrets(_text(error)),
        "exception.stacktrace": mask_secrets(trace),
    }


def _text(error: BaseException | None) -> str:
    return "" if error is None else capture_call(str, error).value or ""


def _model_attributes(call: CallContext, end: CallEnd) -> Attributes:
    attributes: Attributes = {
        "gen_ai.provider.name": provider_name(call),
        "gen_ai.request.model": call.model,
        **server_of(call),
    }
    if call.cap:
        attributes["gen_ai.request.max_tokens"] = call.cap
    if isinstance(end.answer, ChatResult):
        attributes |= _answer_attributes(end.answer)
    return attributes if end.state == "replayed" else attributes | usage_attributes(end.usage)


def response_model(answer: object) -> str:
    """Return the name of the model that gave the answer, as it says itself; "" if it does not say."""
    if not isinstance(answer, ChatResult):
        return ""
    said = _said(answer)
    found = (one.get("model_name") or one.get("model") for one in said)
    return next((name for name in found if isinstance(name, str)), "")


def _answer_attributes(answer: ChatResult) -> Attributes:
    attributes: Attributes = {}
    said = _said(answer)
    if model := response_model(answer):
        attributes["gen_ai.response.model"] = model
    if name := next((one["id"] for one in said if isinstance(one.get("id"), str)), ""):
        attributes["gen_ai.response.id"] = cast("str", name)
    reasons = tuple(str(one.get("finish_reason") or one.get("stop_reason") or "") for one in said)
    if any(reasons):
        attributes["gen_ai.response.finish_reasons"] = reasons
    return attributes


def _said(answer: ChatResult) -> list[Mapping[str, object]]:
    """Return for each generation what the provider said of it beside the text."""
    of_all = cast("Mapping[str, object]", answer.llm_output or {})
    return [{**of_all, **(one.generation_info or {}), **_metadata(one)} for one in answer.generations]


def _metadata(generation: ChatGeneration) -> Mapping[str, object]:
    return cast("Mapping[str, object]", generation.message.response_metadata)  # pyright: ignore[reportUnknownMemberType]
