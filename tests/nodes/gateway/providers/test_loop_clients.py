"""The HTTP clients of a metered model belong to the event loop that uses them, or, for sync calls, to the process."""

import asyncio
import gc
import os
import socket
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cached_property
from itertools import product
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx
import openai
import pytest
import uvloop
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import AzureOpenAIEmbeddings, ChatOpenAI, OpenAIEmbeddings

from bursar.nodes.gateway.embeddings import MeteredEmbeddings
from bursar.nodes.gateway.meter import Price, meter
from tests.nodes.gateway.providers.protocols import LLAMA
from tests.nodes.gateway.providers.sellers import DEPLOYMENT, Seller
from tests.support.bench import SECRET
from tests.support.clock import wait_until
from tests.support.provider import EMBEDDING_MODEL, MODEL

ROUNDS, AT_ONCE = 5, 4
PER_LOOP = ROUNDS * (AT_ONCE + 1)  # 25
WAIT_SECONDS = 60
RAW_TIMEOUT = 11.25  # of the raw clients here, so that no other test shares them by LangChain's cache

Call = Callable[[], Coroutine[Any, Any, object]]

EMBEDDERS = ("openai", "azure", "ollama")
KINDS = [
    *((protocol, "chat") for protocol in ("openai", "azure", "anthropic", "ollama")),
    *((e, "texts") for e in EMBEDDERS),
]
EVERY_KIND = pytest.mark.parametrize(("seller", "kind"), KINDS, indirect=["seller"])


def embeddings(seller: Seller) -> MeteredEmbeddings:
    """A metered embedding model of the seller."""
    given: dict[str, Any] = {"model": EMBEDDING_MODEL, "api_key": SECRET, "check_embedding_ctx_length": False}
    if seller.protocol == "ollama":
        return meter(OllamaEmbeddings(model=LLAMA, base_url=seller.provider.root), price=Price("0.10", "0.40"))
    if seller.protocol == "azure":
        place: dict[str, Any] = {"azure_endpoint": seller.provider.root, "azure_deployment": DEPLOYMENT}
        return meter(AzureOpenAIEmbeddings(**given, **place, api_version="2024-10-21"))
    return meter(OpenAIEmbeddings(**given, base_url=seller.provider.url))


def caller(seller: Seller, kind: str) -> Call:
    """A metered call of the seller's chat model or embedding model. It makes its model's clients once."""
    seller.provider.keeps_alive = True
    model: Any = embeddings(seller) if kind == "texts" else seller.model()
    if kind == "texts":
        return lambda: model.aembed_query("hello")
    return lambda: model.ainvoke("hello")


async def many(call: Call) -> int:
    """Call several times at once, and in turn. Return the number of answers."""
    answers = list[object]()
    for _ in range(ROUNDS):
        answers += await asyncio.gather(*(call() for _ in range(AT_ONCE)))
        answers.append(await call())
    return len(answers)


def in_threads(*works: Callable[[], object]) -> list[object]:
    """Run the functions in a thread each, begun at the same moment, and return what they returned or raised."""
    begin, ends = threading.Barrier(len(works)), [object()] * len(works)

    def run(place: int, work: Callable[[], object]) -> None:
        begin.wait(WAIT_SECONDS)
        try:
            ends[place] = work()
        except BaseException as error:  # noqa: BLE001 - the test compares it
            ends[place] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    return ends


def metered(seller: Seller, work: Callable[[], object], request: str = "r-1") -> Callable[[], object]:
    """The work in a scope of the request, which has money for it."""
    new_id = lambda: f"{request}/{seller.bench.new_id()}"  # noqa: E731 - a forked process counts as its parent does
    scope = seller.bench.scope("2", request=request, checkpoint_ns=request, new_id=new_id)

    def paid() -> object:
        with scope.enter():
            return work()

    return paid


def stop_clocks(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """By the clock of all HTTP clients, it is the time in `now`. So a test decides when a connection has expired."""
    stopped = SimpleNamespace(monotonic=lambda: now[0])
    for library, kind in product(("httpcore", "httpcore2"), ("_sync", "_async")):
        monkeypatch.setattr(f"{library}.{kind}.http11.time", stopped)


@contextmanager
def silent_garbage() -> Generator[None]:
    """After the block, collect the garbage: nothing in it may warn."""
    yield
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in said] == []


