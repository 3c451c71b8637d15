"""Draining: after SIGTERM, a process finishes and stores the steps that are under way, and begins no other step."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from langgraph.runtime import RunControl

from bursar.state.errors import ConfigurationError

REASON = "SIGTERM"
_installed: list[RunControl] = []  # of this process, the innermost last


@contextmanager
def drain_on_sigterm() -> Generator[RunControl]:
    """Inside the block, SIGTERM ends every run of a supervisor's graph before the run's next step.

    A run, in whatever thread or event loop, finishes its present step, which has a deadline, and stores it. Then the
    run frees its session and raises LangGraph's `GraphDrained`; a run that begins later raises that too. Each session
    can be resumed as after a crash, at once and in any process: `invoke(None, config)`. A second SIGTERM ends the
    process at once, without any of this; answers that were paid for are kept all the same.

    The block gets the `RunControl` for runs of other graphs: `graph.invoke(…, control=control)`. If a run is given
    another `control`, SIGTERM does not end the run. An earlier handler of SIGTERM is called too, at the first SIGTERM,
    and is restored after the block. Raises `ConfigurationError` outside the main thread, which alone handles signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("signals are handled in the main thread: enter drain_on_sigterm() there")
    control, process, before = RunControl(), os.getpid(), signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: FrameType | None) -> None:
        if control.drain_requested or os.getpid() != process:  # a forked child has the handler, but none of the runs
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        control.request_drain(REASON)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, drain)
    _installed.append(control)
    try:
        yield control
    finally:
        _installed.remove(control)
        if signal.getsignal(signal.SIGTERM) is drain:
            # None: set by other code than Python's, which Python cannot set again.
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def installed() -> RunControl | None:
    """Return the `RunControl` for a run that is given none: the innermost `drain_on_sigterm` block's.

    If SIGTERM came already, return the control that it drained. Returns None outside every block.
    """
    return next((control for control in _installed if control.drain_requested), _installed[-1] if _installed else None)
