"""What is at stake in an answer, from the household's figures, and the handler that spends on words accordingly.

A stake weighs a decision; it is no advice. An amount in another currency counts one to one.
"""

from collections.abc import Callable
from decimal import Decimal

from bursar import USD, Cascade, ChoiceFacts, Choose, Report, Specialist, Task
from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.reporting import all_facts

CENTS = Decimal("0.01")
MOST_AT_STAKE = Decimal(1_000_000)
SETTLED, WORDED, SMALL, CAREFUL = (
    "settled",
    "worded",
    "small",
    "careful",
)  # branches of the choice, rungs of the cascade

StakeOfAnalysis = Callable[[Analysis], Decimal]


def sum_of(analysis: Analysis, wanted: Callable[[str], bool]) -> Decimal:
    """Return the sum of the amounts of money in the analysis and its findings whose key is `wanted`, each key once."""
    found = {fact.key: fact.value for fact in all_facts(analysis) if fact.unit == "money" and wanted(fact.key)}
    numbers = [abs(Decimal(value)) for value in found.values() if isinstance(value, Decimal | int)]
    return min(sum(numbers, Decimal(0)), MOST_AT_STAKE).quantize(CENTS)


def is_worded(report: Report) -> bool:
    """Whether the answer is in a model's words: they hold against the tool's facts, and the tool's text is not used."""
    return "templated" not in report.data


def has_nothing_at_stake(task: Task, facts: ChoiceFacts) -> bool:
    """Whether no amount of the household depends on the answer."""
    return facts.stake == USD(0)


def by_value(
    settled: Specialist, small: Specialist, careful: Specialist | None, stake: Callable[[Task], Decimal]
) -> Choose:
    """Return the handler of an agent with a stake.

    If nothing is at stake, the rules' own text is the answer. Otherwise the small model words it, and where its words
    do not hold, the careful one does, if that is worth it.
    """
    rungs = {SMALL: small} if careful is None else {SMALL: small, CAREFUL: careful}
    worded = Cascade(rungs, accept=is_worded, stake=stake)
    return Choose(
        {SETTLED: has_nothing_at_stake}, otherwise=WORDED, rungs={SETTLED: settled, WORDED: worded}, stake=stake
    )
