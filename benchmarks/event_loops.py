"""Counts the failures of paid calls in each situation of event loops that an application may be in.

An agent awaits a metered `ChatOpenAI` on the caller's loop. Beside each request the application awaits a model of its
own on that loop. Both use a server on loopback that keeps connections open. A repetition fails if an answer is missing
or wrong, or if a worker process has not all of its answers.
"""

import asyncio
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvloop
from httpx import ASGITransport, AsyncClient
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.harness import Ratio, Result, Rounds, children_cpu
from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter
from bursar.nodes.routers.word_overlap import WordOverlapRouter
from tests.support.provider import DEAR_MODEL, MODEL, Provider

REPETITIONS = 100
AT_ONCE = 60
WORKERS = 2
BUSY_LOOPS = 2
WORKER_SECONDS = 120
QUESTION: Any = {"messages": [("user", "payer")]}
PAID = "all is well"


@deterministic
def rules(task: Task) -> Report:
    """Answer by rule: a call that failed."""
    return Report(answer="by rule")


class Application:
    """A program with a supervisor and a model of its own, on a server that bills both by their models' names."""

    def __init__(self, folder: str) -> None:
        self.provider = Provider()
        self.provider.keeps_alive = True
        self.ledger = Ledger(f"sqlite:///{folder}/event_loops.db")
        self.metered = meter(self.chat(MODEL))
        agent = Specialist(name="payer", description="payer", handler=self._pays, fallbacks=[rules], timeout=100)
        self.app: Any = build_supervisor(
            [agent],
            budget=Budget("1"),
            ledger=self.ledger,
            checkpointer=SQLAlchemySaver(self.ledger.database),
            router=WordOverlapRouter(),
        )
        self._sessions: list[str] = []

    def chat(self, model: str, **settings: Any) -> ChatOpenAI:
        """Return a model of the provider that is not metered."""
        fixed: dict[str, Any] = {"model": model, "api_key": "sk-none", "base_url": self.provider.url, "timeout": 60}
        return ChatOpenAI(**fixed, **settings)

    async def _pays(self, task: Task) -> str:
        return (await self.metered.ainvoke("now")).text

    def new_session(self) -> str:
        """Return the name of a new session."""
        self._sessions.append(f"s-{len(self._sessions)}")
        return self._sessions[-1]

    async def ask(self, own: ChatOpenAI, session: str = "") -> None:
        """Ask the supervisor, and the application's own model beside it. Raise `AssertionError` for a wrong answer."""
        other = asyncio.create_task(own.ainvoke("and you?"))
        result = await self.app.ainvoke(QUESTION, _config(session or self.new_session()))
        _check(result, (await other).text)

    def ask_sync(self, own: ChatOpenAI) -> None:
        """Ask both in sync code."""
        _check(self.app.invoke(QUESTION, _config(self.new_session())), own.invoke("and you?").text)

    async def on_new_loop(self, session: str = "") -> None:
        """Ask on a loop that ends afterwards: the application's own model has a client for this loop."""
        async with DefaultAsyncHttpxClient() as client:
            await self.ask(self.chat(DEAR_MODEL, http_async_client=client), session)

    def check_books(self) -> None:
        """Raise `AssertionError` unless the ledger has what the provider billed for metered calls, and no open call."""
        spent = sum(self.ledger.spend(name).spent.nanos for name in self._sessions)
        billed = sum(bill.nanos for bill in self.provider.bills if bill.model == MODEL)
        if spent != billed or self.ledger.open_holds() or not self.ledger.verify():
            raise AssertionError(f"the ledger has {spent} nano-dollars, the provider {billed}")


def _config(session: str) -> Any:
    return {"configurable": {"thread_id": session}}


def _check(result: Any, own: str) -> None:
    texts = (result["messages"][-1].text, own)
    if texts != (PAID, PAID):
        raise AssertionError(f"the answers are {texts}")


Repeat = Callable[[], Awaitable[None]]
Situation = Callable[[Application, "Tally"], None]


class Tally:
    """The repetitions of one situation: how many there are to be, how long each took, and what failed."""

    def __init__(self, repetitions: int) -> None:
        self.repetitions = repetitions
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.failures: list[str] = []

    @contextmanager
    def one(self) -> Generator[None]:
        """Count the block as one repetition. It swallows what the block raises, and counts it as a failure."""
        began, used = time.perf_counter(), time.process_time() + children_cpu()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - each failure counts
            self.failures.append("".join(traceback.format_exception_only(error)).strip())
        self.wall.append((time.perf_counter() - began) * 1e6)
        self.cpu.append((time.process_time() + children_cpu() - used) * 1e6)

    async def repeat(self, body: Repeat) -> None:
        """Await `body` once for each repetition."""
        for _ in range(self.repetitions):
            with self.one():
                await body()


