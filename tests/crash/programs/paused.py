"""A process that is busy while another pauses everything: `python -m tests.crash.programs.paused URL`.

It prints what happens in it, a line each. Its calls are on their way until a line comes in.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from langchain_core.messages import BaseMessage

from bursar import Ledger, Paused, Report, Task
from tests.crash.programs.drained import tell
from tests.support.graphs import App, answer_of, ask, build, free, priced, scripted

MANY = 8


def program(url: str, go: threading.Event) -> tuple[App, Ledger]:
    """An agent that pays two calls, one after the other."""

    def writes(messages: list[BaseMessage]) -> str:
        tell("sent")
        go.wait()
        return "yes"

    ledger, model = Ledger(url), priced(scripted(*[writes] * 4 * MANY))

    def pays(task: Task) -> Report:
        said = model.invoke("first").text
        return Report(answer=said + model.invoke("second").text)

    return build(ledger, [free("a", pays, timeout=600)]), ledger


def one(app: App, name: str) -> None:
    """Ask, and tell how it ended."""
    try:
        text = answer_of(ask(app, name=name))
        tell(f"answered by {'rule' if 'a by rule' in text else 'itself'}")
    except Paused:
        tell("paused")


def main(url: str) -> None:
    """Many requests at once; when they have ended one more; and that again when a line comes in."""
    go = threading.Event()
    app, _ = program(url, go)
    with ThreadPoolExecutor(MANY) as threads:
        asked = [threads.submit(partial(one, app, f"s-{number}")) for number in range(MANY)]
        sys.stdin.readline()
        go.set()
    for end in asked:
        end.result()
    one(app, "late")
    sys.stdin.readline()
    one(app, "late")


if __name__ == "__main__":
    main(*sys.argv[1:])
