"""The program that is killed in the middle of a request, and that is started again afterwards."""

import os
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from langchain_openai import ChatOpenAI

import bursar.cli.main
from bursar import Budget, Ledger, Report, Task, Verdict, meter
from bursar.state.session import Request
from tests.support.graphs import App, build, rules, session, specialist
from tests.support.provider import MODEL


class Gate:
    """Allows everything; at the place `answer` the process dies in it, which is in the report node."""

    name = "gate"

    def __init__(self, place: str) -> None:
        self.place = place

    def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        """Allow."""
        return Verdict("allow")

    def review_answer(self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime) -> Verdict:
        """Allow, or die."""
        if self.place == "report":
            die()
        return Verdict("allow")


def die() -> None:
    """What `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def program(url: str, provider: str, place: str = "") -> tuple[App, Ledger]:
    """Two specialists with a real client; `place` says where the process dies, empty is nowhere.

    `talker` pays three calls in a row and dies after the second (`handler`); `faller` fails after a paid call, and its
    paid fallback dies after one of its own (`fallback`).
    """
    ledger = Ledger(url)
    model = meter(ChatOpenAI(model=MODEL, api_key=lambda: "none", base_url=provider), max_output_tokens=100)

    async def talker(task: Task) -> Report:
        said = [(await model.ainvoke(f"talker {number}")).text for number in (1, 2)]
        if place == "handler":
            die()
        said.append((await model.ainvoke("talker 3")).text)
        return Report(answer="; ".join(said))

    def faller(task: Task) -> Report:
        model.invoke("faller 1")
        raise ValueError("it fell")

    def helper(task: Task) -> Report:
        said = model.invoke("helper 1").text
        if place == "fallback":
            die()
        return Report(answer=f"helped: {said}")

    specialists = [
        specialist("talker", talker),
        specialist("faller", faller, fallbacks=[helper, rules]),
    ]
    app = build(ledger, specialists, budget=Budget("0.03", per_session="1"), gate=Gate(place))
    return app, ledger


def ask(url: str, provider: str, place: str) -> None:
    """Ask, and die at `place`."""
    app, _ = program(url, provider, place)
    app.invoke({"messages": [("user", "how much for food?")]}, session())


def command(arguments: list[str], environment: Mapping[str, str], output: str) -> None:
    """The command line with these arguments; what it prints goes to the file `output`."""
    os.environ.update(environment)
    sys.argv = ["bursar", *arguments]
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        bursar.cli.main.main()
