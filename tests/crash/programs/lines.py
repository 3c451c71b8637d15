"""A process whose doings are told by the lines that it prints, and that goes on when it is written a line."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
WAIT_SECONDS = 300  # not for ever; on a machine that is busy a program takes a minute to start


class Running:
    """The process."""

    def __init__(self, process: "subprocess.Popen[str]", entered: IO[str], printed: IO[str]) -> None:
        self._process = process
        self._entered = entered
        self._printed = printed

    def says(self, line: str, times: int = 1) -> None:
        """Wait until it has said so, that many times and nothing else between."""
        assert [self._printed.readline().strip() for _ in range(times)] == [line] * times

    def go_on(self) -> None:
        """Write it the line that it waits for."""
        self._entered.write("go on\n")
        self._entered.flush()

    def send_sigterm(self) -> None:
        """Tell it to end."""
        self._process.send_signal(signal.SIGTERM)

    def ends(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait(WAIT_SECONDS)


@contextmanager
def running(module: str, *arguments: str) -> Generator[Running]:
    """`python -m module` with these arguments, killed at the end if it still runs."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Running(process, process.stdin, process.stdout)
        finally:
            process.kill()