@EVERY_KIND
def test_two_loops_at_once_have_a_client_each(seller: Seller, kind: str) -> None:
    """Two threads with a loop each use one metered model: all calls are answered, and the loops' clients are closed."""
    call = caller(seller, kind)
    with silent_garbage():
        works = [metered(seller, lambda: asyncio.run(many(call)), name) for name in ("r-1", "r-2")]
        assert in_threads(*works) == [PER_LOOP] * 2
        assert len(seller.provider.requests) == 2 * PER_LOOP
        assert seller.provider.is_left()


@EVERY_KIND
def test_a_loop_keeps_its_connections_and_the_next_has_its_own(seller: Seller, kind: str) -> None:
    """`asyncio.run` twice: within a run a connection is used again; the next run opens another."""
    call = caller(seller, kind)

    async def twice() -> None:
        await call()
        await call()

    with silent_garbage():
        for request in ("r-1", "r-2"):
            metered(seller, lambda: asyncio.run(twice()), request)()
            assert seller.provider.is_left()
        first, again, other, once_more = seller.provider.callers
        assert first == again
        assert other == once_more != first


@EVERY_KIND
def test_uvloop(seller: Seller, kind: str) -> None:
    """The same on uvloop's event loops."""
    call = caller(seller, kind)

    def run() -> int:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(many(call))

    with silent_garbage():
        assert in_threads(metered(seller, run), metered(seller, run, "r-2")) == [PER_LOOP] * 2
        assert seller.provider.is_left()


@pytest.mark.parametrize("seller", ["openai", "azure", "anthropic", "ollama"], indirect=True)
def test_streams(seller: Seller) -> None:
    """A stream that is read to its end, and one that is left in the middle, leave no connection behind."""
    seller.provider.keeps_alive = True
    model = seller.model()

    async def read(most: int) -> None:
        async for _ in model.astream("hello"):
            most -= 1
            if not most:
                break

    with silent_garbage():
        assert (
            in_threads(*(metered(seller, lambda: asyncio.run(read(99)), name) for name in ("r-1", "r-2"))) == [None] * 2
        )
        metered(seller, lambda: asyncio.run(read(1)), "r-3")()
        assert seller.provider.is_left()


@pytest.mark.parametrize("seller", ["openai", "azure", "anthropic", "ollama"], indirect=True)
def test_the_application_goes_on_with_its_own_client(seller: Seller) -> None:
    """It awaits the model that it metered on its own loop, beside the metered one on another: all are answered."""
    seller.provider.keeps_alive = True
    given: dict[str, Any] = {} if seller.protocol == "ollama" else {"timeout": RAW_TIMEOUT, "max_retries": 0}
    raw: BaseChatModel = seller.chat(**given)
    model = meter(raw, price=Price("0.10", "0.40"))

    async def applications() -> int:
        answered = await many(lambda: raw.ainvoke("hello"))
        client: Any = getattr(raw, "root_async_client", None) or getattr(raw, "_async_client")  # noqa: B009
        await (client.close() if hasattr(client, "close") else client._client.aclose())
        return answered

    with silent_garbage():
        bursars = metered(seller, lambda: asyncio.run(many(lambda: model.ainvoke("hello"))))
        assert in_threads(lambda: asyncio.run(applications()), bursars) == [PER_LOOP] * 2
        assert seller.provider.is_left()


@pytest.mark.parametrize("seller", ["openai"], indirect=True)
def test_a_client_of_the_application_is_used_as_it_is(seller: Seller) -> None:
    """It sends each request, and nobody closes it but the application."""
    seller.provider.keeps_alive = True
    noted = list[object]()

    async def note(request: object) -> None:
        noted.append(request)

    async def main() -> None:
        async with openai.DefaultAsyncHttpxClient(event_hooks={"request": [note]}) as own:
            model = seller.model(http_async_client=own)
            await model.ainvoke("hello")
            await model.ainvoke("hello again")
            assert not own.is_closed

    with silent_garbage():
        metered(seller, lambda: asyncio.run(main()))()
        assert len(noted) == len(seller.provider.requests) == 2


class OwnAnthropic(ChatAnthropic):
    """A model whose application makes its client."""

    @cached_property
    def _async_client(self) -> anthropic.AsyncClient:
        return OWN_ANTHROPIC


