"""Observers that write down what they are told, and supervisors that tell them."""

import threading
from contextvars import ContextVar
from functools import partial
from typing import Any

from langgraph.types import Command

from bursar import Approve, Ledger, Report, Task, action
from tests.support.graphs import App, ask, build, free, priced, scripted, session

IN_A_REQUEST = [
    "request_started",
    "request_opened",
    "decided",
    "run_started",
    "turn",
    "call_started",
    "call_ended",
    "run_ended",
    "request_answered",
    "request_ended",
]
EVER = ("for_request", *IN_A_REQUEST, "run_stopped", "approval_asked", "approval_ended")

said: ContextVar[str] = ContextVar("said", default="nothing")


class Diary:
    """Has every method, and writes down its name and what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        if name not in EVER:
            raise AttributeError(name)
        return partial(self.heard, name)

    def heard(self, method: str, *what: Any) -> Any:
        """Write down a call of a method."""
        self.told.append((method, what))
        return self if method == "for_request" else None

    def methods(self) -> list[str]:
        """Return the names of the methods in the order of their calls; several decisions in a row are one."""
        names = [method for method, _ in self.told]
        return [name for place, name in enumerate(names) if name != "decided" or names[place - 1] != name]

    def of(self, method: str) -> list[Any]:
        """Return the last argument of each call of a method."""
        return [what[-1] for name, what in self.told if name == method]


class Raising(Diary):
    """Raises in one of its methods."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        self.method, self.error = method, error

    def heard(self, method: str, *what: Any) -> Any:
        if method == self.method:
            self.told.append((method, what))
            raise self.error
        return super().heard(method, *what)


class Stuck(Diary):
    """Returns from one of its methods when it is released."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method, self.released = method, threading.Event()
        self.threads: list[threading.Thread] = []

    def heard(self, method: str, *what: Any) -> Any:
        answer = super().heard(method, *what)
        if method == self.method:
            self.threads.append(threading.current_thread())
            self.released.wait()
        return answer

    def release(self) -> None:
        """Let the method return, and wait for the end of its threads."""
        self.released.set()
        for thread in self.threads:
            thread.join()


class Saying(Diary):
    """Sets a context variable at the start of each request, and is another observer for each."""

    def __init__(self, made: "list[Saying] | None" = None) -> None:
        super().__init__()
        self.made: list[Saying] = [] if made is None else made

    def heard(self, method: str, *what: Any) -> Any:
        if method == "for_request":
            self.made.append(one := Saying(self.made))
            return one
        if method == "request_started":
            said.set(f"of {what[0].session_id}")
        return super().heard(method, *what)


def one_payer(ledger: Ledger, *observers: Any, answers: int = 1) -> App:
    """Return a supervisor of one specialist, which asks a model once and says what it answers."""
    model = priced(scripted(*["rice"] * answers))

    async def food(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    return build(ledger, [free("food", food)], observers=observers)


def approving(ledger: Ledger, *observers: Any) -> App:
    """Return a supervisor whose specialist does what ann must approve."""

    @action(irreversible=True, approval=True)
    def pay(to: str) -> str:
        return f"paid {to}"

    return build(ledger, [free("bank", lambda task: pay("bob"))], observers=observers, approvers=["ann"])


def approved(app: App) -> Any:
    """Ask, approve what the graph then waits for, and return the answer's result."""
    [stop] = ask(app)["__interrupt__"]
    answer = Approve(subject_hash=stop.value.subject_hash, by="ann")
    return app.invoke(Command(resume=answer), session())
