"""`Process`: an identity of this process, by which another process on the same host can tell whether it has ended."""

import os
import platform
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, identified by its host, its number (pid) and the time of its start.

    So a later process with the same number, or a process with that number in another container, is a different
    `Process`. `host` and `process` are text that only this module reads.
    """

    host: str
    process: str

    @classmethod
    def current(cls) -> "Process":
        """Return the identity of the process that runs this."""
        return _process(os.getpid())

    @property
    def name(self) -> str:
        """The process as a person reads it: `process 4711 on db-7`."""
        return f"process {self.process.partition(' ')[0]} on {self.host.partition(' ')[0]}"

    @property
    def is_gone(self) -> bool:
        """Whether the process has surely ended: it was on this host and is not there any more. False on other hosts."""
        if self.host != _host():
            return False
        number, _, start = self.process.partition(" ")
        if not number.isdecimal():
            return False
        found = _start(int(number)) if start else None
        return _is_free(int(number)) if found is None else found != start


@lru_cache(maxsize=1)  # by number: a fork is another process
def _process(number: int) -> Process:
    return Process(_host(), f"{number} {_start(number) or ''}".strip())


@cache
def _host() -> str:
    """Return the host's name; on Linux also its boot id and PID namespace, which tell hosts of the same name apart."""
    boot = _PROC / "sys/kernel/random/boot_id"
    try:
        return f"{platform.node() or 'host'} {boot.read_text().strip()} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return platform.node() or "host"


def _start(number: int) -> str | None:
    """Return when the process began, in ticks since the boot; "" if it is a zombie; None if that cannot be read."""
    try:
        fields = (_PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] == "Z" else fields[19]  # proc(5): state is field 3, starttime field 22


def _is_free(number: int) -> bool:
    """Whether no process has this number. Signal 0 finds that out even if the system hides the processes of others."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
