"""`Cascade`: the cheap rung first, and a dearer one only where the check fails and the decision is worth it."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from bursar.nodes.cascades.accepting import Accept, Check, check_of
from bursar.nodes.cascades.decisions import Books, Known
from bursar.nodes.cascades.failures import log_rung, raise_if_of_the_run, reason_of
from bursar.nodes.cascades.judgement import NO_ANSWER, Judged, Weighing, gap_of
from bursar.nodes.cascades.rungs import Rung, Rungs, ask, check_order, rungs_of, scope_of
from bursar.nodes.cascades.stakes import Gain, Gains, Share, Stake, check_stake, segment_of, share_of, stake_of
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.isolation.captured import capture
from bursar.nodes.specialists.definition import is_name
from bursar.state.decision import Decision
from bursar.state.errors import BadOutput, ConfigurationError
from bursar.state.money import Amount
from bursar.state.refusals import Refused
from bursar.state.rules.value import PRIOR
from bursar.state.run import Report, Task


class Cascade:
    """A handler that asks its rungs from cheap to dear, until an answer is accepted or the next one is not worth it.

    `rungs` are metered chat models, functions, Runnables, compiled graphs or specialists, in a sequence or by name in a
    mapping. Those marked `@deterministic` come first. The calls of a rung are charged to the path `agent → rung`; a
    specialist has its own ceiling, timeout and turns there, and its fallbacks are not asked.

    `accept` says whether an answer is taken: a function of the report, or of report and task; the least confidence; a
    pydantic class that the structured answer must fit; or a metered model, which is asked for a second opinion. `stake`
    is what is at risk in this decision in US dollars, or a function of the task.

    If an answer is not accepted, the first later rung is asked whose gain × stake is above the difference of the two
    expected prices, if the budget has room for its price. Its gain is the probability that its answer is accepted
    although the one before was not. It is learned from the ledger for each specialist, `segment(task)` and rung, over
    all tenants, and shrunk to the `prior`; `gain` replaces it: a number, numbers by segment, or a function of segment
    and rung name. `prices` are the expected prices of rungs by name, in US dollars. Without one, a rung is expected to
    cost the median of its last answers.

    A rung that raises or is refused is passed over. If no answer is accepted, that with the highest confidence is
    given, with a gap that says so. If no rung gives an answer, the last error is raised. Each decision is in the log
    before the next rung is asked, so a run that is repeated after a crash goes the same way and pays nothing twice.

    Raises `ConfigurationError` for a bad argument, or a rung that is known to be cheaper than one before it.
    """

    def __init__(
        self,
        rungs: Rungs,
        *,
        accept: Accept,
        stake: Stake,
        segment: Callable[[Task], str] | None = None,
        prior: Share = PRIOR,
        gain: Gain | None = None,
        prices: Mapping[str, Amount] | None = None,
        name: str = "cascade",
    ) -> None:
        if not is_name(name):
            raise ConfigurationError(f"a cascade's name is a plain name, not {name!r}")
        self.name = name
        self.rungs = rungs_of(rungs, prices or {}, f"cascade {name!r}")
        check_order(self.rungs, f"cascade {name!r}")
        self.check: Check = check_of(accept, f"cascade {name!r}")
        self.stake, self.segment = stake, segment
        self.gains = Gains(gain, share_of(prior, f"cascade {name!r}: prior"))
        self._check_numbers(gain)

    def __repr__(self) -> str:
        return f"Cascade({self.name}: {' → '.join(rung.name for rung in self.rungs)})"

    def _check_numbers(self, gain: Gain | None) -> None:
        for one in list(cast("Mapping[str, object]", gain).values()) if isinstance(gain, Mapping) else [gain]:
            if one is not None and not callable(one):
                share_of(one, f"cascade {self.name!r}: gain")
        check_stake(self.stake, f"cascade {self.name!r}")

    async def __call__(self, task: Task) -> Report:
        """Return the first accepted answer, otherwise the best one. Raises the last error if no rung answers."""
        scope = current_scope()
        # A user's function may read a file or a database, so it runs in a thread.
        stake, no_stake = await asyncio.to_thread(stake_of, self.stake, task)
        segment, no_segment = segment_of(self.segment, task)
        books = Books.of(scope, self.name, task)
        known = await books.known(segment, self.rungs)
        weighing = Weighing(self.rungs, self.gains, stake, segment, books.agent, known, task, scope)
        said = tuple(note for note in (no_stake, no_segment) if note)
        return await _Climb(self, weighing, books, said).run()


@dataclass(slots=True)
class _Climb:
    """One call of a cascade: the answers so far, and what rungs gave none, each with its reason."""

    cascade: Cascade
    weighing: Weighing
    books: Books
    notes: tuple[str, ...]
    answers: list[Judged] = field(default_factory=list[Judged])
    without: dict[str, str] = field(default_factory=dict[str, str])
    error: BaseException | None = None

    @property
    def scope(self) -> Scope | None:
        return self.weighing.scope

    @property
    def known(self) -> Known:
        return self.weighing.known

    async def run(self) -> Report:
        place: int | None = 0
        decision: Decision | None = None
        for _ in self.cascade.rungs:  # each pass asks a later rung
            if place is None:
                break
            made = self.known.made.get(place)
            if made is None or _is_without_end(made):
                decision = await self._judge(place)
            else:
                decision = await self._again(place, made)
            if decision.accepted and self.answers and self.answers[-1].rung.name == decision.rung:
                return self.answers[-1].given
            place = self._next(place, decision)
        return self._best(decision)

    def _next(self, place: int, decision: Decision) -> int | None:
        names = [rung.name for rung in self.cascade.rungs]
        later = [names.index(name) for name in decision.chosen if name in names]
        return next((one for one in later if one > place), None)

    async def _judge(self, place: int) -> Decision:
        """Ask the rung at `place`, check its answer, and write what follows to the log."""
        judged = await self._asked(self.cascade.rungs[place])
        if judged.report is not None:
            judged = await self._checked(judged)
        sys.audit("bursar.failpoint", "before_rung_decision")
        decide = partial(self.weighing.decide, place, judged, self.notes)
        decision = await self.books.write(place, decide, judged.rung, opens=self.cascade.rungs[place + 1 :])
        sys.audit("bursar.failpoint", "after_rung_decision")
        return decision

    async def _again(self, place: int, made: Decision) -> Decision:
        """Go the way that was decided before a crash. What the rung was paid for is replayed."""
        rung = self.cascade.rungs[place]
        own = next((one.reason for one in made.candidates if one.name == rung.name), "")
        if own.startswith(NO_ANSWER):
            self.without[rung.name] = own
        else:
            await self._asked(rung)
        self.books.tell(made)
        return made

    async def _asked(self, rung: Rung) -> Judged:
        end = await ask(rung, self.weighing.task, scope_of(rung, self.scope))
        raise_if_of_the_run(end.error, self.scope)
        if end.error is not None:
            self.error = end.error
            self.without[rung.name] = f"{NO_ANSWER}{reason_of(end.error)}"
            log_rung(self.books.agent, rung.name, end.error)
            # A refusal says nothing of what the rung is worth; an error does.
            accepted = None if isinstance(end.error, Refused) else False
            return Judged(rung, None, accepted, self.without[rung.name])
        judged = Judged(rung, end.result(), None, "")
        self.answers.append(judged)
        return judged

    async def _checked(self, judged: Judged) -> Judged:
        report = judged.given
        end = await capture(lambda: self.cascade.check(report, self.weighing.task, self.scope))
        raise_if_of_the_run(end.error, self.scope)
        if end.error is None:
            found = Judged(judged.rung, report, end.result(), "")
        else:
            log_rung(self.books.agent, f"{judged.rung.name}'s check", end.error)
            found = Judged(judged.rung, report, None, f"its check failed: {reason_of(end.error)}")
        self.answers[-1] = found
        return found

    def _best(self, decision: Decision | None) -> Report:
        if self.answers:
            best = max(enumerate(self.answers), key=lambda one: (one[1].confidence, one[0]))[1]
            gap = gap_of(best, decision, self.without)
            return best.given.model_copy(update={"gaps": (*best.given.gaps, gap)})
        if isinstance(self.error, Refused) and self.scope is not None:
            self.scope.latch(self.error)
        if self.error is not None:
            raise self.error
        raise BadOutput("no rung gave an answer: " + "; ".join(f"{one}: {why}" for one, why in self.without.items()))


def _is_without_end(made: Decision) -> bool:
    """Whether the cascade had no answer when it decided to ask no further rung: then it judges anew.

    A person may have raised the budget since.
    """
    own = next((one.reason for one in made.candidates if one.name == made.rung), "")
    return own.startswith(NO_ANSWER) and not made.chosen
