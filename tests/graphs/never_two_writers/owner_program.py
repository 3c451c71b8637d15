"""A process that runs one session many times, for tests of who owns it: `python -m …owner_program URL HOW …`."""

import json
import operator
import sys
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from bursar import LeaseLost, Ledger, Report, SessionBusy, SQLAlchemySaver, Task
from tests.support.graphs import ask, build, free

SESSION = "s-1"


class Notes(TypedDict):
    """Every run adds one note."""

    notes: Annotated[list[str], operator.add]


def plain(saver: SQLAlchemySaver) -> Any:
    """A graph that is not a supervisor's, so that it has to ask for ownership."""

    def note(state: Notes) -> dict[str, list[str]]:
        return {"notes": [f"{state['notes'][-1]} done"]}

    graph: Any = StateGraph(Notes)
    graph.add_node("note", note)
    graph.add_edge(START, "note")
    graph.add_edge("note", END)
    return graph.compile(checkpointer=saver)


def count(url: str, name: str, number: int) -> None:
    """Run the session so many times, as often as it takes; tell how often it was busy."""
    saver = SQLAlchemySaver(url)
    app, busy = plain(saver), 0
    for run in range(number):
        while True:  # ends: the other process has as many runs as this one
            try:
                with saver.own(SESSION, wait_seconds=0 if busy % 3 else 0.2) as owned:
                    app.invoke({"notes": [f"{name} {run}"]}, owned.config)
                break
            except SessionBusy:
                busy += 1
    print(json.dumps({"busy": busy}))


def hang(url: str) -> None:
    """Ask, say so, and never end."""

    def handler(task: Task) -> Report:
        print("inside", flush=True)
        sys.stdin.read()
        return Report(answer="too late")

    try:
        ask(build(Ledger(url), [free("a", handler, timeout=600)]))
        print("answered")
    except LeaseLost:
        print("lost")


if __name__ == "__main__":
    url, how, *more = sys.argv[1:]
    if how == "count":
        count(url, more[0], int(more[1]))
    else:
        hang(url)
