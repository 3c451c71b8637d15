"""Runs a scenario with a contestant, and measures what the seller billed and what the caller got."""

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.money.job import Job, Told
from benchmarks.money.scenario import NANOS, USUAL_CALL_NANOS, Scenario
from benchmarks.money.seller import MARK, Seller

ROOT = Path(__file__).parents[2]
START_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A library, the interpreter that has it, the module that speaks for it, and the limit that it was given."""

    name: str
    python: str
    module: str
    limit: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one contestant did in one scenario; amounts in nano-dollars.

    `lost` is what was billed for answers that were of no use to the caller. `answers` counts those that the caller got.
    `ended` says how each caller's request ended, `no_way` what the contestant could not be told.
    """

    scenario: str
    contestant: str
    limit: int
    billed: int
    lost: int
    answers: int
    ended: list[str]
    no_way: str

    @property
    def over(self) -> int:
        """The nano-dollars billed above the limit."""
        return max(0, self.billed - self.limit)

    @property
    def is_answered(self) -> bool:
        """Whether every caller's request returned; False if one ended in an exception."""
        return all(end == "answer" for end in self.ended)


class Worker:
    """A contestant's process with its libraries loaded. It forks a process for each job, one at a time."""

    def __init__(self, contestant: Contestant) -> None:
        self._process = subprocess.Popen(
            [contestant.python, "-m", contestant.module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._job: int | None = None
        self._begun = threading.Event()

    def read(self) -> str:
        """Return the next line that the process says. Raises `RuntimeError` if it has ended."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        raise RuntimeError(f"a contestant ended by itself: {self._process.args!r}")

    def do(self, job: Job) -> Told | None:
        """Return what the job's caller got; None if the job's process was killed."""
        assert self._process.stdin is not None
        self._begun.clear()
        self._process.stdin.write(job.write() + "\n")
        self._process.stdin.flush()
        self._job = int(self.read())
        self._begun.set()
        told = json.loads(self.read())
        return Told(**told) if told else None

    def kill(self) -> None:
        """Kill the job's process, with a signal that it cannot handle."""
        # Race: the job may have called the seller before `do` has read the process's id.
        if self._begun.wait(START_SECONDS) and self._job is not None:
            os.kill(self._job, signal.SIGKILL)

    def close(self) -> None:
        """End the process, and wait for its end."""
        self._process.kill()
        self._process.communicate()


class Crew:
    """Two workers of one contestant."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self._workers = [Worker(contestant), Worker(contestant)]
        versions = [worker.read() for worker in self._workers]
        self.versions: dict[str, str] = json.loads(versions[0])

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.close()

    def measure(self, scenario: Scenario) -> Measured:
        """Run the scenario against a seller of its own, and return what came of it."""
        kill = _Kill(list(scenario.kills), self._workers[0].kill)
        seller = Seller(scenario.seller, scenario.first, kill)
        with tempfile.TemporaryDirectory(prefix="money-", ignore_cleanup_errors=True) as folder:
            job = _job(scenario, seller.url, folder)
            told = self._together(scenario, job) if scenario.processes > 1 else [self._alone(scenario, job)]
        seller.close()
        said = [text for one in told for text in one.said]
        return Measured(
            scenario=scenario.name,
            contestant=self.contestant.name,
            limit=limit_of(scenario),
            billed=seller.billed,
            lost=seller.lost(said),
            answers=len(set(MARK.findall("\n".join(said)))),
            ended=[one.ended for one in told],
            no_way=told[0].no_way,
        )

    def _alone(self, scenario: Scenario, job: Job) -> Told:
        """Do the job, leg after leg, and return all that its caller got and how the last leg ended."""
        said: list[str] = []
        resumes = scenario.resumes
        for leg in range(len(scenario.kills) + scenario.resumes + 1):
            told = self._workers[0].do(dataclasses.replace(job, leg=leg))
            said += told.said if told else []
            if told is not None:
                if not resumes:
                    return dataclasses.replace(told, said=said)
                resumes -= 1
        raise RuntimeError(f"{self.contestant.name} was killed too often in {scenario.name}")

    def _together(self, scenario: Scenario, job: Job) -> list[Told]:
        """Do the job in several processes at once, and return what each caller got."""

        def do(process: int) -> Told:
            session = job.session if scenario.one_session else f"s-{process}"
            told = self._workers[process].do(dataclasses.replace(job, process=process, session=session))
            return told or Told(ended="killed")

        with ThreadPoolExecutor(scenario.processes) as pool:
            return list(pool.map(do, range(scenario.processes)))


@dataclass
class _Kill:
    """Kills the job when the seller has got so many requests as `at` names next."""

    at: list[int]
    kill: Callable[[], None]

    def __call__(self, number: int) -> None:
        if self.at and number >= self.at[0]:
            self.at.pop(0)
            self.kill()


def limit_of(scenario: Scenario) -> int:
    """Return the scenario's limit in nano-dollars."""
    whole, _, part = scenario.limit.partition(".")
    return int(whole) * NANOS + int(part.ljust(9, "0") or 0)


def _job(scenario: Scenario, url: str, folder: str) -> Job:
    paid = limit_of(scenario) // USUAL_CALL_NANOS
    return Job(
        scenario=scenario.name,
        program=scenario.program,
        url=url,
        folder=folder,
        limit=scenario.limit,
        scope=scenario.scope,
        calls_paid=max(1, paid) if limit_of(scenario) else 0,
    )