def run_twice(program: Application, tally: Tally) -> None:
    """`asyncio.run` twice: the second loop has nothing of the first."""
    for _ in range(tally.repetitions):
        with tally.one():
            asyncio.run(program.on_new_loop())
            asyncio.run(program.on_new_loop())


def run_uvloop(program: Application, tally: Tally) -> None:
    """A loop that is not written in Python."""
    for _ in range(tally.repetitions):
        with tally.one():
            uvloop.run(program.on_new_loop())


def run_notebook(program: Application, tally: Tally) -> None:
    """A loop that runs already: a task, a sync call in the loop's own thread beside it, and an await."""
    own = program.chat(DEAR_MODEL)

    async def cell() -> None:
        task = asyncio.create_task(program.ask(own))
        await asyncio.sleep(0)
        program.ask_sync(own)
        await task
        await program.ask(own)

    asyncio.run(tally.repeat(cell))


def run_server(program: Application, tally: Tally) -> None:
    """A web server with `AT_ONCE` requests at once. Two loops in the same process compute meanwhile."""
    own = program.chat(DEAR_MODEL)

    async def endpoint(request: Request) -> PlainTextResponse:
        await program.ask(own)
        return PlainTextResponse(PAID)

    async def serve() -> None:
        transport = ASGITransport(app=Starlette(routes=[Route("/", endpoint)]))
        async with AsyncClient(transport=transport, base_url="http://here", timeout=300) as client:

            async def batch() -> None:
                answers = await asyncio.gather(*(client.get("/") for _ in range(AT_ONCE)))
                if [answer.text for answer in answers] != [PAID] * AT_ONCE:
                    raise AssertionError("an answer of the web server is missing")

            await tally.repeat(batch)

    with busy_loops():
        asyncio.run(serve())


@contextmanager
def busy_loops() -> Generator[None]:
    """Run `BUSY_LOOPS` event loops that compute, each in a thread of its own, until the block ends."""
    over = threading.Event()

    async def compute() -> None:
        while not over.is_set():
            sum(range(20_000))
            await asyncio.sleep(0)

    threads = [threading.Thread(target=asyncio.run, args=(compute(),)) for _ in range(BUSY_LOOPS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def run_forks(program: Application, tally: Tally) -> None:
    """Worker processes forked after the first use, as prefork servers do. Their parent goes on beside them."""
    asyncio.run(program.on_new_loop())
    for _ in range(tally.repetitions):
        with tally.one():
            workers = [_fork_worker(program) for _ in range(WORKERS)]
            try:
                asyncio.run(program.on_new_loop())
            finally:
                codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
            if any(codes):
                raise AssertionError(f"the workers ended with {codes}")


def _fork_worker(program: Application) -> int:
    """Fork a process that asks on two loops, and exits with 0 if both answers came. Return its number."""
    sessions = [program.new_session(), program.new_session()]
    worker = os.fork()
    if worker == 0:
        code = 1
        try:
            signal.alarm(WORKER_SECONDS)  # ends a worker that hangs
            for session in sessions:
                asyncio.run(program.on_new_loop(session))
            code = 0
        except BaseException:  # noqa: BLE001 - the worker must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(code)
    return worker


SITUATIONS: dict[str, Situation] = {
    "asyncio.run twice": run_twice,
    "uvloop": run_uvloop,
    "a loop that runs already, as in a notebook": run_notebook,
    f"a web server, {AT_ONCE} requests at once beside {BUSY_LOOPS} busy loops": run_server,
    "fork after the first use": run_forks,
}


def run(*, smoke: bool) -> list[Result]:
    """Return one result, with a line for each situation: its repetitions and its failures."""
    repetitions = 3 if smoke else REPETITIONS
    result = Result(f"paid calls on event loops of any kind, {repetitions} repetitions of each")
    all_failed = 0
    for name, situation in SITUATIONS.items():
        tally = Tally(repetitions)
        with tempfile.TemporaryDirectory() as folder:
            program = Application(folder)
            try:
                situation(program, tally)
                if not tally.failures:
                    program.check_books()
            finally:
                program.provider.close()
                program.ledger.database.close()
        failed = len(tally.failures)
        all_failed += failed
        line = f"{name}: {repetitions} repetitions, {failed} failures"
        result.rounds.append(Rounds(line, tuple(tally.cpu), tuple(tally.wall)))
        result.notes += [f"{name}: {failure}" for failure in tally.failures]
    tried = repetitions * len(SITUATIONS)
    share = 1 + all_failed / tried
    result.ratios = [Ratio("repetitions and failures", "repetitions", "count", share, share, share, bound=1.0)]
    return [result]
