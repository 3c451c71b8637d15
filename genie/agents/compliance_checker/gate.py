"""Makes the compliance checker the supervisor's gate, which reviews Genie's plan and answer."""

from collections.abc import Callable, Mapping
from datetime import date, datetime

from bursar import Report, Request, Verdict
from bursar.genie.agents.compliance_checker.checker import AnswerReview, ComplianceChecker, PlanReview
from bursar.genie.agents.compliance_checker.checker import ComplianceVerdict as Reviewed
from bursar.genie.household.source import Source
from bursar.genie.wording.grounding import numbers
from bursar.genie.wording.reporting import facts_of


class ComplianceGate:
    """A gate that reviews with `checker` and with the suitability record in the household's profile.

    `today` returns, for the supervisor's time, the day that counts as the present.
    """

    name = "compliance_checker"

    def __init__(self, checker: ComplianceChecker, source: Source, today: Callable[[datetime], date]) -> None:
        self._checker = checker
        self._source = source
        self._today = today

    def review_plan(self, request: Request, specialists: tuple[str, ...], *, now: datetime) -> Verdict:
        """Deny the whole plan if the request is prohibited; otherwise deny each specialist that no rule lets run."""
        suitability = self._source.profile().suitability
        return _verdict(self._checker.review_plan(PlanReview(request.text, specialists, suitability, self._today(now))))

    def review_answer(self, request: Request, answer: str, reports: Mapping[str, Report], *, now: datetime) -> Verdict:
        """Deny an answer with a promise, or with a number that no tool computed and the user did not write.

        In every other answer, mask identifiers and add the disclosures that the specialists in `reports` require.
        """
        review = AnswerReview(
            text=answer,
            agents=tuple(reports),
            facts=facts_of(reports.values()),
            suitability=self._source.profile().suitability,
            today=self._today(now),
            allowed=numbers(request.text),
        )
        return _verdict(self._checker.review_answer(review))


def _verdict(reviewed: Reviewed) -> Verdict:
    return Verdict(
        action=reviewed.action,
        rules=tuple(hit.rule for hit in reviewed.rules),
        reason="; ".join(hit.reason for hit in reviewed.rules) if reviewed.action == "deny" else "",
        denied={agent: hit.reason for agent, hit in reviewed.denied_agents},
        text=reviewed.text,
        policy_hash=reviewed.policy_hash,
    )
