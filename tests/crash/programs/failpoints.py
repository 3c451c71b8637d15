"""Failpoints: places in gateway and nodes at which a test kills its process, to prove that nothing is lost.

Each place raises the audit event `bursar.failpoint` with its name (`sys.audit`, PEP 578), which does nothing unless
somebody listens. A process in which this module was never imported cannot be killed by it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

NAMES = ("before_hold", "after_hold", "after_send", "after_response", "after_settle", "before_node_end")
PLANNING_NAMES = ("after_intake", "after_routing", "after_admission", "after_gate")
ACTION_NAMES = ("before_intent", "after_intent", "after_effect", "after_result", "before_undo", "in_undo", "after_undo")
CASCADE_NAMES = ("before_rung_decision", "after_rung_decision")
ALL_NAMES = (*NAMES, *PLANNING_NAMES, *ACTION_NAMES, *CASCADE_NAMES)

listeners: list[Callable[[str], None]] = []  # each gets the name of a place that was reached


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


def arm(wanted: str) -> None:
    """Arm the failpoint `name[:n]`: the n-th hit of `name` kills the process with SIGKILL. "" arms nothing.

    Raises `ValueError` for an unknown name, or if `n` is not a whole number from 1 up.
    """
    global _armed
    name, _, number = wanted.partition(":")
    if name and (name not in ALL_NAMES or not (number or "1").isdecimal() or int(number or "1") < 1):
        raise ValueError(f"a failpoint is one of {', '.join(ALL_NAMES)}, with :n, not {wanted!r}")
    _armed = _Armed(name, int(number or "1")) if name else None


def _reached(event: str, arguments: tuple[object, ...]) -> None:
    if event == "bursar.failpoint":
        name = str(arguments[0])
        if _armed is not None:
            _armed.hit(name)
        for listen in listeners:
            listen(name)


_armed: _Armed | None = None
sys.addaudithook(_reached)
