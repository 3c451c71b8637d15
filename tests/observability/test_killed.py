"""A process that is killed after a paid call, and one that goes on: their traces end, and add up to the ledger."""

import signal
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from bursar import Ledger
from tests.observability import killed_program
from tests.support.provider import Provider
from tests.support.tracing.langsmith_client import KEY, settings
from tests.support.tracing.langsmith_server import LangSmithServer
from tests.support.tracing.received_runs import NANO

pytestmark = [pytest.mark.crash]
WAIT_SECONDS, ANSWER = 120, "all is well; all is well"


@pytest.fixture
def server(open_langsmith: type[LangSmithServer]) -> LangSmithServer:
    """LangSmith on loopback, to which other processes trace."""
    return open_langsmith()


@dataclass(frozen=True)
class Processes:
    """Runs the program in processes of its own, traced to `server`."""

    context: ForkServerContext
    server: LangSmithServer
    arguments: tuple[str, str]
    output: Path

    def run(self, place: str = "", *, resumes: bool = False) -> int | None:
        """Run the program to its end, and return its exit code."""
        process = self.context.Process(
            target=killed_program.main,
            args=((*self.arguments, place), settings(self.server), str(self.output)),
            kwargs={"resumes": resumes},
        )
        process.start()
        process.join(WAIT_SECONDS)
        return process.exitcode

    @property
    def printed(self) -> str:
        """What the last process printed."""
        return self.output.read_text()


@pytest.fixture
def runner(
    processes: ForkServerContext, url: str, provider: Provider, server: LangSmithServer, tmp_path: Path
) -> Processes:
    """The program on an SQLite file and the provider."""
    return Processes(processes, server, (url, provider.url), tmp_path / "printed")


@pytest.mark.parametrize("place", ["flushed", "unsent"])
def test_the_traces_of_a_killed_process_end(
    place: str, url: str, runner: Processes, provider: Provider, server: LangSmithServer
) -> None:
    """Its resume closes the runs that it left, and what was paid is counted once."""
    assert runner.run(place) == -signal.SIGKILL
    left = {one.name for one in server.pending()}
    if place == "flushed":
        assert {"bursar", "talker"} <= left

    code = runner.run(resumes=True)

    assert code == 0, runner.printed
    assert ANSWER in runner.printed
    assert len(provider.bills) == 2
    ledger = Ledger(url)
    spent = (ledger.spend("s-1").spent.nanos * NANO).quantize(NANO)
    ledger.database.close()
    assert spent == (provider.billed * NANO).quantize(NANO)
    assert server.pending() == [], server.tree()
    # What the dead process never sent is lost, and is not made up; but nothing is counted twice.
    assert (server.cost() == spent) if place == "flushed" else (Decimal(0) < server.cost() <= spent), server.tree()
    replayed = [one for one in server.of_type("llm") if one.metadata.get("bursar.replayed")]
    assert [one.total_cost for one in replayed] == [0]
    root = server.roots()[-1]
    assert root.metadata["bursar.resumed"] is True
    assert {one.metadata["thread_id"] for one in server.runs()} == {"s-1"}


def test_a_closed_run_says_that_its_process_is_gone(runner: Processes, server: LangSmithServer) -> None:
    """Agent and root of the dead process have an end and an error, in their own trace."""
    runner.run("flushed")
    dead = {one.id for one in server.pending()}
    runner.run(resumes=True)
    assert dead
    closed = [one for one in server.runs() if one.id in dead]
    assert all(one.error and not one.is_pending for one in closed), server.tree()
    assert len(server.traces()) == 2
    assert server.complaints() == []


def test_nothing_of_the_key_is_printed_while_langsmith_is_down(runner: Processes, server: LangSmithServer) -> None:
    """Neither the key nor an end of it; the answer is there."""
    server.close()
    assert runner.run() == 0, runner.printed
    assert ANSWER in runner.printed
    parts = {KEY[start : start + 4] for start in range(len(KEY) - 3)} - {"test", "ests", "-key"}
    assert {part for part in parts if part in runner.printed} == set(), runner.printed
