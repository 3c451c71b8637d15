"""Calling a handler of any kind with a task, and reading a report from whatever it returns."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import anyio.to_thread
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langgraph.pregel import Pregel

from bursar.nodes.specialist import Handler, is_async
from bursar.state.report import MAX_ANSWER_CHARACTERS, Report, Task


async def call(handler: Handler, task: Task) -> Report:
    """Run the handler on the task.

    A sync function runs in a worker thread, so that it can be left behind at its deadline. A compiled graph is given
    `{"messages": [...]}`, a chat model the messages themselves, any other Runnable the task.
    Raises what the handler raises, and `TypeError` when what it returns is no report.
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
    function = cast("Callable[[Task], object]", handler)
    return await anyio.to_thread.run_sync(function, task, abandon_on_cancel=True)


def _messages(task: Task) -> list[tuple[str, str]]:
    return [*((turn.role, turn.text) for turn in task.history), ("user", task.text)]


def report_of(result: object) -> Report:
    """A report from a report, a text, a message, or a graph state whose last message is the answer.

    Raises `TypeError`, naming what came instead, and `ValueError` for an answer over the size limit.
    """
    if isinstance(result, Report):
        return result
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


def _messages_in(result: object) -> list[object]:
    if not isinstance(result, Mapping):
        return []
    messages = cast("Mapping[str, object]", result).get("messages")
    return cast("list[object]", messages) if isinstance(messages, list) else []
