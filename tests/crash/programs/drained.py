"""A process that works until it is told to end: `python -m tests.crash.programs.drained URL HOW`.

It prints what happens in it, a line each. Its handlers wait until a line comes in.
"""

import asyncio
import operator
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import RunControl

from bursar import Ledger, Report, SQLAlchemySaver, Task, drain_on_sigterm
from tests.support.graphs import App, answer_of, build, free, priced, rules, scripted, session

MANY = 20
HANG_SECONDS = 1.0  # the deadline of a handler that hangs, where it is to be waited for


def tell(line: str) -> None:
    """Print it at once, and whole, whichever thread says it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def told(number: int, frame: object) -> None:
    """The handler that was there before."""
    tell("told")


class Notes(TypedDict):
    """What each node adds to."""

    messages: Annotated[list[AnyMessage], operator.add]


def two_steps(first: Callable[[], str], second: Callable[[], str], saver: SQLAlchemySaver | None) -> Any:
    """A graph of somebody else's: two nodes, one after the other."""
    graph: Any = StateGraph(Notes)

    def adds(say: Callable[[], str]) -> Callable[[Notes], Any]:
        return lambda state: {"messages": [AIMessage(say())]}

    graph.add_node("first", adds(first))
    graph.add_node("second", adds(second))
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    return graph.compile(checkpointer=saver)


def program(url: str, how: str, go: threading.Event) -> tuple[App, Ledger]:
    """An agent that pays a call, waits for `go`, and fails; its fallback pays a call and answers.

    Where `how` is "graph" it is a graph with a paid call in each of two nodes, and answers by itself.
    """
    ledger, model = Ledger(url), priced(scripted(*["yes"] * 2 * MANY))

    def falls(task: Task) -> Report:
        model.invoke("first")
        tell("inside")
        go.wait()
        raise ValueError("it fell")

    async def falls_async(task: Task) -> Report:
        await model.ainvoke("first")
        tell("inside")
        await asyncio.to_thread(go.wait)
        raise ValueError("it fell")

    def helps(task: Task) -> Report:
        return Report(answer=f"helped: {model.invoke('second').text}")

    def pays_and_waits() -> str:
        said = model.invoke("first").text
        tell("inside")
        go.wait()
        return said

    graph = two_steps(pays_and_waits, lambda: f"stepped: {model.invoke('second').text}", None)
    handlers: dict[str, Any] = {"tasks": falls_async, "graph": graph}
    timeout = HANG_SECONDS if how == "hang" else 600
    agent = free("a", handlers.get(how, falls), fallbacks=[helps, rules], timeout=timeout)
    return build(ledger, [agent]), ledger


def one(app: App, name: str) -> None:
    """Ask, and tell how it ended."""
    try:
        tell(f"answered {answer_of(app.invoke({'messages': [('user', 'how much?')]}, session(name)))}")
    except GraphDrained as error:
        tell(f"drained {error.reason}")


async def one_async(app: App, name: str) -> None:
    """The same, on an event loop."""
    try:
        await app.ainvoke({"messages": [("user", "how much?")]}, session(name))
        tell("answered")
    except GraphDrained as error:
        tell(f"drained {error.reason}")


def plain(url: str, go: threading.Event, control: RunControl | None) -> Any:
    """Somebody else's graph over the checkpointer, which owns its session."""
    saver = SQLAlchemySaver(url)

    def waits() -> str:
        tell("inside")
        go.wait()
        return "one"

    with saver.own("s-0") as owned:
        graph = two_steps(waits, lambda: "two", saver)
        return graph.invoke({"messages": []} if control else None, owned.config, control=control)


async def all_of_them(app: App, names: list[str]) -> None:
    """At once, on one event loop."""
    await asyncio.gather(*(one_async(app, name) for name in names))


def main(url: str, how: str) -> None:
    """Work until SIGTERM; then say how each request ended, and ask another one."""
    go = threading.Event()
    threading.Thread(target=lambda: sys.stdin.readline() and go.set(), daemon=True).start()
    signal.signal(signal.SIGTERM, told)
    with drain_on_sigterm() as control:
        if how == "plain":
            try:
                plain(url, go, control)
            except GraphDrained as error:
                tell(f"drained {error.reason}")
            return
        app, _ = program(url, how, go)
        names = [f"s-{number}" for number in range(MANY if how in {"threads", "tasks"} else 1)]
        if how == "tasks":
            asyncio.run(all_of_them(app, names))
        else:
            with ThreadPoolExecutor(MANY) as threads:
                list(threads.map(partial(one, app), names))
        one(app, "late")


if __name__ == "__main__":
    main(*sys.argv[1:])