OWN_ANTHROPIC = anthropic.AsyncClient(api_key=SECRET, max_retries=0, http_client=anthropic.DefaultAsyncHttpxClient())


def test_clients_of_the_application_are_left_alone() -> None:
    """Whatever it gave them to: the model's field, an SDK's client, a subclass, a transport. Others are replaced."""
    own: Any = openai.DefaultAsyncHttpxClient()
    sdk = openai.AsyncOpenAI(api_key=SECRET, max_retries=0, http_client=own)
    key: dict[str, Any] = {"model": MODEL, "api_key": SECRET}

    def inner(model: BaseChatModel) -> Any:
        return meter(model, price=Price("1", "1")).terms.client.model

    assert inner(ChatOpenAI(**key, http_async_client=own)).async_client._client._client is own
    assert inner(ChatOpenAI(**key, async_client=sdk.chat.completions)).async_client._client is sdk
    assert inner(OwnAnthropic(model="claude-haiku-4-5", api_key=SECRET))._async_client is OWN_ANTHROPIC  # pyright: ignore
    mocked = ChatOllama(
        model=LLAMA, async_client_kwargs={"transport": httpx.MockTransport(lambda _: httpx.Response(200))}
    )
    assert inner(mocked)._async_client is mocked._async_client  # pyright: ignore[reportPrivateUsage]
    plain: Any = ChatOpenAI(**key)
    assert inner(plain).root_async_client._client is not plain.root_async_client._client


@pytest.mark.parametrize("seller", ["openai"], indirect=True)
def test_a_proxy_and_socket_options_are_kept(seller: Seller, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of each loop connects as the model's settings say."""
    options = list[tuple[object, ...]]()
    setsockopt = socket.socket.setsockopt

    def noting(line: socket.socket, *option: Any) -> None:
        options.append(option)
        setsockopt(line, *option)

    monkeypatch.setattr(socket.socket, "setsockopt", noting)
    asked: Any = (socket.SOL_SOCKET, socket.SO_RCVBUF, 54_321)
    model = seller.model(http_socket_options=[asked])
    metered(seller, lambda: asyncio.run(model.ainvoke("hello")))()
    assert asked in options
    there = "http://api.openai.com/v1"
    proxied = seller.model(openai_proxy=seller.provider.root, base_url=there, http_client=None)
    metered(seller, lambda: asyncio.run(proxied.ainvoke("hello")), "r-2")()
    metered(seller, lambda: proxied.invoke("hello"), "r-3")()
    assert seller.provider.paths[1:] == [f"{there}/chat/completions"] * 2


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("seller", ["openai", "anthropic", "ollama"], indirect=True)
def test_a_loop_with_clients_is_collected(seller: Seller, closed: bool) -> None:
    """Nothing keeps a loop that is over alive. If its generators were not shut down, its sockets warn, nothing more."""
    call = caller(seller, "chat")

    def run() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        metered(seller, lambda: loop.run_until_complete(call()))()
        if closed:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        return weakref.ref(loop)

    gone = run()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # A thread of the database may hold the loop for a moment more.
        wait_until(lambda: gc.collect() >= 0 and gone() is None)
        gc.collect()
    assert seller.provider.is_left()
    assert {warning.category for warning in said} == (set[object]() if closed else {ResourceWarning})


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("seller", ["openai", "azure", "anthropic", "ollama"], indirect=True)
def test_a_forked_process_uses_connections_of_its_own(seller: Seller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked after its parent's first calls, sync and async: neither uses the other's connections, and both go on."""
    stop_clocks(monkeypatch, [0.0])  # else a connection expires if the child takes over 5 seconds
    seller.provider.keeps_alive = True
    model = seller.model(**({"http_client": None} if seller.protocol in {"openai", "azure"} else {}))

    def both(runner: asyncio.Runner, request: str) -> None:
        metered(seller, lambda: model.invoke("hello"), request)()
        metered(seller, lambda: runner.run(model.ainvoke("hello again"), context=copy_context()), request)()

    with asyncio.Runner() as runner:
        both(runner, "r-1")
        child = os.fork()
        if child == 0:
            try:
                with asyncio.Runner() as own:
                    both(own, "r-2")
                gc.collect()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        both(runner, "r-3")
    parents, childs, after = (seller.provider.callers[start : start + 2] for start in (0, 2, 4))
    assert parents == after
    assert {*parents}.isdisjoint(childs)
