"""What a contestant gets and gives back: a job a line on its stdin, a result a line on its stdout.

The peers' environment has none of Bursar's packages, so this file imports the standard library alone.
"""

import asyncio
import dataclasses
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

MAX_SECONDS = 60  # of one job
Shape = Literal["calls", "fan_out", "agent", "team", "sessions", "structured", "embeddings"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the user's program does in one request; in `sessions`, what it does in many.

    * `calls` asks `calls` questions one after another, `fan_out` asks them at once.
    * `agent` is a loop with a tool, `team` an agent whose tool asks another agent, `depth` deep.
    * `sessions` asks `turns` questions in each of `calls` sessions of one tenant.
    * `structured` wants a rating by a schema, `embeddings` has `calls` batches of `batch` texts embedded.

    The model is asked for at most `max_tokens`; None leaves it to the model. `options` are further fields of the call,
    `extra_body` has fields that go around the library. `fallback` is asked if `model` fails, `cheaper` if `model` is
    too dear. A call is sent again `retries` times after a fault, and has `timeout` seconds.
    """

    shape: Shape = "calls"
    calls: int = 1
    prompt_bytes: int = 0
    model: str = "gpt-4o-mini"
    fallback: str = ""
    cheaper: str = ""
    max_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    extra_body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stream: bool = False
    retries: int = 2
    timeout: float = 10.0
    tool_bytes: int = 20
    depth: int = 2
    turns: int = 1
    at_once: bool = False
    regenerates: bool = False
    batch: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a program, or its resumption if `leg` is above 0.

    The `limit`, in US dollars, is of one request, one session or one tenant, as `scope` says. What must outlive the
    process is kept in `folder`. `calls_paid` is how many ordinary calls the limit pays, for those who count calls.
    """

    scenario: str
    program: Program
    url: str
    folder: str
    limit: str
    scope: Literal["request", "session", "tenant"] = "request"
    calls_paid: int = 1
    leg: int = 0
    process: int = 0
    session: str = "s-0"

    @staticmethod
    def read(line: str) -> "Job":
        """Return the job that `write` wrote."""
        told: dict[str, Any] = json.loads(line)
        return Job(program=Program(**told.pop("program")), **told)

    def write(self) -> str:
        """Return the job as one line."""
        return json.dumps(dataclasses.asdict(self))

    def prompt(self, number: int) -> str:
        """Return question `number`."""
        notes = "Note. " * (self.program.prompt_bytes // 6)
        return f"Question {number} of {self.session}: where does my money go? {notes}"


@dataclass(kw_only=True)
class Told:
    """What the program's caller got: texts, how the request ended, and what the contestant had no way to say.

    `ended` is "answer" if the request returned, otherwise the name of the exception that its caller got.
    """

    said: list[str] = field(default_factory=list[str])
    ended: str = "answer"
    no_way: str = ""


Run = Callable[[Job, Told], Awaitable[None]]


def serve(run: Run, packages: tuple[str, ...], *, no_way: Callable[[Job], str] = lambda job: "") -> None:
    """Do the jobs that come on stdin until it ends, each in a process of its own, forked from this one.

    The first line of output says the packages' versions. Each job has two lines: the process's id as it begins, and
    what its caller got, or `null` if the process was killed. What `run` raises ends the job, and its caller keeps what
    was `said` by then.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(json.dumps({package: version(package) for package in packages}), file=answers)
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            signal.alarm(2 * MAX_SECONDS)  # ends a job that blocks its event loop
            print(os.getpid(), file=answers)
            job = Job.read(line)
            print(json.dumps(dataclasses.asdict(_do(run, job, Told(no_way=no_way(job))))), file=answers)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print("null", file=answers)


def _do(run: Run, job: Job, told: Told) -> Told:
    os.chdir(job.folder)  # LiteLLM keeps its budget in the working directory
    try:
        asyncio.run(asyncio.wait_for(run(job, told), MAX_SECONDS))
    except Exception as error:  # noqa: BLE001 - it is the end of the request, and is reported
        told.ended = f"{type(error).__name__}: {str(error)[:200]}"
    return told
