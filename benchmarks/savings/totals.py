"""The totals that are kept in the repository, and how totals that were found now differ from them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.savings.agent_runs import RunsPlayed
from benchmarks.savings.benchmark import Outcomes
from benchmarks.savings.questions import QuestionsPlayed

KEPT = Path(__file__).with_name("results.json")
RENEW = "python -m benchmarks.savings --renew (with --smoke for the sample)"
PARTS = ("gsm8k", "mmlu", "runs")
Totals = dict[str, dict[str, int]]


def totals_of(outcomes: Outcomes) -> Totals:
    """Return what was spent (nano-dollars) and what was right (counts), for each variant and for the looping runs."""
    found = {
        played.variant.name: {
            **{key: value for name, one in played.questions.items() for key, value in _questions(name, one).items()},
            **_runs("runs", played.runs),
            "spent": played.spent,
        }
        for played in outcomes.variants
    }
    ways = {
        "no limit": outcomes.looping.no_limit,
        "sane default": outcomes.looping.sane_default,
        "guard": outcomes.looping.guard,
    }
    return {**found, **{f"looping runs, {name}": _runs("runs", one) for name, one in ways.items()}}


def share_right(found: Mapping[str, int]) -> float:
    """Return the share of a variant's questions and runs that were right."""
    return sum(found[f"{part} right"] for part in PARTS) / max(1, total_asked(found))


def total_asked(found: Mapping[str, int]) -> int:
    """Return the number of a variant's questions and runs."""
    return sum(found[f"{part} asked"] for part in PARTS)


def _questions(name: str, played: QuestionsPlayed) -> dict[str, int]:
    return {
        f"{name} spent": played.spent,
        f"{name} right": played.right,
        f"{name} asked": played.questions,
        f"{name} cheaply": played.cheaply,
    }


def _runs(name: str, played: RunsPlayed) -> dict[str, int]:
    return {
        f"{name} spent": played.spent,
        f"{name} right": played.successes,
        f"{name} asked": played.runs,
        f"{name} stopped": len(played.stopped),
        f"{name} input tokens": played.input_tokens,
        f"{name} cache hits": played.hits,
    }


def kept(half: str) -> Totals | None:
    """Return the totals that the repository keeps for a half, or for the sample; None if it keeps none."""
    return _all_kept().get(half)


def keep(half: str, totals: Mapping[str, Mapping[str, int]]) -> None:
    """Keep the totals in the repository."""
    KEPT.write_text(json.dumps({**_all_kept(), half: totals}, indent=1) + "\n", encoding="utf-8")


def _all_kept() -> dict[str, Totals]:
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}


def compare(found: Totals, before: Totals | None) -> tuple[list[str], list[str]]:
    """Return what is worse than before, and what has changed otherwise, each in one line.

    It is worse to spend more, and to do less right. Whatever has changed, the last line says how to keep it.
    """
    if before is None:
        return [], [f"no totals are kept to compare with; {RENEW} keeps these"]
    worse: list[str] = []
    changed: list[str] = []
    for variant, name, was, now in _differences(found, before):
        says = f"{variant}, {name}: {was:,} before, {now:,} now"
        is_worse = (name.endswith("spent") and now > was) or (name.endswith("right") and now < was)
        (worse if is_worse else changed).append(says)
    how = f"if that is meant, {RENEW} keeps the new totals"
    if worse:
        worse.append(how)
    elif changed:
        changed.append(how)
    return worse, changed


def _differences(found: Totals, before: Totals) -> Iterator[tuple[str, str, int, int]]:
    for variant in sorted({*found, *before}):
        now, was = found.get(variant, {}), before.get(variant, {})
        for name in sorted({*now, *was}):
            if now.get(name, 0) != was.get(name, 0):
                yield variant, name, was.get(name, 0), now.get(name, 0)
