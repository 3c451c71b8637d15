"""`MeteredEmbeddings`: an embedding model whose every request goes hold → send → settle."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NoReturn, Protocol, SupportsIndex, cast

from langchain_core.embeddings import Embeddings
from pydantic import BaseModel

from bursar.nodes.gateway.paid_calls.admission import (
    AdmissionRequest,
    GrantedCall,
    seconds_left,
)
from bursar.nodes.gateway.paid_calls.flow import Flow, Invoke, adrive, drive
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.gateway.prices import Price, embedding_price_of
from bursar.nodes.gateway.providers.base import Failure, model_breaker
from bursar.nodes.gateway.providers.failures import failure_of
from bursar.nodes.gateway.providers.generic import without_retries
from bursar.nodes.gateway.send_with_retries import PaidCall, purchase, send_once
from bursar.nodes.observers.base import CallContext
from bursar.state.errors import BursarError, ConfigurationError
from bursar.state.refusals import NoSession
from bursar.state.rules.calls import fixed_offer
from bursar.state.rules.pricing import Bill, PricedModel, Usage

TOKENS_PER_TEXT = 8  # marks around one text; the known models add 0 to 2
NAMES = ("model", "model_name", "model_id")
# The settings in the key of an answer in the ledger. Credentials and transport do not change the answer.
SETTINGS = ("model", "model_name", "model_id", "deployment", "dimensions", "model_kwargs", "encode_kwargs")

Vectors = list[list[float]]


class _Endpoint(Protocol):
    """The part of an SDK's client that makes embeddings. Its signature is that of openai's client."""

    def create(self, **options: Any) -> Any: ...


@dataclass(slots=True)
class _Counting:
    """A wrapper of an SDK's endpoint that notes the tokens billed by each answer. Each sending has its own wrapper."""

    endpoint: _Endpoint
    counted: list[int | None] = field(default_factory=list[int | None])

    def create(self, **options: Any) -> Any:
        """Send the request through the endpoint, note the tokens that the answer reports, and return the answer.

        If the endpoint is async, return a coroutine that does this.
        """
        made = self.endpoint.create(**options)
        if hasattr(made, "__await__"):
            return self._noted(made)
        self.counted.append(_tokens_of(made))
        return made

    async def _noted(self, coming: Any) -> Any:
        made = await coming
        self.counted.append(_tokens_of(made))
        return made

    @property
    def tokens(self) -> int | None:
        """The sum of the tokens of all answers; None if an answer did not report its tokens, or if no answer came."""
        said = [count for count in self.counted if count is not None]
        return sum(said) if said and len(said) == len(self.counted) else None


