"""`python -m benchmarks.money [--only NAME] [--peer NAME] [--json] [--markdown] [--list]` runs the scenarios."""

import argparse
import dataclasses
import json
import sys
from contextlib import ExitStack

from rich.console import Console

from benchmarks.money.contest import Contestant, Crew, Measured
from benchmarks.money.contestants import BURSAR, CONTESTANTS, install_peers, redis
from benchmarks.money.scenario import Scenario
from benchmarks.money.scenarios import SCENARIOS
from benchmarks.money.table import lost_more, markdown, no_way, show

CAVEATS = (
    "litellm runs as its SDK; its proxy, a server that reserves an estimate before a call, is not run here.",
    "langchain and openai-agents count calls; their limit is the number of ordinary calls that the money pays.",
)


def main() -> int:
    """Run the scenarios that the command line asks for, print what was measured, and return the exit code.

    The code is 1 if Bursar went over a limit, or lost more work than a peer within the limit and no reason is known.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.money", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", default=[], help="run this scenario (repeatable)")
    parser.add_argument("--peer", action="append", metavar="NAME", default=[], help="Bursar and this peer (repeatable)")
    parser.add_argument("--smoke", action="store_true", help="Bursar alone: needs no package index")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="print the part of docs/performance.md")
    parser.add_argument("--list", action="store_true", help="list the scenarios and the contestants")
    asked = parser.parse_args()
    if asked.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:28} {scenario.shows}")
        print(f"\ncontestants: {', '.join(one.name for one in CONTESTANTS)}")
        return 0
    for unknown in {*asked.only} - {one.name for one in SCENARIOS} | {*asked.peer} - {one.name for one in CONTESTANTS}:
        parser.error(f"there is no {unknown}; see --list")
    scenarios = [one for one in SCENARIOS if one.name in asked.only or not asked.only]
    chosen = [
        one for one in CONTESTANTS if one is BURSAR or (not asked.smoke and one.name in (asked.peer or [one.name]))
    ]
    notes, versions, found = _run(scenarios, chosen)
    if asked.json:
        rows = [{**dataclasses.asdict(one), "over": one.over} for one in found]
        said = [*notes, *no_way(found), *lost_more(found)]
        print(json.dumps({"versions": versions, "results": rows, "notes": said}, indent=1))
    elif asked.markdown:
        print(markdown(chosen, found, versions), end="")
    else:
        console = Console(width=max(Console().width, 150))
        show(console, chosen, found)
        for note in notes:
            console.print(note, style="dim")
    return int(any(one.over for one in found if one.contestant == BURSAR.name) or _unexplained(found))


def _run(scenarios: list[Scenario], chosen: list[Contestant]) -> tuple[list[str], dict[str, str], list[Measured]]:
    """Return notes, the versions of the contestants' packages, and what was measured."""
    notes: list[str] = []
    versions: dict[str, str] = {}
    found: list[Measured] = []
    with ExitStack() as stack:
        if len(chosen) > 1:
            install_peers()
            notes += [note for note in (stack.enter_context(redis()), *CAVEATS) if note]
        for contestant in chosen:
            crew = Crew(contestant)
            stack.callback(crew.close)
            versions.update(crew.versions)
            for scenario in scenarios:
                print(f"\r{contestant.name} {scenario.name}\x1b[K", end="", file=sys.stderr)
                found.append(crew.measure(scenario))
        print("\r\x1b[K", end="", file=sys.stderr)
    return notes, versions, found


def _unexplained(found: list[Measured]) -> bool:
    return any("NO REASON" in line for line in lost_more(found))


if __name__ == "__main__":
    sys.exit(main())
