"""Draws conversations from the mix: each by the seed and its number alone, so that any part of a run can be played."""

import calendar
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.mix.mix_file import Ask, Mix
from benchmarks.mix.truths import CATEGORIES, Household

MONTHS = tuple(calendar.month_name[1:])
# Numbers for documentation and tests: they are valid, and nobody has them.
PASTED = (("card", "4111 1111 1111 1111"), ("account", "DE89 3704 0044 0532 0130 00"))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A request, and what its answer must be.

    The answer must come from `agents`, be ended by the text of `disclosure`, state `figure`, and show none of
    `secrets`. If `denied_by`, it must be denied by this rule. `behaviour` is what the model does with it.
    """

    kind: str
    question: str
    agents: tuple[str, ...]
    disclosure: str | None
    figure: str | None
    denied_by: str | None
    behaviour: str
    secrets: tuple[str, ...]
    seed: int


def draw(mix: Mix, household: Household, number: int, *, paid_times: int = 1) -> tuple[Drawn, ...]:
    """Return the requests of the conversation with this number, in their order."""
    rng = random.Random(f"{mix.seed} {paid_times} {number}")
    kind = _choose(rng, mix.conversations(paid_times))
    opening = mix.classes[kind].follows
    category = rng.choice(sorted(CATEGORIES))
    turns = (opening, kind) if opening is not None else (kind,)
    return tuple(_request(mix, household, turn, category, rng) for turn in turns)


def _choose(rng: random.Random, weights: Mapping[str, Decimal]) -> str:
    return rng.choices([*weights], [float(weight) for weight in weights.values()])[0]


def _request(mix: Mix, household: Household, kind: str, category: str, rng: random.Random) -> Drawn:
    one = mix.classes[kind]
    ask = rng.choice(one.ask)
    blanks = _blanks(household, category, rng)
    question = ask.text.format(**blanks)
    secrets = household.account_numbers
    if one.paid and rng.random() < mix.tokens.pasted:
        what, pasted = rng.choice(PASTED)
        question = f"{question} (my {what} is {pasted})"
        secrets = (*secrets, pasted)
    return Drawn(
        kind=kind,
        question=question,
        agents=one.agents,
        disclosure=one.disclosure,
        figure=_figure(ask, household, blanks),
        denied_by=ask.denied_by,
        behaviour=_choose(rng, mix.behaviour),
        secrets=secrets,
        seed=rng.getrandbits(32),
    )


def _blanks(household: Household, category: str, rng: random.Random) -> dict[str, str]:
    """Return what fills the blanks of a question. A blank that it does not have is drawn all the same."""
    first = rng.randint(1, 20)
    return {
        "month": rng.choice(MONTHS),
        "payee": rng.choice(household.payees()),
        "category": category,
        "first": str(first),
        "last": str(rng.randint(first + 1, 28)),
        "dollars": str(rng.randint(20, 900)),
    }


def _figure(ask: Ask, household: Household, blanks: Mapping[str, str]) -> str | None:
    """Return the figure that the answer must state, as Genie writes figures; None if none is asked for."""
    month = MONTHS.index(blanks["month"]) + 1
    match ask.truth:
        case None:
            return None
        case "paid to a payee in a month":
            return dollars(household.paid(blanks["payee"], month))
        case "spent on a category in a month" | "spent on the same category in a month":
            return dollars(household.spent(blanks["category"], month))
        case "transactions in days":
            found = household.booked(month, int(blanks["first"]), int(blanks["last"]))
            return f"{found} transaction{'s' * (found != 1)} "
        case "transactions stored":
            return f"{len(household.rows):,} transactions"
        case "end of the checking account":
            return household.account_numbers[0][-4:]
        case "charged twice":
            return dollars(household.charged_twice())
        case "income tax":
            return dollars(household.income_tax())
        case unknown:
            raise ValueError(f"no truth is called {unknown!r}")


def dollars(amount: Decimal) -> str:
    """Return the amount as Genie writes it, such as $1,234.50."""
    return f"${amount:,.2f}"
