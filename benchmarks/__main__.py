"""`python -m benchmarks [--smoke] [--json] [NAME…]` runs the benchmarks and prints their figures.

`python -m benchmarks mix` has options of its own: it plays requests through Genie, see `mix/command.py`.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import warnings
from importlib import import_module

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Result, Rounds, machine

NAMES = (
    "imports",
    "governed_request",
    "tracing",
    "wrapper",
    "hanging",
    "event_loops",
    "hold_settle",
    "sessions_at_once",
    "session_length",
    "saver",
    "savings",
    "growing_holds",
)
UNITS = (("s", 1e6), ("ms", 1e3), ("µs", 1.0))


def main() -> int:
    """Run the benchmarks that the command line names (all by default), print them, and return the exit code.

    The code is 1 if a ratio missed its bound or a benchmark found a fault, otherwise 0. A smoke run has no bounds.
    """
    if sys.argv[1:2] == ["mix"]:
        from benchmarks.mix.command import main as mix

        return mix(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Bursar against its peers, as ratios.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--smoke", action="store_true", help="a few rounds, to see that everything runs; no bounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    warnings.simplefilter("ignore")  # the peers' own deprecations
    results: list[Result] = []
    console = Console(width=max(Console().width, 110))
    if not asked.json:
        console.print("  ".join(f"{name} {value}" for name, value in machine().items()), style="dim")
    for name in asked.names or NAMES:
        found: list[Result] = import_module(f"benchmarks.{name}").run(smoke=asked.smoke)
        _check(found, smoke=asked.smoke)
        results += found
        if not asked.json:
            for result in found:
                _show(console, result)
    if asked.json:
        print(json.dumps({"machine": machine(), "results": [dataclasses.asdict(result) for result in results]}))
    missed = [ratio for result in results for ratio in result.ratios if not ratio.holds]
    faults = [fault for result in results for fault in result.faults]
    return 1 if faults or (missed and not asked.smoke) else 0


def _check(results: list[Result], *, smoke: bool) -> None:
    """Raise `AssertionError` if a contender took no time in a round, or if a ratio is not a number above zero.

    In a smoke run, a ratio may be below zero: in so few rounds, a difference of two contenders may be negative.
    """
    least = float("-inf") if smoke else 0
    for result in results:
        if not result.rounds and not result.ratios:
            continue  # it measures no time
        for rounds in result.rounds:
            if not rounds.wall or min(rounds.wall) <= 0 or sum(rounds.cpu) <= 0:
                raise AssertionError(f"{result.title}: {rounds.name} took no time, so nothing was measured")
        if not result.ratios or not all(least < ratio.median < float("inf") for ratio in result.ratios):
            raise AssertionError(f"{result.title}: a ratio makes no sense: {result.ratios}")


def _show(console: Console, result: Result) -> None:
    if not result.rounds:
        print(result.title, *result.notes, sep="\n")
        return
    took = Table("contender", "CPU", "wall", "spread of CPU", title=result.title, title_justify="left")
    for rounds in result.rounds:
        took.add_row(rounds.name, _time(rounds.cpu), _time(rounds.wall), _spread(rounds))
    ratios = Table("ratio", "median", "quartiles", "bound")
    for ratio in result.ratios:
        bound = "" if ratio.bound is None else f"≤ {ratio.bound:g} {'holds' if ratio.holds else 'MISSED'}"
        of = f"{ratio.of} / {ratio.to}, {ratio.what}"
        ratios.add_row(of, f"{ratio.median:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}", bound)
    console.print(took, ratios, *result.notes, sep="\n")


def _time(microseconds: tuple[float, ...]) -> str:
    median = statistics.median(microseconds)
    unit, factor = next(((unit, factor) for unit, factor in UNITS if median >= factor), UNITS[-1])
    return f"{median / factor:.3g} {unit}"


def _spread(rounds: Rounds) -> str:
    median = statistics.median(rounds.cpu)
    return f"{min(rounds.cpu) / median:.2f} to {max(rounds.cpu) / median:.2f}"


if __name__ == "__main__":
    sys.exit(main())
