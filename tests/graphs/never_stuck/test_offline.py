"""A last resort opens no connection, in whatever way Python would; everybody else goes on doing so."""

import asyncio
import gc
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from bursar import Ledger, Report, Task, deterministic
from bursar.nodes.gateway.paid_calls.scope import offline_agent
from bursar.nodes.isolation.captured import Captured
from bursar.state.run import Fault, Outcome
from tests.support.graphs import answer_of, ask, build, free, priced, scripted, specialist


def fails(task: Task) -> Report:
    """What every chain here begins with."""
    raise ValueError("no")


@pytest.fixture
def port() -> Iterator[int]:
    """A server on loopback that counts who comes and hangs up; nobody may."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        came: list[object] = []

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                came.append(line)
                line.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        assert came == []
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def _in_thread(work: Callable[[], object]) -> None:
    end = Captured[object]()

    def run() -> None:
        with end:
            work()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    end.result()


def _in_pool(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


WAYS: dict[str, Callable[[int], object]] = {
    "socket": lambda port: socket.create_connection(("127.0.0.1", port)),
    "connect_ex": lambda port: socket.socket().connect_ex(("127.0.0.1", port)),
    "datagram": lambda port: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port)),
    "name": lambda port: socket.getaddrinfo("localhost", port),
    "httpx": lambda port: httpx.get(f"http://127.0.0.1:{port}"),
    "urllib": lambda port: urllib.request.urlopen(f"http://127.0.0.1:{port}"),
    "raw thread": lambda port: _in_thread(lambda: socket.create_connection(("127.0.0.1", port))),
    "pool": lambda port: _in_pool(lambda: socket.create_connection(("127.0.0.1", port))),
}


async def _with_httpx(port: int) -> object:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://localhost:{port}")


AWAITED: dict[str, Callable[[int], Any]] = {
    "streams": lambda port: asyncio.open_connection("127.0.0.1", port),
    "name": lambda port: asyncio.get_running_loop().getaddrinfo("localhost", port),
    "async httpx": _with_httpx,
    "to a thread": lambda port: asyncio.to_thread(socket.create_connection, ("127.0.0.1", port)),
}


def _refused(ledger: Ledger, last: Any) -> None:
    result = ask(build(ledger, [specialist("a", fails, fallbacks=[last])]))
    run = result["runs"][-1]
    assert (run.outcome, run.fault) == (Outcome.FAILED, Fault.POLICY), run.reason
    assert "is a last resort and opens no connection" in run.reason
    assert run.reason.startswith("a.")
    assert "opens no connection" in answer_of(result)
    del result, run
    gc.collect()  # else those sockets are collected, and warn, in the middle of another test


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the sockets of a library that did not expect the refusal
@pytest.mark.parametrize("way", WAYS)
def test_a_function_opens_no_connection(ledger: Ledger, port: int, way: str) -> None:
    """The chain has failed, and the answer says why."""

    @deterministic
    def last(task: Task) -> Report:
        return Report(answer=str(WAYS[way](port)))

    _refused(ledger, last)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("way", AWAITED)
def test_a_coroutine_opens_no_connection(ledger: Ledger, port: int, way: str) -> None:
    """Nor on the event loop that it shares with others."""

    @deterministic
    async def last(task: Task) -> Report:
        return Report(answer=str(await AWAITED[way](port)))

    _refused(ledger, last)


def test_others_open_what_they_like(ledger: Ledger) -> None:
    """A handler that may pay, a tool agent, and a thread that a last resort left running."""
    go, outcomes = threading.Event(), list[object]()

    def asks() -> str:
        return str(socket.getaddrinfo("127.0.0.1", 80)[0][4])

    @deterministic
    def tool(task: Task) -> Report:
        return Report(answer=asks())

    @deterministic
    def last(task: Task) -> Report:
        def later() -> None:
            go.wait(60)
            outcomes.append((offline_agent(), asks()))

        thread = threading.Thread(target=later)
        thread.start()
        outcomes.append(thread)
        return Report(answer="by rule")

    app = build(
        ledger,
        [
            free("pays", lambda task: asks()),
            specialist("tool", tool, fallbacks=[]),
            specialist("failed", fails, fallbacks=[last], expected_cost=0),
        ],
    )
    result = ask(app)
    assert [run.outcome for run in result["runs"] if run.specialist in {"pays", "tool"}] == [Outcome.COMPLETED] * 2
    go.set()
    thread = outcomes[0]
    assert isinstance(thread, threading.Thread)
    thread.join(60)
    assert outcomes[1:] == [(None, "('127.0.0.1', 80)")]


@pytest.mark.postgres
def test_the_books_are_opened_all_the_same(postgres: str) -> None:
    """A last resort whose refusal has to be written down needs a connection, and its server has a name."""
    ledger = Ledger(postgres.replace("127.0.0.1", "localhost"))
    model = scripted()

    @deterministic
    def last(task: Task) -> Report:
        ledger.database.close()
        return Report(answer=priced(model).invoke(task.text).text)

    result = ask(build(ledger, [specialist("a", fails, fallbacks=[last])]), name="s-offline")
    assert "is deterministic and may not call" in result["runs"][-1].reason
    assert [row.kind for row in ledger.audit("s-offline")].count("call_refused") == 1
    assert ledger.verify("s-offline")
    ledger.database.close()
