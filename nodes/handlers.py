"""Calling a handler of any kind with a task, and reading a report from whatever it returns."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import Any, cast

from anyio.to_thread import current_default_thread_limiter
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langgraph.pregel import Pregel

from bursar.checkpoints.saving.serde import default_serde
from bursar.nodes.ended import Ended
from bursar.nodes.specialist import Handler, is_async
from bursar.state.report import MAX_ANSWER_CHARACTERS, Report, Task

_serde = default_serde()


async def call(handler: Handler, task: Task) -> Report:
    """Run the handler on the task.

    A sync function runs in a worker thread, so that it can be left behind at its deadline. A compiled graph is given
    `{"messages": [...]}`, a chat model the messages themselves, any other Runnable the task.
    Raises what the handler raises, `TypeError` when what it returns is no report, and `ValueError` for a bad one.
    """
    return report_of(await _result(handler, task))


async def _result(handler: Handler, task: Task) -> object:
    if isinstance(handler, Runnable):
        runnable = cast("Runnable[Any, Any]", handler)
        if isinstance(handler, Pregel):
            return await runnable.ainvoke({"messages": _messages(task)})
        return await runnable.ainvoke(_messages(task) if isinstance(handler, BaseLanguageModel) else task)
    if is_async(handler):
        return await cast("Callable[[Task], Awaitable[object]]", handler)(task)
    result = await _in_thread(cast("Callable[[Task], object]", handler), task)
    return await cast("Awaitable[object]", result) if inspect.isawaitable(result) else result


async def _in_thread(function: Callable[[Task], object], task: Task) -> object:
    """The function's result, from a thread of its own; as many run at once as anyio's default limiter allows.

    The thread is a daemon, unlike those of a pool: one that was left behind does not keep the process from ending.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    told: asyncio.Future[Ended[object]] = loop.create_future()

    def tell(end: Ended[object]) -> None:
        if not told.done():
            told.set_result(end)

    def run() -> None:
        end = Ended[object]()
        with end:
            end.value = context.run(function, task)
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            loop.call_soon_threadsafe(tell, end)

    async with current_default_thread_limiter():
        threading.Thread(target=run, name=f"bursar-{task.specialist}", daemon=True).start()
        return (await told).result()


def _messages(task: Task) -> list[tuple[str, str]]:
    return [*((turn.role, turn.text) for turn in task.history), ("user", task.text)]


def report_of(result: object) -> Report:
    """A report from a report, a text, a message, or a graph state whose last message is the answer.

    A report is checked anew: what a handler changed in it after it was made must not reach the checkpoint unseen.
    Raises `TypeError`, naming what came instead, and `ValueError` for a bad report or an answer over the size limit.
    """
    if isinstance(result, Report):
        return _checked(result)
    if isinstance(result, str):
        text = result
    elif isinstance(result, BaseMessage):
        text = result.text
    elif messages := _messages_in(result):
        return report_of(messages[-1])
    else:
        raise TypeError(f"a handler returns a Report, a str or a message, not {type(result).__name__}")
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise ValueError(f"the answer has {len(text)} characters; {MAX_ANSWER_CHARACTERS} is the limit")
    return Report(answer=text)


def _checked(report: Report) -> Report:
    fresh = Report.model_validate(dict(report))
    if fresh.data:
        try:
            _serde.dumps_typed(fresh)
        except (TypeError, ValueError):
            raise ValueError("the report's data cannot be kept: whole numbers have 64 bits, keys are Unicode") from None
    return fresh


def _messages_in(result: object) -> list[object]:
    if not isinstance(result, Mapping):
        return []
    messages = cast("Mapping[str, object]", result).get("messages")
    return cast("list[object]", messages) if isinstance(messages, list) else []