class MeteredEmbeddings(Embeddings):
    """An embedding model behind the gateway, made by `meter`.

    Texts are sent in the model's own batches. The hold of a batch pays for one token per byte of its texts, and a few
    more per text. The hold is settled with the tokens that the provider reports (OpenAI's clients do). If the provider
    reports none, the batch stays charged at its hold. The ledger keeps the vectors, so that a repeated run does not pay
    again. A call raises `NoSession` outside any session, and `BudgetExceeded` if the hold of a batch does not fit
    the budget.
    """

    def __init__(self, model: Embeddings, price: Price | None, name: str) -> None:
        self.model_name = name
        self._model = model
        self._price = price
        self._settings = {key: _setting(model, key) for key in SETTINGS} | {"_class": type(model).__name__}

    def embed_documents(self, texts: list[str]) -> Vectors:
        """Return one vector for each text."""
        scope, batches = self._scope(), self._batches(texts)
        return [vector for batch in batches for vector in drive(purchase(self._batch(scope, batch, query=False)))]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return drive(purchase(self._batch(self._scope(), [text], query=True)))[0]

    async def aembed_documents(self, texts: list[str]) -> Vectors:
        """Return one vector for each text. The async form of `embed_documents`."""
        scope, vectors = self._scope(), list[list[float]]()
        for batch in self._batches(texts):
            vectors += await adrive(purchase(self._batch(scope, batch, query=False)))
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of a question. The async form of `embed_query`."""
        return (await adrive(purchase(self._batch(self._scope(), [text], query=True))))[0]

    def _scope(self) -> Scope:
        scope = current_scope()
        if scope is None:
            raise NoSession(
                f"{self.model_name} is metered and was called outside any session; call it in a specialist's handler"
            )
        return scope

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        size = _setting(self._model, "chunk_size")
        step = size if isinstance(size, int) and size > 0 else max(len(texts), 1)
        for start in range(0, len(texts), step):
            yield texts[start : start + step]

    def _batch(self, scope: Scope, texts: list[str], *, query: bool) -> "_Batch":
        priced = embedding_price_of(
            self.model_name,
            _provider(self._model),
            self._price,
            base_url=_base_url(self._model),
            on=scope.clock().date(),
        )
        most = sum(len(text.encode("utf-8", "surrogatepass")) + TOKENS_PER_TEXT for text in texts)
        key = self._key(texts, query=query)
        breaker = model_breaker(self.model_name, _provider(self._model), _base_url(self._model))
        offer = fixed_offer(priced.name, priced.version, priced.worst_case(most, 0), breaker)
        claim = AdmissionRequest(scope, key, scope.next_occurrence(key), (offer,))
        seller, server = _provider(self._model) or "", _base_url(self._model) or ""
        return _Batch(claim, self._model, priced, texts, query, seller, server)

    def _key(self, texts: list[str], *, query: bool) -> str:
        body = json.dumps([self._settings, query, texts], default=repr, sort_keys=True, ensure_ascii=False)
        return sha256(b"embeddings\n" + body.encode("utf-8", "surrogatepass")).hexdigest()

    # A wrapped client holds credentials: neither a text nor a pickle of the model may show them.

    def __repr__(self) -> str:
        return f"MeteredEmbeddings({self.model_name})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise BursarError("a metered model holds credentials and is not pickled; make it where it is used")


@dataclass(slots=True)
class _Batch(PaidCall[Vectors]):
    """The paid call that embeds one batch of texts or, if `is_query`, one question.

    If the SDK has an endpoint that can be wrapped, each sending wraps the endpoint anew to count the tokens, and adds
    the wrapper to `counting`.
    """

    model: Embeddings
    priced: PricedModel
    texts: list[str]
    is_query: bool
    provider: str = ""
    server: str = ""
    counting: list[_Counting] = field(default_factory=list[_Counting])
    kind = "embeddings"

    def described(self, granted: GrantedCall | None, attempt: int) -> CallContext:
        """Return what observers are told of the batch, with the provider of its model."""
        told = cast("PaidCall[Any]", super(_Batch, self)).described(granted, attempt)
        return replace(told, provider=self.provider, server=self.server)

    def send(self, granted: GrantedCall) -> Flow[Vectors]:
        """Send the batch once, and return one vector for each text, in order.

        The model's SDK may split the batch into several requests.
        """
        return send_once(Invoke(self._sync, self._asynchronous))

    def bill(self, granted: GrantedCall, result: Vectors) -> Bill:
        tokens = self.counting[-1].tokens if self.counting else None
        if tokens is None:
            return Bill(None)
        usage = Usage(input_tokens=tokens)
        return Bill(self.priced.cost(usage), usage)

    def failure(self, granted: GrantedCall, error: BaseException) -> Failure:
        scope = self.claim.scope
        answered = bool(self.counting and self.counting[-1].counted)
        return failure_of(error, answered=answered, now=scope.clock(), seconds_left=seconds_left(scope))

    def write(self, result: Vectors) -> bytes | None:
        return _write(result)

    def read(self, answer: bytes) -> Vectors:
        return _read(answer)

    def _sync(self) -> Vectors:
        model = _counted(self.model, "client", self.counting)
        return [model.embed_query(self.texts[0])] if self.is_query else model.embed_documents(self.texts)

    async def _asynchronous(self) -> Vectors:
        model = _counted(self.model, "async_client", self.counting)
        return [await model.aembed_query(self.texts[0])] if self.is_query else await model.aembed_documents(self.texts)


def meter_embeddings(model: Embeddings, price: Price | None) -> MeteredEmbeddings:
    """Return the embedding model behind the gateway. A model that is metered already is returned as it is.

    Raises `UnknownPrice` if the model has no price, and `ConfigurationError` if none of its attributes `model`,
    `model_name` and `model_id` has the model's name.
    """
    if isinstance(model, MeteredEmbeddings):
        return model
    named = [name for key in NAMES if isinstance(name := _setting(model, key), str) and name]
    if not named:
        raise ConfigurationError(f"{type(model).__name__} does not say which model it is, so it has no price")
    embedding_price_of(named[0], _provider(model), price, base_url=_base_url(model))
    once = without_retries(model) if isinstance(model, BaseModel) else model
    return MeteredEmbeddings(once, price, named[0])


def _counted(model: Embeddings, place: str, counting: list[_Counting]) -> Embeddings:
    """Return a copy of the model that counts the tokens of its requests.

    `place` is the attribute that holds the endpoint of the model's SDK. In the copy it holds a wrapper of the endpoint,
    which is added to `counting`. If the model has no such endpoint, return the model itself.
    """
    endpoint = _setting(model, place)
    if not isinstance(model, BaseModel) or not hasattr(endpoint, "create"):
        return model
    counting.append(_Counting(cast(_Endpoint, endpoint)))
    return cast(Embeddings, model.model_copy(update={place: counting[-1]}))


def _tokens_of(made: object) -> int | None:
    tokens = _part(_part(made, "usage"), "prompt_tokens")
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0 else None


def _part(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).get(name)
    return getattr(value, name, None)


def _write(vectors: Vectors) -> bytes | None:
    """Return the vectors as bytes, never None: a JSON line with their sizes, then the numbers.

    The numbers are written in single precision if that loses nothing, as with the numbers that providers send.
    Otherwise they are written in double precision.
    """
    kind = "f" if all(_is_single(vector) for vector in vectors) else "d"
    head = json.dumps({"version": 1, "kind": kind, "sizes": [len(vector) for vector in vectors]}).encode()
    return head + b"\n" + b"".join(struct.pack(f"<{len(vector)}{kind}", *vector) for vector in vectors)


def _is_single(vector: Sequence[float]) -> bool:
    try:
        return list(struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector))) == list(vector)
    except OverflowError:
        return False


def _read(answer: bytes) -> Vectors:
    head, _, body = answer.partition(b"\n")
    written = json.loads(head)
    width, vectors, start = struct.calcsize(f"<{written['kind']}"), list[list[float]](), 0
    for size in written["sizes"]:
        vectors.append(list(struct.unpack_from(f"<{size}{written['kind']}", body, start)))
        start += size * width
    return vectors


def _provider(model: Embeddings) -> str | None:
    """Return the seller's name in genai-prices, read from the package of the model's class.

    The package `langchain_openai`, for example, gives "openai". If the package's name does not begin with `langchain_`,
    return None.
    """
    package = type(model).__module__.partition(".")[0]
    return package.removeprefix("langchain_") if package.startswith("langchain_") else None


def _base_url(model: Embeddings) -> str | None:
    url = _setting(model, "openai_api_base")
    return url if isinstance(url, str) else None


def _setting(model: Embeddings, name: str) -> object:
    return getattr(model, name, None)
