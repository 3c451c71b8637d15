"""One measurement: which recorded work is played, what it came to, and how that compares with what is kept."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.savings.benchmark import play
from benchmarks.savings.records import DATA, DEVELOPMENT, Recorded, is_there, read
from benchmarks.savings.sample import looping, sample
from benchmarks.savings.table import lines
from benchmarks.savings.totals import Totals, compare, kept, totals_of

SAMPLE = "sample"
LOOPS = 21  # seven of each kind


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: the half or the sample, its totals, the lines to print, and what is worse than before."""

    half: str
    totals: Totals
    lines: list[str]
    worse: list[str]


def measure(*, smoke: bool, data: Path = DATA, held_out: str | None = None) -> Measured | None:
    """Play the sample if `smoke`, otherwise the recorded runs in `data`; return None if they are not there.

    With `held_out`, that half is played with what the development half teaches.
    """
    if smoke:
        return _measured(SAMPLE, sample())
    if not is_there(data) or (held_out is not None and not is_there(data, held_out)):
        return None
    development = _with_loops(read(data))
    if held_out is None:
        return _measured(DEVELOPMENT, development)
    return _measured(held_out, _with_loops(read(data, held_out)), development)


def _with_loops(recorded: Recorded) -> Recorded:
    return replace(recorded, looping=looping(recorded.runs, number=LOOPS))


def _measured(half: str, recorded: Recorded, known: Recorded | None = None) -> Measured:
    outcomes = play(recorded, known)
    totals = totals_of(outcomes)
    worse, changed = compare(totals, kept(half)) if known is None else ([], [])
    return Measured(half, totals, [*lines(outcomes), *worse, *changed], worse)
