"""Extension point: an observer gets the start, the paid calls and the end of each run."""

from dataclasses import dataclass
from typing import Protocol

from bursar.checkpoints.ledger.anchors import Head
from bursar.state.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """A run before its end, as observers get it. `level` is the handler's place in the chain of `specialist`.

    Level 0 is the specialist's own handler; fallbacks have higher levels.
    """

    request_id: str
    session_id: str
    specialist: str
    handler: str
    level: int


class Observer(Protocol):
    """A listener to runs: Bursar calls its methods when a run starts, at each of its paid calls, and when it ends.

    A method that an observer lacks is not called. If a method raises, the error is logged, and the observer gets no
    more calls for that run; neither the run nor the other observers are affected. The run waits until the method
    returns. One observer serves many runs, several of them at the same time.

    An observer may have one method more, `run_stopped(run: RunContext, error)`. Bursar calls it if an exception stops
    the run before its end, such as the interrupt that waits for a person, or the end of the process. If the run is
    resumed, Bursar calls `run_started` again.
    """

    def run_started(self, run: RunContext) -> None:
        """Observe that a run starts. Bursar calls this before the handler, in the context in which the handler runs.

        If a run is cut off and resumed, Bursar calls this again.
        """
        ...

    def turn(self, run: RunContext, number: int, model: str) -> None:
        """Observe a paid call. Bursar calls this before the paid call is sent to `model` or answered from the ledger.

        `number` is the number of the paid call in the run, from 1. This runs in the handler's thread.
        """
        ...

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Observe that a run has ended. Bursar calls this when the ledger has the run's outcome.

        `error` is what the handler raised, None if it raised nothing. `head` is the last event of the session's log:
        the end of this run. An observer that keeps `head` outside the database has an anchor, by which a log that was
        cut or rewritten later is found.
        """
        ...


def anchor_attributes(head: Head) -> dict[str, str | int]:
    """Return `head`, the last event of a session's log, as attributes of a trace.

    A trace is kept outside the database, so the head in it is an anchor: if the log is cut or rewritten later, the log
    no longer has that event.
    """
    return {
        "bursar.session_id": head.session_id,
        "bursar.audit_sequence": head.sequence,
        "bursar.audit_head": head.hash,
    }
