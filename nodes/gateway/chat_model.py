"""`MeteredChatModel`: a chat model whose every call goes hold → send → settle."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, SupportsIndex, cast
from uuid import UUID

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseRunManager, CallbackManagerForLLMRun
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils.uuid import uuid7
from pydantic import BaseModel, PrivateAttr

from bursar.nodes.gateway.bounds import check_fields, write_request
from bursar.nodes.gateway.chat.call import ChatCall, PricedModelCall
from bursar.nodes.gateway.chat.model_in_threads import ChatModelInThreads
from bursar.nodes.gateway.chat.whole_answers_cache import WholeAnswersCache
from bursar.nodes.gateway.chat_call import chat, chat_stream
from bursar.nodes.gateway.paid_calls.flow import adrive, adrive_stream, drive, drive_stream
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.gateway.prices import STANDARD_TIERS, Price, PricedModel, price_of
from bursar.nodes.gateway.providers.base import Provider, ProviderClient
from bursar.nodes.gateway.providers.generic import (
    USAGE_OPTIONS,
    asked_cap,
    asked_choices,
    asked_tier,
    may_think_unseen,
    thinking_tokens,
)
from bursar.nodes.gateway.rebinding import rebind
from bursar.state.errors import BursarError
from bursar.state.refusals import NoSession, Refused
from bursar.state.rules.growth import GrowthTerms
from bursar.state.text import mended

MARK = {"bursar": "metered"}  # in a run's metadata, for `UnmeteredGuard` and for readers of the trace
NOT_PART_OF_REQUEST = USAGE_OPTIONS | {"stream", "timeout"}  # they change how the answer is read, not the request

_traced: ContextVar[UUID | None] = ContextVar("bursar_traced", default=None)  # the LangChain run of the call


@contextmanager
def _traced_as(run: UUID | None) -> Generator[None]:
    token = _traced.set(run)
    try:
        yield
    finally:
        _traced.reset(token)


@dataclass(frozen=True, slots=True)
class MeteringTerms:
    """What the gateway knows of a metered model: its provider, client, settings, price and output caps in tokens.

    `identity` is the model's own settings as JSON. If `price` is None, genai-prices has the price. `minimum` is the
    smallest output cap with which a call is sent, `maximum` the largest. `allowed` are the names of the request fields
    that may be sent. `cheaper` are the terms of the models that may replace the model. `prompt_cache` is what `meter`
    was given. If there is `growth`, the hold of a stream grows on these terms.
    """

    provider: Provider
    client: ProviderClient
    identity: bytes
    price: Price | None
    minimum: int
    maximum: int
    allowed: frozenset[str]
    cheaper: tuple["MeteringTerms", ...] = ()
    prompt_cache: bool | None = None
    growth: GrowthTerms | None = None

    def priced(self, options: Mapping[str, object], scope: Scope) -> PricedModel:
        """Return the price of the model that `options` names, by default of the metered model.

        Raises `UnknownPrice` if the model has no price, and `Refused` if the price by hand is for another service tier.
        """
        named = options.get("model")
        name = named if isinstance(named, str) else self.client.name
        tier, is_priced_by_hand = asked_tier(self.client, options), self.price is not None and name == self.client.name
        if is_priced_by_hand and tier not in STANDARD_TIERS | {asked_tier(self.client, {})}:
            raise Refused(f"the price by hand is not for service_tier={tier!r}; set the tier on the model itself")
        return price_of(
            name,
            self.client.seller,
            self.price if name == self.client.name else None,  # a price by hand is for one model
            base_url=self.client.base_url,
            service_tier=tier,
            on=scope.clock().date(),
        )


class MeteredChatModel(ChatModelInThreads):
    """A chat model behind the gateway, made by `meter`.

    Before a call is sent, its worst case is held in the ledger; after the call, the hold is settled. A call raises
    `NoSession` outside any session, and `BudgetExceeded` if its worst case does not fit. Traces show the wrapped model.
    """

    streaming: bool = False
    _terms: MeteringTerms = PrivateAttr()

    @classmethod
    def wrap(cls, model: BaseChatModel, terms: MeteringTerms) -> "MeteredChatModel":
        """Return the metered form of `model`.

        The metered form takes over the callbacks, tags and cache of `model`. It calls `model` by methods that use none
        of them, so each callback is called once, each tag appears once, and each answer is cached once.
        """
        own: dict[str, Any] = {name: getattr(model, name) for name in BaseChatModel.model_fields}
        if "streaming" in model.model_fields_set:
            own["streaming"] = getattr(model, "streaming", False)
        own["metadata"] = {**(model.metadata or {}), **MARK}
        metered = cls(**own)
        metered._terms = terms
        return metered

    @property
    def terms(self) -> MeteringTerms:
        """The terms with which the model was metered."""
        return self._terms

    @property
    def model_name(self) -> str:
        """The name of the model behind the gateway."""
        return self._terms.client.name

    @property
    def _inner(self) -> BaseChatModel:
        return self._terms.client.model

    def _call(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: Mapping[str, object],
        run_manager: BaseRunManager | None,
        streamed: bool = False,
    ) -> ChatCall:
        """Return the call, ready to be paid: its key in the ledger, and the models that may answer it, with prices.

        Half characters are replaced, because no provider takes them. Raises `NoSession` outside any session, and
        `Refused` if the call's cost has no bound.
        """
        try:
            call = self._priced_call(messages, stop, options, streamed=streamed)
        except UnicodeEncodeError:
            call = self._priced_call(*mended((messages, stop, options)), streamed=streamed)
        return replace(call, traced=_traced.get() if run_manager is None else run_manager.run_id)

    def _priced_call(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, object], *, streamed: bool
    ) -> ChatCall:
        scope = current_scope()
        if scope is None:
            raise NoSession(
                f"{self.model_name} is metered and was called outside any session; call it in a specialist's handler, "
                "or inside `with standalone(…)`"
            )
        terms = self._terms
        try:
            check_fields(options, terms.allowed, cap_option=terms.client.cap_option)
            key, candidate = _candidate(terms, messages, stop, options, scope)
            unnamed = {name: value for name, value in options.items() if name != "model"}
            cheaper = [_candidate(other, messages, stop, unnamed, scope)[1] for other in terms.cheaper]
        except Refused as refusal:
            raise scope.latch(refusal) from None
        candidates = (candidate, *cheaper)
        if not streamed:  # only a stream can be hung up
            candidates = tuple(replace(one, growth=None) if one.growth else one for one in candidates)
        return ChatCall.of(scope, key, candidates, messages, stop)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return drive(chat(self._call(messages, stop, kwargs, run_manager)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await adrive(chat(self._call(messages, stop, kwargs, run_manager)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        return drive_stream(chat_stream(self._call(messages, stop, kwargs, run_manager, streamed=True)))

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        return adrive_stream(chat_stream(self._call(messages, stop, kwargs, run_manager, streamed=True)))

    # LangChain does not say in which of its runs it streams. So a stream gets the id of its run here.

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - the name of the base class
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        given: RunnableConfig = {"run_id": uuid7(), **(config or {})}
        steps = cast("Generator[AIMessageChunk]", super().stream(input, given, stop=stop, **kwargs))
        with closing(steps):
            with _traced_as(given.get("run_id")), self._traced_in_thread():
                first = next(steps, None)
            if first is not None:
                yield first
                yield from steps

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - the name of the base class
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        given: RunnableConfig = {"run_id": uuid7(), **(config or {})}
        steps = cast("AsyncGenerator[AIMessageChunk]", super().astream(input, given, stop=stop, **kwargs))
        async with aclosing(steps):
            with _traced_as(given.get("run_id")), self._traced_in_thread():
                first = await anext(steps, None)
            if first is not None:
                yield first
                async for chunk in steps:
                    yield chunk

    # LangChain asks its cache around these methods. An answer that this session's budget cut short is not for others.

    def _generate_with_cache(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        careful, manager = self._with_careful_cache(), kwargs.get("run_manager")
        with _traced_as(None if manager is None else manager.run_id):
            return super(MeteredChatModel, careful)._generate_with_cache(messages, *args, **kwargs)

    async def _agenerate_with_cache(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        careful, manager = self._with_careful_cache(), kwargs.get("run_manager")
        with _traced_as(None if manager is None else manager.run_id):
            return await super(MeteredChatModel, careful)._agenerate_with_cache(messages, *args, **kwargs)

    def _with_careful_cache(self) -> "MeteredChatModel":
        """Return this model. If it uses a cache, return a copy whose cache stores no answer that a budget cut short."""
        cache = self.cache if isinstance(self.cache, BaseCache) else get_llm_cache()
        if cache is None or self.cache is False:
            return self
        copy = self.model_copy(update={"cache": WholeAnswersCache(cache)})
        copy._terms = self._terms
        return copy

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a Runnable that calls this model with `tools`, in the form in which the wrapped model sends tools.

        So every call still goes through the gateway.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return rebind(self._inner.bind_tools(tools, **kwargs), self._inner, self)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return the chain that the wrapped model builds for this schema, with this model in the wrapped model's place.

        So every call of the chain still goes through the gateway.
        """
        structured = self._inner.with_structured_output(schema, include_raw=include_raw, **kwargs)
        return rebind(structured, self._inner, self)

    # LangChain asks these methods whether to stream: the answer is yes if the inner model streams.

    def _streaming_disabled(self, **kwargs: Any) -> bool:
        return super()._streaming_disabled(**kwargs) or not self._can_stream(async_api=True)

    def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        can = self._can_stream(async_api=async_api)
        return can and super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    def _should_use_protocol_streaming(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        can = self._can_stream(async_api=async_api)
        return can and super()._should_use_protocol_streaming(async_api=async_api, run_manager=run_manager, **kwargs)

    def _can_stream(self, *, async_api: bool) -> bool:
        inner = type(self._inner)
        plain = inner._stream is not BaseChatModel._stream
        return plain or (async_api and inner._astream is not BaseChatModel._astream)

    # Traces, caches and token counters ask these methods: the inner model answers.

    @property
    def _llm_type(self) -> str:
        return self._inner._llm_type

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self._inner._identifying_params

    @cached_property
    def _serialized(self) -> dict[str, Any]:
        return self._inner._serialized

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return self._inner._get_invocation_params(stop=stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return self._inner._get_ls_params(stop=stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return self._inner._get_llm_string(stop=stop, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        return self._inner.get_token_ids(text)

    # A wrapped client holds credentials: neither a text nor a pickle of the model may show them.

    def __repr__(self) -> str:
        return f"MeteredChatModel({self.model_name})"

    __str__ = __repr__

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise BursarError("a metered model holds credentials and is not pickled; make it where it is used")


def _candidate(
    terms: MeteringTerms,
    messages: list[BaseMessage],
    stop: list[str] | None,
    options: Mapping[str, object],
    scope: Scope,
) -> tuple[str, PricedModelCall]:
    """Return the hash of a request, and the model of `terms` as a candidate to answer that request.

    The request is `messages`, `stop` and `options` with the settings of that model.
    """
    client = terms.client
    part = {key: value for key, value in options.items() if key not in NOT_PART_OF_REQUEST}
    request = write_request(terms.identity, messages, {**part, "stop": stop} if stop else part, provider=terms.provider)
    return request.hash, PricedModelCall(
        provider=terms.provider,
        client=client,
        price=terms.priced(options, scope),
        options=options,
        input_tokens=request.input_tokens,
        asked=asked_cap(client, options, maximum=terms.maximum),
        choices=asked_choices(client, options),
        maximum=terms.maximum,
        minimum=max(terms.minimum, thinking_tokens(client, options) + 1),
        written=request.messages,
        prompt_cache=terms.prompt_cache,
        growth=None if may_think_unseen(client, options) else terms.growth,  # thoughts may be billed unseen
    )
