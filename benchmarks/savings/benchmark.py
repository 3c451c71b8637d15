"""Plays all variants, and says what each spent and how much of its work was right."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.savings.agent_runs import RunsPlayed, play_runs
from benchmarks.savings.learning import Policy, fold_of, learn, learn_apart
from benchmarks.savings.prices import Prices
from benchmarks.savings.questions import QuestionsPlayed, play_questions
from benchmarks.savings.records import AgentRun, Recorded
from benchmarks.savings.variants import NOTHING, SANE_DEFAULT, UNLIMITED, VARIANTS, Limits, Variant, guarded
from bursar import Ledger

SOURCES = ("gsm8k", "mmlu")


@dataclass(frozen=True, slots=True)
class Played:
    """What one variant came to: the questions of each source, and the agents' runs."""

    variant: Variant
    questions: dict[str, QuestionsPlayed]
    runs: RunsPlayed

    @property
    def spent(self) -> int:
        """All that was spent, in nano-dollars."""
        return sum(one.spent for one in self.questions.values()) + self.runs.spent

    @property
    def good(self) -> float:
        """The share of questions answered right and runs that succeeded."""
        right = sum(one.right for one in self.questions.values()) + self.runs.successes
        return right / (sum(one.questions for one in self.questions.values()) + self.runs.runs)


@dataclass(frozen=True, slots=True)
class Looping:
    """What the looping runs came to without any limit, with a limit of calls alone, and with the guard."""

    no_limit: RunsPlayed
    sane_default: RunsPlayed
    guard: RunsPlayed


@dataclass(frozen=True, slots=True)
class Outcomes:
    """All that was played."""

    variants: tuple[Played, ...]
    looping: Looping

    def of(self, variant: Variant) -> Played:
        """Return what a variant came to."""
        return next(one for one in self.variants if one.variant is variant)

    @property
    def saved_by_choice(self) -> int:
        """What choosing the model saved, in nano-dollars."""
        chosen = next(one for one in self.variants if one.variant.choice and not one.variant.guard)
        return self.of(NOTHING).spent - chosen.spent


def play(recorded: Recorded, known: Recorded | None = None) -> Outcomes:
    """Play every variant over what was recorded.

    What the choice and the guard must know is learned from `known`. Without it, it is learned from the recorded work by
    cross-validation, so that nothing is judged by what it taught. Must not be called on a running event loop.
    """
    return asyncio.run(aplay(recorded, known))


async def aplay(recorded: Recorded, known: Recorded | None = None) -> Outcomes:
    """Do what `play` does, on the running event loop."""
    prices = Prices.listed()
    apart = learn_apart(recorded.questions, prices) if known is None else [learn(known.questions, prices)]

    def policy_of(text: str) -> Policy:
        return apart[fold_of(text) % len(apart)]

    limits = partial(guarded, known=(known or recorded).runs)
    with tempfile.TemporaryDirectory() as folder:
        played = [await _variant(variant, recorded, policy_of, limits, Path(folder)) for variant in VARIANTS]
        looping = await _looping(recorded, limits, Path(folder))
    return Outcomes(tuple(played), looping)


async def _variant(
    variant: Variant,
    recorded: Recorded,
    policy_of: Callable[[str], Policy],
    limits: Callable[[AgentRun], Limits],
    folder: Path,
) -> Played:
    ledger = Ledger(f"sqlite:///{folder}/{variant.name.replace(' ', '-')}.db")
    try:
        questions = {
            source: await play_questions(
                recorded.of(source), ledger, tenant=source, policy_of=policy_of if variant.choice else None
            )
            for source in SOURCES
        }
        runs = await play_runs(
            recorded.runs,
            ledger,
            tenant="runs",
            limits=limits if variant.guard else _unlimited,
            clock_first=not variant.caching,
        )
    finally:
        ledger.close()
    return Played(variant, questions, runs)


async def _looping(recorded: Recorded, limits: Callable[[AgentRun], Limits], folder: Path) -> Looping:
    ledger = Ledger(f"sqlite:///{folder}/looping.db")
    try:
        ways = (("no-limit", _unlimited), ("sane-default", _sane_default), ("guard", limits))
        return Looping(
            *[
                await play_runs(recorded.looping, ledger, tenant=name, limits=way, clock_first=True)
                for name, way in ways
            ]
        )
    finally:
        ledger.close()


def _unlimited(run: AgentRun) -> Limits:
    return UNLIMITED


def _sane_default(run: AgentRun) -> Limits:
    return SANE_DEFAULT
