"""Plays recorded questions: the dear model answers each one, or a cascade and what was learned decide who answers."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage

from benchmarks.savings.apps import a_specialist, an_app, ask_all
from benchmarks.savings.learning import Policy
from benchmarks.savings.prices import CHEAP, DEAR, Prices
from benchmarks.savings.recorded_model import RecordedModel, usage_of
from benchmarks.savings.records import Question
from bursar import Cascade, ChoiceFacts, Choose, Ledger, Report, Task, meter

DEAR_ANSWER, CHEAP_ANSWER = "dear", "cheap"  # for an answer that was not recorded, of no more than one token
AT_STAKE = "1"  # US dollars, for a cheap answer that its check refused: far above the dear model's price
PolicyOf = Callable[[str], Policy]


@dataclass(frozen=True, slots=True)
class QuestionsPlayed:
    """What was spent on the questions, in nano-dollars, how many answers were right, and how many were cheap ones.

    Of the cheap answers, `lost` were wrong where the dear model is right, and `gained` right where it is wrong.
    """

    spent: int
    right: int
    questions: int
    cheaply: int
    lost: int
    gained: int

    @property
    def points(self) -> float:
        """The difference to the dear model's quality, in points (percent of the questions)."""
        return 100 * (self.gained - self.lost) / max(1, self.questions)

    @property
    def margin(self) -> float:
        """How far chance may move `points` either way, at 95 %: 1.96 standard errors of a paired difference."""
        return 196 * math.sqrt(self.gained + self.lost) / max(1, self.questions)


class QuestionSeller:
    """Who sells the answers of the two models: with the recorded text where there is one, and the recorded tokens."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.by_text = {question.text: question for question in questions}
        self.cheap = meter(RecordedModel(self._cheap, model=CHEAP[1], seller=CHEAP[0]))
        self.dear = meter(RecordedModel(self._dear, model=DEAR[1], seller=DEAR[0]))

    def _cheap(self, messages: list[BaseMessage]) -> AIMessage:
        asked = self.by_text[messages[-1].text]
        usage = usage_of(asked.input_tokens, asked.cheap_tokens)
        return AIMessage(asked.cheap_answer or CHEAP_ANSWER, usage_metadata=usage)

    def _dear(self, messages: list[BaseMessage]) -> AIMessage:
        asked = self.by_text[messages[-1].text]
        return AIMessage(DEAR_ANSWER, usage_metadata=usage_of(asked.input_tokens, asked.dear_tokens))


async def play_questions(
    questions: Sequence[Question], ledger: Ledger, *, tenant: str, policy_of: PolicyOf | None
) -> QuestionsPlayed:
    """Play the questions, each in a session of its own. Without a policy the dear model answers them all.

    The totals are the ledger's.
    """
    seller = QuestionSeller(questions)
    answer = _always_dear(seller) if policy_of is None else _by_choice(seller, policy_of)
    app = an_app([a_specialist("solver", answer)], ledger, lambda text: "solver")
    results = await ask_all(app, tenant, (question.text for question in questions))
    is_dear = [result["reports"]["solver"].answer == DEAR_ANSWER for result in results]
    cheaply = [one for one, dear in zip(questions, is_dear, strict=True) if not dear]
    books = next(row for row in ledger.costs("tenant") if row.name == tenant)
    return QuestionsPlayed(
        spent=books.spent.nanos,
        right=sum(one.dear_right if dear else one.cheap_right for one, dear in zip(questions, is_dear, strict=True)),
        questions=len(questions),
        cheaply=len(cheaply),
        lost=sum(one.dear_right and not one.cheap_right for one in cheaply),
        gained=sum(one.cheap_right and not one.dear_right for one in cheaply),
    )


def _always_dear(seller: QuestionSeller) -> Callable[[Task], Awaitable[Report]]:
    async def ask(task: Task) -> Report:
        return Report(answer=(await seller.dear.ainvoke(task.text)).text)

    return ask


def _by_choice(seller: QuestionSeller, policy_of: PolicyOf) -> Choose:
    """Return a decision tree: a cascade where the cheap answer can be checked, otherwise the subject decides."""
    prices = Prices.listed()

    def is_accepted(report: Report, task: Task) -> bool:
        return report.answer == DEAR_ANSWER or policy_of(task.text).accepts(task.text, report.answer)

    def can_be_checked(task: Task) -> bool:
        return bool(seller.by_text[task.text].cheap_answer)

    def is_worth_it(task: Task, facts: ChoiceFacts) -> bool:
        question = seller.by_text[task.text]
        return policy_of(task.text).is_worth(question.segment, facts.stake.nanos, prices.difference(question))

    return Choose(
        {"checked": can_be_checked, "dear": is_worth_it},
        otherwise="cheap",
        rungs={
            "checked": Cascade({"cheap": seller.cheap, "dear": seller.dear}, accept=is_accepted, stake=AT_STAKE),
            "dear": seller.dear,
            "cheap": seller.cheap,
        },
        stake=lambda task: policy_of(task.text).stake_dollars,
    )
