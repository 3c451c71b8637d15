"""A scenario: what the seller does, what the program does, and what it may cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.money.job import Program
from benchmarks.money.seller import Answer

NANOS = 1_000_000_000
USUAL_WORDS = 150
USUAL_CALL_NANOS = 100_000  # what a program's author measured: a short prompt and an answer of so many words
USUAL = Answer(words=USUAL_WORDS)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A program, a seller, and a limit in US dollars on a request, a session or a tenant.

    The first requests get the answers in `first`, all others `seller`. The contestant's process is killed when the
    seller has got so many requests as `kills` names, and is resumed each time; then `resumes` times more. Several
    `processes` run the program at once, in one session if `one_session`. `lost_because` says why Bursar may lose more
    work here than a peer that stays within the limit.
    """

    name: str
    shows: str
    program: Program = field(default_factory=Program)
    seller: Answer = USUAL
    first: Sequence[Answer] = ()
    limit: str = "0.002"
    scope: Literal["request", "session", "tenant"] = "request"
    kills: Sequence[int] = ()
    resumes: int = 0
    processes: int = 1
    one_session: bool = False
    lost_because: str = ""
