"""Calls of handlers of any kind with a task, and reports read from what handlers return."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.runnables import Runnable
from langgraph.errors import ParentCommand
from langgraph.pregel import Pregel
from langgraph.types import Command
from pydantic import ValidationError

from bursar.checkpoints.saver.serde import default_serde
from bursar.nodes.context.conversation import given_to_model
from bursar.nodes.gateway.paid_calls.scope import current_scope
from bursar.nodes.isolation.callables import is_awaited
from bursar.nodes.isolation.captured import Captured, capture_call
from bursar.nodes.isolation.workers import run_coroutine, run_in_thread
from bursar.nodes.runs.hand_overs import hand_over_report, is_hand_over
from bursar.nodes.runs.structured import is_structured, structured_report
from bursar.nodes.specialists.chain import Link
from bursar.nodes.specialists.definition import Handler
from bursar.nodes.specialists.remote_graph import is_remote_graph, starts_with_remote_graph
from bursar.nodes.specialists.sync_graphs import runs_in_sync_code_alone
from bursar.state.errors import BadOutput
from bursar.state.run import MAX_REPORT_BYTES, Report, Task

Keep: TypeAlias = Callable[[str], None]

INTERRUPT = "__interrupt__"  # in the state of a remote graph that waits for a person

_serde = default_serde()


async def call(link: Link, task: Task, *, seconds: float, keep: Keep) -> Captured[Report] | None:
    """Call the link's handler with the task, and return its report or error; None at the deadline.

    At the deadline the handler is abandoned. A handler that is awaited runs where `run_coroutine` says, any other in a
    thread of its own, as does a graph that runs in sync code alone. A compiled graph and a `RemoteGraph` get
    `{"messages": [...]}`, a chat model gets the messages, any other Runnable gets the task. After each step of a graph,
    `keep` gets the answer so far. The captured error is what the handler raised, or `BadOutput` if the handler returned
    no report, or if its report cannot be kept. Raises `TooManyAbandoned` if too many handlers of the link hang. A graph
    that goes to a node of the graph around it has returned a report that hands over.
    """
    end = await _called(link, task, seconds=seconds, keep=keep)
    if end is not None and isinstance(end.error, ParentCommand):
        return capture_call(hand_over_report, cast("Command[Any]", cast(Any, end.error).args[0]))
    return end


async def _called(link: Link, task: Task, *, seconds: float, keep: Keep) -> Captured[Report] | None:
    if link.awaited:
        waits = partial(_awaited, link.handler, task, keep)
        return await run_coroutine(link.node, waits, seconds=seconds, apart=link.apart)
    began = time.monotonic()
    function = _function(link.handler, keep)
    end = await run_in_thread(link.node, partial(_in_thread, function, task), seconds=seconds)
    if end is None or end.error is not None or isinstance(end.value, Report):
        return cast("Captured[Report] | None", end)
    left = seconds - (time.monotonic() - began)
    waiting = cast("Awaitable[object]", end.value)
    waits = partial(_awaited, lambda _: waiting, task, keep)
    return await run_coroutine(link.node, waits, seconds=left, apart=link.apart)


async def call_directly(handler: Handler, task: Task) -> Report:
    """Call a handler from within another handler, and return its report.

    The call is part of the calling handler's run, within the same deadline and limits. Raises what the handler raises,
    and `BadOutput` if it returns no report.
    """
    if is_awaited(handler) and not runs_in_sync_code_alone(handler):
        return await _awaited(handler, task, lambda _: None)
    result = await asyncio.to_thread(_function(handler, lambda _: None), task)
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

    If the handler returned an awaitable, return the awaitable, which the caller then awaits.
    """
    result = function(task)
    return result if inspect.isawaitable(result) else report_of(result)


async def _run(runnable: "Runnable[Any, Any]", task: Task, keep: Keep) -> Report:
    if isinstance(runnable, BaseLanguageModel):
        return report_of(await cast("Runnable[Any, Any]", runnable).ainvoke(given_to_model(task)))
    if isinstance(runnable, Pregel) or is_remote_graph(runnable):
        return await _run_graph(runnable, task, keep)
    given = _state(task, remote=True) if starts_with_remote_graph(runnable) else task
    return report_of(await runnable.ainvoke(given))


