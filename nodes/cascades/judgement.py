"""The decision about a rung's answer: it is taken, or a later rung is asked, or none is worth it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bursar.checkpoints.ledger.gains import RungRecord
from bursar.nodes.cascades.decisions import Known
from bursar.nodes.cascades.rungs import Rung, expected_price
from bursar.nodes.cascades.stakes import Gains
from bursar.nodes.gateway.paid_calls.scope import Scope
from bursar.state.decision import Considered, Decision
from bursar.state.errors import BadOutput
from bursar.state.money import USD, ZERO
from bursar.state.rules.value import Worth, next_rung
from bursar.state.run import Report, Task

NO_ANSWER = "it gave no answer: "  # before the reason of a rung that was refused or that raised


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rung gave: its report if it answered, whether that was accepted (None: nobody knows), and why not."""

    rung: Rung
    report: Report | None
    accepted: bool | None
    why: str

    @property
    def given(self) -> Report:
        """The report of a rung that answered."""
        if self.report is None:
            raise BadOutput(f"{self.rung.name} gave no answer")
        return self.report

    @property
    def confidence(self) -> float:
        """The confidence of the answer; 0 without one."""
        return 0.0 if self.report is None else self.report.confidence


@dataclass(frozen=True, slots=True)
class Weighing:
    """What one call of a cascade weighs: its rungs, what is known of them, and the stake and segment of its task."""

    rungs: Sequence[Rung]
    gains: Gains
    stake: USD
    segment: str
    agent: str
    known: Known
    task: Task
    scope: Scope | None

    def decide(self, place: int, judged: Judged, notes: Sequence[str], left: USD | None, cost: USD | None) -> Decision:
        """Return the decision after the rung at `place`, with what is `left` now and what the rung has `cost`."""
        prices = [self._price(rung, left) for rung in self.rungs]
        weighed = [self.gains.of(self.segment, rung.name, self._record(rung)) for rung in self.rungs]
        following, verdicts = None, ()
        if not judged.accepted:
            nanos = None if left is None else left.nanos
            following, verdicts = next_rung(
                [price.nanos for price in prices],
                [gain for gain, _ in weighed],
                at=place,
                stake=self.stake.nanos,
                left=nanos,
            )
        own = Considered(
            name=judged.rung.name,
            score=judged.confidence,
            expected_cost=prices[place],
            verdict="chosen" if judged.accepted else "unfit",
            reason=judged.why,
        )
        after = range(place + 1, len(self.rungs))
        later = [
            self._considered(at, prices[at], float(weighed[at][0]), verdicts[at - place - 1], left)
            for at in after[: len(verdicts)]
        ]
        # A rung that nobody weighed, because an answer was taken before it, is told with its price.
        first = after[0] if judged.accepted and after else None
        unasked = [] if first is None else [self._unasked(first, prices[first], float(weighed[first][0]))]
        chosen = judged.rung if judged.accepted else None if following is None else self.rungs[following]
        told = following if following is not None else next(iter(after), None)
        wrong = [note for _, note in weighed if note]
        return Decision(
            kind="cascade",
            by=self.agent,
            rule=_rule(judged, None if following is None else self.rungs[following]),
            chosen=() if chosen is None else (chosen.name,),
            candidates=(own, *later, *unasked),
            left=ZERO if left is None else left,
            note="; ".join([*notes, *dict.fromkeys(wrong)]),
            rung=judged.rung.name,
            accepted=judged.accepted,
            cost=cost,
            stake=self.stake,
            gain=None if told is None else weighed[told][0],
            segment=self.segment,
        )

    def _record(self, rung: Rung) -> RungRecord:
        return self.known.records.get(rung.name, RungRecord())

    def _price(self, rung: Rung, left: USD | None) -> USD:
        return expected_price(rung, self.task, self.scope, learned=self._record(rung).cost, left=left)

    def _considered(self, at: int, price: USD, gain: float, worth: Worth, left: USD | None) -> Considered:
        name = self.rungs[at].name
        match worth:
            case Worth.ASK:
                return Considered(name=name, score=gain, expected_cost=price, verdict="chosen")
            case Worth.NOT_WORTH_IT:
                reason = f"asking {name} was not worth {price} at a stake of {self.stake}"
                return Considered(name=name, score=gain, expected_cost=price, verdict="unfit", reason=reason)
            case Worth.NO_ROOM:
                reason = f"the budget had no room for {name}: expects {price}, {left} left"
                return Considered(name=name, score=gain, expected_cost=price, verdict="budget", reason=reason)

    def _unasked(self, at: int, price: USD, gain: float) -> Considered:
        return Considered(
            name=self.rungs[at].name, score=gain, expected_cost=price, verdict="unfit", reason="not needed"
        )


def _rule(judged: Judged, following: Rung | None) -> str:
    if judged.accepted:
        return "its check accepts the answer"
    end = "the check does not accept the answer" if judged.report is not None else "it gave no answer"
    if following is None:
        return f"{end}, and no further rung is worth asking and fits"
    return (
        f"{end}, and the gain of {following.name} × the stake is above the difference of prices and fits what is left"
    )


def gap_of(best: Judged, last: Decision | None, without: Mapping[str, str]) -> str:
    """Return in words that no check accepted the answer, and why no other rung was asked.

    `last` is the decision that asked no further rung, and `without` has the rungs that gave no answer.
    """
    said = [best.why or "its check did not accept this answer"]
    said += [f"{name} gave no answer: {why.removeprefix(NO_ANSWER)}" for name, why in without.items()]
    if last is not None:
        said += [one.reason for one in last.candidates if one.name != last.rung and one.reason]
    return "; ".join(said)
