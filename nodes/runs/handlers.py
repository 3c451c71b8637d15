"""Calls of handlers of any kind with a task, and reports read from what handlers return."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langgraph.pregel import Pregel
from pydantic import ValidationError

from bursar.checkpoints.saver.serde import default_serde
from bursar.nodes.gateway.scope import current_scope
from bursar.nodes.isolation.callables import is_awaited
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.isolation.workers import run_in_thread, run_on_handler_loop
from bursar.nodes.specialists.chain import Link
from bursar.nodes.specialists.definition import Handler
from bursar.state.errors import BadOutput
from bursar.state.run import MAX_REPORT_BYTES, Report, Task

Keep: TypeAlias = Callable[[str], None]

_serde = default_serde()


async def call(link: Link, task: Task, *, seconds: float, keep: Keep) -> Captured[Report] | None:
    """Call the link's handler with the task, and return its report or error; None at the deadline.

    At the deadline the handler is abandoned. A handler on an event loop runs on the handler loop, any other in a thread
    of its own. A compiled graph gets `{"messages": [...]}`, a chat model gets the messages, any other Runnable gets the
    task. After each step of a graph, `keep` gets the answer so far. The captured error is what the handler raised, or
    `BadOutput` if the handler returned no report, or if its report cannot be kept. Raises `TooManyAbandoned` if too
    many handlers of the link hang.
    """
    if link.awaited:
        return await run_on_handler_loop(link.node, partial(_awaited, link.handler, task, keep), seconds=seconds)
    began = time.monotonic()
    function = cast("Callable[[Task], object]", link.handler)
    end = await run_in_thread(link.node, partial(_in_thread, function, task), seconds=seconds)
    if end is None or end.error is not None or isinstance(end.value, Report):
        return cast("Captured[Report] | None", end)
    left = seconds - (time.monotonic() - began)
    waiting = cast("Awaitable[object]", end.value)
    return await run_on_handler_loop(link.node, partial(_awaited, lambda _: waiting, task, keep), seconds=left)


async def call_directly(handler: Handler, task: Task) -> Report:
    """Call a handler from within another handler, and return its report.

    The call is part of the calling handler's run, within the same deadline and limits. Raises what the handler raises,
    and `BadOutput` if it returns no report.
    """
    if is_awaited(handler):
        return await _awaited(handler, task, lambda _: None)
    result = await asyncio.to_thread(cast("Callable[[Task], object]", handler), task)
    return report_of(await result if inspect.isawaitable(result) else result)


def save_partial(work: Report | str) -> None:
    """Keep `work` as what the handler has so far: the run's report if the run does not complete.

    Each call replaces the last. Does nothing outside a run, or once the run has ended. Raises `BadOutput` if `work` is
    no report.
    """
    scope = current_scope()
    if scope is not None:
        scope.keep(report_of(work))


keep = save_partial  # its former name


async def _awaited(handler: Handler, task: Task, keep: Keep) -> Report:
    if isinstance(handler, Runnable):
        return await _run(cast("Runnable[Any, Any]", handler), task, keep)
    return report_of(await cast("Callable[[Task], Awaitable[object]]", handler)(task))


def _in_thread(function: Callable[[Task], object], task: Task) -> object:
    """Call a sync handler, and return its report.

    If the handler returned an awaitable, return the awaitable, which the caller then awaits on the handler loop.
    """
    result = function(task)
    return result if inspect.isawaitable(result) else report_of(result)


async def _run(runnable: "Runnable[Any, Any]", task: Task, keep: Keep) -> Report:
    if not isinstance(runnable, Pregel):
        return report_of(await runnable.ainvoke(_messages(task) if isinstance(runnable, BaseLanguageModel) else task))
    state: object = None
    graph = cast("Any", runnable)
    async for state in graph.astream({"messages": _messages(task)}, stream_mode="values"):
        messages = _messages_in(state)
        if messages and isinstance(last := messages[-1], AIMessage) and last.text:
            keep(last.text)
    return report_of(state)


def _messages(task: Task) -> list[tuple[str, str]]:
    return [*((turn.role, turn.text) for turn in task.history), ("user", task.text)]


def report_of(result: object) -> Report:
    """Return a report from what a handler returned: a report, a text, a message, or a graph state with messages.

    The last message of a graph state is the answer. A report is validated again: a handler may have changed it after
    making it, and no unchecked change may reach the checkpoint. Raises `BadOutput`, which names the type that came
    instead or what is wrong with the report.
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
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that nobody awaited it
        raise BadOutput(
            "a handler returns a Report, a str or a message, and a graph a state with messages, "
            f"not {type(result).__name__}"
        )
    return _checked(Report.model_construct(answer=text))


def _checked(report: Report) -> Report:
    try:
        fresh = Report.model_validate(vars(report))
        size = len(fresh.answer.encode())
        if fresh.data or fresh.sources or fresh.gaps:
            size = len(_serde.dumps_typed(fresh)[1])
    except UnicodeEncodeError:
        raise BadOutput("the report holds half a character and cannot be kept") from None
    except ValidationError as error:
        raise BadOutput(_wrong_in(error)) from None
    except (TypeError, ValueError, RecursionError):
        raise BadOutput("the report's data cannot be kept: whole numbers have 64 bits, keys are Unicode") from None
    if size > MAX_REPORT_BYTES:
        raise BadOutput(f"the report has {size} bytes; {MAX_REPORT_BYTES} is the limit")
    return fresh


def _wrong_in(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"the report's {'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"


def _messages_in(result: object) -> list[object]:
    if not isinstance(result, Mapping):
        return []
    messages = cast("Mapping[str, object]", result).get("messages")
    return cast("list[object]", messages) if isinstance(messages, list) else []