def _function(handler: Handler, keep: Keep) -> Callable[[Task], object]:
    """Return the function that a handler in a thread is: itself, or, of a graph for sync code, the run of the graph."""
    if isinstance(handler, Pregel):
        return lambda task: _run_in_thread(handler, task, keep)
    return cast("Callable[[Task], object]", handler)


def _run_in_thread(graph: Any, task: Task, keep: Keep) -> Report:
    state: Mapping[str, object] = {}
    for state in graph.stream(_state(task, remote=False), stream_mode="values"):
        _keep_answer(state, keep)
    return report_of(state)


async def _run_graph(graph: Any, task: Task, keep: Keep) -> Report:
    state: Mapping[str, object] = {}
    async for state in graph.astream(_state(task, remote=is_remote_graph(graph)), stream_mode="values"):
        _keep_answer(state, keep)
    if is_remote_graph(graph) and INTERRUPT in state:
        raise BadOutput("the remote graph stopped to ask a person, and nobody can answer it here")
    return report_of(state)


def _keep_answer(state: Mapping[str, object], keep: Keep) -> None:
    if isinstance(last := _last_message(state), AIMessage) and last.text:
        keep(last.text)


def _state(task: Task, *, remote: bool) -> dict[str, object]:
    """Return the state that a graph begins with. A server gets its messages in the form that every client may send."""
    given = given_to_model(task)
    return {"messages": [_in_json(message) for message in convert_to_messages(given)] if remote else given}


def _in_json(message: BaseMessage) -> dict[str, object]:
    role = {"human": "user", "ai": "assistant"}.get(message.type, message.type)
    more = {name: getattr(message, name, None) for name in ("name", "tool_calls", "tool_call_id")}
    return {"role": role, "content": message.content, **{name: value for name, value in more.items() if value}}


def report_of(result: object) -> Report:
    """Return a report from what a handler returned: a report, a text, a message, a graph state or a structured answer.

    The last message of a graph state is the answer; its `structured_response`, if any, is the structured answer, as is
    any other dict, pydantic model or dataclass. A report is validated again: a handler may have changed it after making
    it, and no unchecked change may reach the checkpoint. Raises `BadOutput`, which names the type that came
    instead or what is wrong with the report.
    """
    if isinstance(result, Report):
        return _checked(result)
    if is_hand_over(result):
        return _checked(hand_over_report(cast("Command[Any]", result)))
    if isinstance(result, str):
        text = result
    elif isinstance(result, BaseMessage):
        text = result.text
    elif (last := _last_message(result)) is not None:
        answer = cast("Mapping[str, object]", result).get("structured_response")
        return report_of(last) if answer is None else _checked(structured_report(answer, last))
    elif is_structured(result) and not _is_state(result):
        return _checked(structured_report(result))
    else:
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that nobody awaited it
        raise BadOutput(
            "a handler returns a Report, a str or a message, a dict, a pydantic model or a dataclass, and a graph a "
            f"state with messages, not {type(result).__name__}",
            kind=type(result).__name__,
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


def _is_state(value: object) -> bool:
    """Whether the value is a graph's state with a list of messages."""
    return isinstance(value, Mapping) and isinstance(cast("Mapping[str, object]", value).get("messages"), list)


def _last_message(state: object) -> object:
    """Return the last message of a graph's state, None if there is none. A message in JSON is made a message."""
    if not _is_state(state):
        return None
    messages = cast("Mapping[str, list[object]]", state)["messages"]
    last = messages[-1] if messages else None
    if not isinstance(last, Mapping):
        return last
    try:
        return convert_to_messages([dict(cast("Mapping[str, Any]", last))])[0]
    except (ValueError, NotImplementedError):
        raise BadOutput("the last message of the graph's state cannot be read") from None
