"""`python -m benchmarks mix` plays the mix of `mix.toml` through Genie and prints what it cost and which rules held."""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from benchmarks.mix.drawing import draw
from benchmarks.mix.mix_file import MIX, Mix, read_mix
from benchmarks.mix.playing import BLOCK, Settings, play_block
from benchmarks.mix.summary import summarise
from benchmarks.mix.truths import read_household

RESULTS = Path(__file__).with_name("results.json")
KEPT = MIX.parents[1] / "build" / "mix"


def main(arguments: Sequence[str]) -> int:
    """Play the mix, print the figures, and return 1 if a request went over its budget or its bill over the books."""
    asked = _parser().parse_args(arguments)
    settings = Settings(paid_times=asked.paid, model=asked.model, latency=asked.latency, postgresql=asked.postgresql)
    mix, commit = read_mix(), _commit()
    mix.shares(settings.paid_times)  # refuses a share without room, before anything is played
    folder = KEPT / commit / _name(settings)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _play(mix, settings, asked.requests, folder, asked.workers)
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "mix": commit,
        "settings": dataclasses.asdict(settings),
        "machine": machine(),
        **summarise(mix, rows),
    }
    if asked.keep:
        kept: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**kept, _name(settings): found}, indent=1) + "\n", "utf-8")
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        _show(mix, found)
    return int(bool(found["above_budget"] or found["billed_above_ledger"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks mix", description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="how many at least; 10,000 take half an hour")
    parser.add_argument("--paid", type=int, default=1, metavar="TIMES", help="multiply the share of the paid classes")
    parser.add_argument("--model", choices=("gpt-4o-mini", "gpt-4o"), default="gpt-4o-mini")
    parser.add_argument(
        "--latency", type=float, default=0.0, help="the share of the model's latency to wait; default 0"
    )
    parser.add_argument("--postgresql", action="store_true", help="the server on 127.0.0.1 instead of SQLite")
    parser.add_argument("--workers", type=int, default=2, help="processes; the figures do not depend on them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="keep the figures in benchmarks/mix/results.json")
    return parser


def _name(settings: Settings) -> str:
    base = "postgresql" if settings.postgresql else "sqlite"
    return f"{base} {settings.model} paid x{settings.paid_times} latency x{settings.latency:g}"


def _commit() -> str:
    """Return the commit that last changed `mix.toml`, with a mark if the file has changes; "none" outside of git."""
    log = _git("log", "-1", "--format=%h", "--", str(MIX))
    commit = log.stdout.strip() if log.returncode == 0 else ""
    if not commit:
        return "none"
    return f"{commit}{'-changed' if _git('diff', '--quiet', 'HEAD', '--', str(MIX)).returncode else ''}"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=MIX.parents[1], capture_output=True, text=True, check=False)


def _play(mix: Mix, settings: Settings, requests: int, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Play block after block until there are so many requests, and return them. Blocks in `folder` are not repeated."""
    conversations = _conversations(mix, settings, requests)
    blocks = [(block, min(BLOCK, conversations - block * BLOCK)) for block in range(-(-conversations // BLOCK))]
    files = {one: folder / f"{one[0]:05}-{one[1]}.json" for one in blocks}
    missing = [one for one in blocks if not files[one].exists()]
    print(f"{len(blocks) - len(missing)} of {len(blocks)} blocks are there", file=sys.stderr)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(play_block, *one, settings): one for one in missing}
        for number, done in enumerate(as_completed(waiting), start=1):
            file = files[waiting[done]]
            file.with_suffix(".part").write_text(json.dumps(done.result()), "utf-8")
            file.with_suffix(".part").rename(file)
            print(f"{number} of {len(missing)} blocks played", file=sys.stderr, flush=True)
    return [row for one in blocks for row in json.loads(files[one].read_text("utf-8"))]


def _conversations(mix: Mix, settings: Settings, requests: int) -> int:
    """Return how many conversations have so many requests, in whole blocks if they are more than one block.

    A conversation has one request or two.
    """
    household, drawn, number = read_household(), 0, 0
    while drawn < requests:
        drawn += len(draw(mix, household, number, paid_times=settings.paid_times))
        number += 1
    return number if number <= BLOCK else -(-number // BLOCK) * BLOCK


def _show(mix: Mix, found: dict[str, Any]) -> None:
    console = Console(width=max(Console().width, 120))
    console.print("  ".join(f"{name} {value}" for name, value in found["machine"].items()), style="dim")
    console.print(
        f"{found['requests']:,} requests of mix {found['mix']}: mean ${found['mean']} (goal ≤ ${mix.goal_mean}), "
        f"dearest ${found['dearest']} (budget ${mix.budget})",
        f"billed: mean ${found['mean_billed']}; above the books {found['billed_above_ledger']}; "
        f"above the budget {found['above_budget']}; unknown calls {found['unknown_calls']}",
        f"paid {found['paid']:.1%}, refused {found['refused']:.1%}, cut {found['cut']:.1%}, gaps {found['gaps']:.1%}",
        f"seconds of the model, by the mix: {found['model_seconds']}",
        sep="\n",
    )
    for title in ("compliance", "states_its_figure", "denied_by_its_rule"):
        kept = found[title]
        if kept["of"]:
            bound = f"at least {kept['at_least']:.4%} at {mix.confidence:.0%}"
            console.print(f"{title.replace('_', ' ')}: {kept['held']:,} of {kept['of']:,}, {bound}")
    for key in ("classes", "behaviours"):
        table = Table(key, "requests", "share", "mean", "dearest", "refused", "gaps", "compliant", "states its figure")
        for name, row in found[key].items():
            table.add_row(name, *(str(value) for value in row.values()))
        console.print(table)
    for miss in found["missed"]:
        console.print(f"missed: {miss}")
