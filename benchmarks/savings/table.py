"""The figures as plain text, at most 130 columns wide."""

from collections import Counter
from collections.abc import Sequence

from benchmarks.savings.agent_runs import RunsPlayed
from benchmarks.savings.benchmark import Outcomes, Played
from benchmarks.savings.questions import QuestionsPlayed
from benchmarks.savings.variants import ALL, CACHING, CHOICE, GUARD, NOTHING

NANOS = 10**9
HEAD = ("", "gsm8k", "right", "mmlu", "right", "agent runs", "success", "in all", "saved", "good work")


def lines(outcomes: Outcomes) -> list[str]:
    """Return the table of the variants, the table of looping runs, and what follows from them."""
    rows = [HEAD, *(_row(played, outcomes.of(NOTHING)) for played in outcomes.variants)]
    return [*_aligned(rows), "", *_about(outcomes), "", *_looping(outcomes), "", *_ratio(outcomes)]


def dollars(nanos: int) -> str:
    """Return an amount of nano-dollars as dollars, with four decimals."""
    whole, part = divmod(abs(nanos) // 10**5, 10**4)
    return f"{'-' if nanos < 0 else ''}${whole}.{part:04}"


def percent(part: float, whole: float) -> str:
    """Return a share in percent, with one decimal; a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _row(played: Played, nothing: Played) -> tuple[str, ...]:
    asked = [
        cell for one in played.questions.values() for cell in (dollars(one.spent), percent(one.right, one.questions))
    ]
    return (
        played.variant.name,
        *asked,
        dollars(played.runs.spent),
        percent(played.runs.successes, played.runs.runs),
        dollars(played.spent),
        percent(nothing.spent - played.spent, nothing.spent),
        percent(played.good, 1),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]


def _about(outcomes: Outcomes) -> list[str]:
    guard, nothing = outcomes.of(GUARD).runs, outcomes.of(NOTHING).runs
    best = min((outcomes.of(one) for one in (GUARD, CHOICE, CACHING)), key=lambda played: played.spent)
    together = outcomes.of(ALL).spent
    beat = "beats" if together < best.spent else "does NOT beat"
    caching = outcomes.of(CACHING).runs
    return [
        *(_about_choice(name, one) for name, one in outcomes.of(CHOICE).questions.items()),
        f"The guard stopped {len(guard.stopped)} of {guard.runs} recorded runs and lost "
        f"{nothing.successes - guard.successes} successes.",
        f"Caching: {percent(caching.hits, caching.input_tokens)} of the agents' input tokens were hits.",
        f"All together {beat} the best single way ({best.variant.name}): "
        f"{dollars(together)} against {dollars(best.spent)}.",
    ]


def _about_choice(name: str, played: QuestionsPlayed) -> str:
    return (
        f"Model choice took the cheap answer to {played.cheaply} of {played.questions} questions of {name}: "
        f"{played.points:+.1f} points (± {played.margin:.1f} by chance)."
    )


def _looping(outcomes: Outcomes) -> list[str]:
    looping = outcomes.looping
    rows = [("looping runs, made by the suite", "spent", "a run", "stopped")]
    named = (("no limit", looping.no_limit), ("40 calls alone", looping.sane_default), ("guard", looping.guard))
    rows += [(name, dollars(one.spent), dollars(one.spent // max(1, one.runs)), _why(one)) for name, one in named]
    return _aligned(rows)


def _why(played: RunsPlayed) -> str:
    counts = Counter(one.limit for one in played.stopped)
    return ", ".join(f"{count} by {limit}" for limit, count in sorted(counts.items())) or "none"


def _ratio(outcomes: Outcomes) -> list[str]:
    """Return guard : model choice, against no limit and against a sane one."""
    looping, chosen = outcomes.looping, outcomes.saved_by_choice
    many, found = looping.guard.runs, [f"Model choice saved {dollars(chosen)} on the questions."]
    for name, without in (("no limit", looping.no_limit), ("a limit of 40 calls", looping.sane_default)):
        saved = without.spent - looping.guard.spent
        said = f"Against {name}, the guard saved {dollars(saved)} on {many} looping runs"
        if chosen > 0 and saved > 0:
            said += f": {saved / chosen:.3g} times what choice saved; {chosen * many / saved:.2g} of them save as much"
        found.append(f"{said}.")
    return found
