"""Extension point: an observer is told of each run of a handler as it goes."""

from dataclasses import dataclass
from typing import Protocol

from bursar.checkpoints.ledger.anchors import Head
from bursar.state.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Which run it is, before it has ended. `level` is the handler's place in the chain of `specialist`.

    Level 0 is the specialist's own handler; above it stand its fallbacks.
    """

    request_id: str
    session_id: str
    specialist: str
    handler: str
    level: int


class Observer(Protocol):
    """Is told when a run starts, of each paid call that it makes, and how it ended.

    A method that an observer lacks is not called. One that raises is logged and the observer hears no more of that
    run; neither the run nor the other observers notice. The calls are made in line: an observer that waits makes the
    run wait. One observer hears of many runs, several of them at the same time.

    An observer may have one method more, `run_stopped(run: RunContext, error)`: the run stops without an end, for a
    person or with its process. When it is resumed, it starts again.
    """

    def run_started(self, run: RunContext) -> None:
        """The handler is about to be called, in the context in which it runs. A resumed run starts again."""
        ...

    def turn(self, run: RunContext, number: int, model: str) -> None:
        """Paid call `number`, counted from 1, is about to be sent to `model`, or to be answered from the ledger.

        It is called in the handler's thread.
        """
        ...

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """The run has ended so, and the ledger has it; `error` is what the handler raised.

        `head` names the event of this end in the session's log: kept outside the database, it is an anchor.
        """
        ...


def anchor_attributes(head: Head) -> dict[str, str | int]:
    """The head of a session's log as attributes of a trace, which is outside the database."""
    return {
        "bursar.session_id": head.session_id,
        "bursar.audit_sequence": head.sequence,
        "bursar.audit_head": head.hash,
    }
