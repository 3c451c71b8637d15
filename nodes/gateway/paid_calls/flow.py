"""Flows: a paid call is written once, as a generator of steps, and a driver runs it from sync or from async code.

Each step can run in both ways. The generator decides which step is next. Whatever a step raises, a closed stream and a
cancelled task included, the driver raises inside the generator, which then settles, voids or keeps the hold.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from langchain_core.outputs import ChatGenerationChunk

from bursar.checkpoints.database.database import Database, Work
from bursar.checkpoints.database.loop_commits import may_wait, wait
from bursar.checkpoints.database.stop_guard import shielded

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class FlowStep(Protocol):
    """One step of a flow: `run` executes it from sync code, `arun` from async code."""

    def run(self) -> object: ...

    async def arun(self) -> object: ...


class StreamClosed(BaseException):
    """Raised inside a flow when the caller of its stream reads no further.

    The driver raises `StreamClosed` instead of `GeneratorExit`: at a `GeneratorExit` Python would close the generators
    inside the flow before they could settle the call.
    """


@dataclass(frozen=True, slots=True)
class EmitChunk:
    """A chunk for the caller of a stream. The driver yields it."""

    chunk: ChatGenerationChunk


# The driver sends back the result of each step; `do` gives that result its type.
Flow = Generator[FlowStep | EmitChunk, Any, T]


def do(step: "TypedFlowStep[T]") -> Flow[T]:
    """Let the driver run `step`, and return the step's result. Type checkers see the result's type."""
    return cast(T, (yield step))


class TypedFlowStep(FlowStep, Protocol[R_co]):
    """A step whose result has type R_co."""

    def run(self) -> R_co: ...

    async def arun(self) -> R_co: ...


@dataclass(slots=True)
class Commit(Generic[T]):
    """The step that runs `work` in a transaction of `database` and commits it.

    Once submitted, the work is finished even if the caller is cancelled. With `outlast` a cancelled caller waits for
    the commit before the cancellation goes on, and `result` then has what the work returned. `until` is when the work
    is given up, in seconds of `time.monotonic`. With `lasting`, if a fault of PostgreSQL prevents the commit,
    `Database` runs the work again in the background. From async code, `lasting` has no effect if `outlast` is set.
    """

    database: Database
    work: Work[T]
    outlast: bool = False
    until: float | None = None
    lasting: bool = False
    result: T | None = None

    def run(self) -> T:
        self.result = result = self.database.run(self.work, until=self.until, lasting=self.lasting)
        return result

    async def arun(self) -> T:
        if may_wait():
            return await wait(self.run)
        if not self.outlast:
            return await self.database.arun(self.work, until=self.until, lasting=self.lasting)
        commit = asyncio.ensure_future(self.database.arun(self.work, until=self.until))
        try:
            self.result = result = await asyncio.shield(commit)
        except asyncio.CancelledError:
            # Race: the commit may succeed after the cancellation, so its result decides whether a hold must be freed.
            while not commit.done():  # bounded: the database gives up on a lock or a connection by itself
                await _despite_cancellation(commit)
            if not commit.cancelled() and commit.exception() is None:
                self.result = commit.result()
            raise
        return result


@dataclass(frozen=True, slots=True)
class Invoke(Generic[T]):
    """The step that calls a function and returns its result: `sync` from sync code, `asynchronous` from async code."""

    sync: Callable[[], T]
    asynchronous: Callable[[], Awaitable[T]]

    def run(self) -> T:
        return self.sync()

    async def arun(self) -> T:
        return await self.asynchronous()


@dataclass(frozen=True, slots=True)
class Sleep:
    """The step that waits `seconds` seconds."""

    seconds: float

    def run(self) -> None:
        time.sleep(self.seconds)

    async def arun(self) -> None:
        await asyncio.sleep(self.seconds)


class ChunkSource:
    """A model's stream of chunks, which sync or async code can read. The first read opens the stream."""

    __slots__ = ("_aopen", "_chunks", "_open")

    def __init__(
        self,
        open_: Callable[[], Iterator[ChatGenerationChunk]],
        aopen: Callable[[], AsyncIterator[ChatGenerationChunk]],
    ) -> None:
        self._open = open_
        self._aopen = aopen
        self._chunks: Iterator[ChatGenerationChunk] | AsyncIterator[ChatGenerationChunk] | None = None

    def next(self) -> Invoke[ChatGenerationChunk | None]:
        """Return the step that reads the next chunk. The step's result is None at the end of the stream."""
        return Invoke(self._next, self._anext)

    def close(self) -> Invoke[None]:
        """Return the step that closes the stream. Chunks that were not read are lost."""
        return Invoke(self._close, self._aclose)

    def _next(self) -> ChatGenerationChunk | None:
        if self._chunks is None:
            self._chunks = self._open()
        return next(cast("Iterator[ChatGenerationChunk]", self._chunks), None)

    async def _anext(self) -> ChatGenerationChunk | None:
        if self._chunks is None:
            self._chunks = self._aopen()
        return await anext(cast("AsyncIterator[ChatGenerationChunk]", self._chunks), None)

    def _close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()

    async def _aclose(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


def drive(flow: Flow[T]) -> T:
    """Run a flow's steps from sync code, and return the flow's result. Chunks that the flow emits are dropped."""
    chunks = drive_stream(flow)
    with shielded():
        while True:
            try:
                next(chunks)
            except StopIteration as end:
                return cast(T, end.value)


async def adrive(flow: Flow[T]) -> T:
    """Run a flow's steps from async code, and return the flow's result. Chunks that the flow emits are dropped."""
    action: Callable[[], FlowStep | EmitChunk] = lambda: next(flow)  # noqa: E731
    while True:
        try:
            step = action()
        except StopIteration as end:
            return cast(T, end.value)
        except StreamClosed:
            raise GeneratorExit from None
        action = await _attempt(flow, step)


def drive_stream(flow: Flow[T]) -> Generator[ChatGenerationChunk, None, T]:
    """Run a flow's steps from sync code, yield the chunks that the flow emits, and return the flow's result."""
    action: Callable[[], FlowStep | EmitChunk] = lambda: next(flow)  # noqa: E731
    while True:
        try:
            step = action()
        except StopIteration as end:
            return cast(T, end.value)
        except StreamClosed:
            raise GeneratorExit from None
        try:
            if isinstance(step, EmitChunk):
                yield step.chunk
                result = None
            else:
                with shielded():
                    result = step.run()
        except BaseException as error:  # noqa: BLE001 - raised again inside the flow
            action = _throw(flow, error)
        else:
            action = _send(flow, result)


async def adrive_stream(flow: Flow[None]) -> AsyncGenerator[ChatGenerationChunk]:
    """Run a flow's steps from async code, and yield the chunks that the flow emits."""
    action: Callable[[], FlowStep | EmitChunk] = lambda: next(flow)  # noqa: E731
    while True:
        try:
            step = action()
        except StopIteration:
            return
        except StreamClosed:
            raise GeneratorExit from None
        if not isinstance(step, EmitChunk):
            action = await _attempt(flow, step)
            continue
        try:
            yield step.chunk
        except BaseException as error:  # noqa: BLE001 - raised again inside the flow
            action = _throw(flow, error)
        else:
            action = _send(flow, None)


async def _attempt(flow: Flow[T], step: FlowStep | EmitChunk) -> Callable[[], FlowStep | EmitChunk]:
    try:
        result = None if isinstance(step, EmitChunk) else await step.arun()
    except BaseException as error:  # noqa: BLE001 - raised again inside the flow
        return _throw(flow, error)
    return _send(flow, result)


def _send(flow: Flow[T], result: object) -> Callable[[], FlowStep | EmitChunk]:
    return lambda: flow.send(result)


def _throw(flow: Flow[T], error: BaseException) -> Callable[[], FlowStep | EmitChunk]:
    inside = StreamClosed() if isinstance(error, GeneratorExit) else error
    return lambda: flow.throw(inside)


async def _despite_cancellation(future: "asyncio.Future[T]") -> None:
    try:
        await asyncio.wait({future})
    except asyncio.CancelledError:
        return  # the first cancellation is raised after the commit, so this one adds nothing
