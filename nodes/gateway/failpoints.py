"""Named places at which a test kills the process, to prove that nothing is lost. Outside tests they do nothing."""

import os
import signal
import threading
from collections.abc import Mapping

from bursar.state.errors import ConfigurationError

VARIABLE = "BURSAR_FAILPOINT"
TESTING = "BURSAR_TESTING"
NAMES = ("before_hold", "after_hold", "after_send", "after_response", "after_settle", "before_node_end")
ACTION_NAMES = ("before_intent", "after_intent", "after_effect", "after_result", "before_undo", "in_undo", "after_undo")


class _Armed:
    """The failpoint of this process: its name, and the number of hits until it kills the process."""

    def __init__(self, name: str, hits: int) -> None:
        self.name = name
        self.left = hits
        self.lock = threading.Lock()

    def hit(self, name: str) -> None:
        if name != self.name:
            return
        with self.lock:  # race: several threads hit the failpoint at once; each hit counts
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def arm(environment: Mapping[str, str]) -> None:
    """Arm the failpoint named by `BURSAR_FAILPOINT=name[:n]`: the n-th hit of `name` kills the process with SIGKILL.

    Without `BURSAR_TESTING=1` in the environment nothing is armed. Raises `ConfigurationError` for an unknown name, or
    if `n` is not a whole number from 1 up.
    """
    global _armed  # noqa: PLW0603 - a process has one
    wanted = environment.get(VARIABLE, "") if environment.get(TESTING) == "1" else ""
    name, _, number = wanted.partition(":")
    if name and (name not in (*NAMES, *ACTION_NAMES) or not (number or "1").isdecimal() or int(number or "1") < 1):
        raise ConfigurationError(
            f"{VARIABLE} is one of {', '.join((*NAMES, *ACTION_NAMES))}, with :n for its n-th hit, not {name!r}"
        )
    _armed = _Armed(name, int(number or "1")) if name else None


def hit(name: str) -> None:
    """Count a hit of the failpoint `name`. If the failpoint is armed for this hit, kill the process."""
    if _armed is not None:
        _armed.hit(name)


_armed: _Armed | None = None
arm(os.environ)
