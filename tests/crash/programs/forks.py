"""A process that has imported everything, and forks itself for each leg of a request: a leg may die, and it lives on.

`legs` is the side of the test, `serve` that of the process. A leg is a line of JSON; its answer is a line of JSON too,
and after it comes a line with the exit status of the fork, negative for the signal that killed it.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

from tests.crash.programs.lines import ENVIRONMENT, ROOT

SLOW_IMPORTS = ("alembic.command", "anyio._backends._asyncio", "psycopg", "sqlalchemy.dialects.postgresql.psycopg")


class Legs:
    """The process that forks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, **leg: Any) -> tuple[int, dict[str, Any] | None]:
        """Run one leg to its end: its exit status and its answer, None where it died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(leg) + "\n")
        stdin.flush()
        answer: dict[str, Any] | None = None
        while (line := stdout.readline()).startswith("{"):
            answer = cast("dict[str, Any]", json.loads(line))
        return int(line), answer


@contextmanager
def legs(module: str) -> Generator[Legs]:
    """The process `python -m module`, which ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    ) as process:
        yield Legs(process)
        assert process.stdin is not None
        process.stdin.close()


def serve(run: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Fork for each line that is read, and `run` the leg there."""
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.write(1, (json.dumps(run(json.loads(line))) + "\n").encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())
