"""The compliance checker: a tool agent that reviews the plan and the final answer by rules in a data file.

What no rule allows is denied. The checker has no clock, no model and no memory: the same review gets the same verdict,
and a second review of an amended answer changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from bursar.genie.agents.compliance_checker.rules import RuleHit, load_rules
from bursar.genie.household.records import Suitability
from bursar.genie.wording.facts import Fact
from bursar.genie.wording.grounding import ungrounded
from bursar.genie.wording.identifiers import mask


@dataclass(frozen=True, slots=True)
class PlanReview:
    """A plan before anything runs: the user's request, the agents chosen for it, and the day that counts as today."""

    text: str
    agents: tuple[str, ...]
    suitability: Suitability | None
    today: date


@dataclass(frozen=True, slots=True)
class AnswerReview:
    """A final answer before the user sees it, with the agents that contributed and all facts that their tools computed.

    `templated`, if given, replaces a `text` that states a number that no fact supports. `allowed` holds the numbers
    that the user wrote, as `numbers` in `wording/grounding.py` reads them. `not_covered` names the topics that the
    answer must say it leaves out.
    """

    text: str
    agents: tuple[str, ...]
    facts: tuple[Fact, ...]
    suitability: Suitability | None
    today: date
    templated: str | None = None
    allowed: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ComplianceVerdict:
    """What the checker decided, by which rules, and the hash of the rules' file.

    `denied_agents` pairs each agent that may not run (or may not have contributed) with the rule that denies the agent.
    `text` may be shown to the user. If a plan or an answer is denied, `text` is the safe text that says why. For an
    answer that is not denied, it is the amended answer; for a plan that is not denied, it is None.
    """

    action: Literal["allow", "allow_with_changes", "deny"]
    rules: tuple[RuleHit, ...]
    denied_agents: tuple[tuple[str, RuleHit], ...]
    text: str | None
    policy_hash: str


class ComplianceChecker:
    """A reviewer of plans and answers. It applies the rules in the TOML file `rules`; if None, Genie's own rules.

    Raises:
        ConfigurationError: the rules cannot be used; the message says why. Genie does not start without a checker.
    """

    def __init__(self, rules: Path | None = None) -> None:
        self._rules = load_rules(rules)
        hits = [*self._rules.reasons.values()]
        hits += [hit for hit, _ in (*self._rules.requests.rules, *self._rules.promises.rules)]
        self._denials = {self._rules.denial(hit): hit for hit in hits}

    @property
    def policy_hash(self) -> str:
        """SHA-256 of the rules file in force, in hexadecimal."""
        return self._rules.policy_hash

    def objections(self, text: str) -> tuple[str, ...]:
        """Return what the rules have against the words of `text`, one reason for each promise in it."""
        return tuple(f"{hit.rule}: {hit.reason}" for hit in self._rules.promises.hits(mask(text)))

    def review_plan(self, plan: PlanReview) -> ComplianceVerdict:
        """Deny the whole plan if the request is prohibited; otherwise deny each agent that no rule lets run.

        If all agents of the plan are denied, the plan is denied. If only some agents are denied, the plan is allowed
        without these.
        """
        prohibited = self._rules.requests.hits(plan.text)
        if prohibited:
            return self._denied(prohibited, tuple((agent, prohibited[0]) for agent in dict.fromkeys(plan.agents)))
        denied = self._denied_agents(plan.agents, plan.suitability, plan.today)
        if not denied:
            return ComplianceVerdict("allow", (), (), None, self.policy_hash)
        rules = _each_once(hit for _, hit in denied)
        if len(denied) == len(set(plan.agents)):
            return self._denied(rules, denied)
        return ComplianceVerdict("allow_with_changes", rules, denied, None, self.policy_hash)

    def review_answer(self, answer: AnswerReview) -> ComplianceVerdict:
        """Deny an answer with a promise, an unsupported number or a denied contributor; amend every other answer.

        If `answer.templated` is given and has only supported numbers, this text replaces a text with an unsupported
        number, and the answer is not denied for the number. Amending also masks identifiers, and appends the
        disclosures that the contributing agents require, each once.
        """
        denied = self._denied_agents(answer.agents, answer.suitability, answer.today)
        if denied:
            return self._denied(_each_once(hit for _, hit in denied), denied)
        if answer.text in self._denials:
            return self._denied((self._denials[answer.text],))
        required = self._disclosures(answer)
        said = _without(answer.text, required)
        rules: list[RuleHit] = []

        body = mask(said)
        if body != said:
            rules.append(self._rules.reasons["answer.identifier_masked"])
        if promises := self._rules.promises.hits(body):
            return self._denied(promises)
        if ungrounded(body, answer.facts, answer.allowed):
            rules.append(self._rules.reasons["answer.ungrounded_number"])
            body = mask(_without(answer.templated, required)) if answer.templated is not None else ""
            if not body or ungrounded(body, answer.facts, answer.allowed):
                return self._denied((rules[-1],))
            if promises := self._rules.promises.hits(body):
                return self._denied(promises)

        text = "".join((body, *required))
        if required and not answer.text.endswith("".join(required)):
            rules.append(self._rules.reasons["answer.disclosure_added"])
        action = "allow" if text == answer.text else "allow_with_changes"
        return ComplianceVerdict(action, tuple(rules), (), text, self.policy_hash)

    def _denied(self, rules: tuple[RuleHit, ...], agents: tuple[tuple[str, RuleHit], ...] = ()) -> ComplianceVerdict:
        return ComplianceVerdict("deny", rules, agents, self._rules.denial(rules[0]), self.policy_hash)

    def _denied_agents(
        self, agents: tuple[str, ...], suitability: Suitability | None, today: date
    ) -> tuple[tuple[str, RuleHit], ...]:
        judged = ((agent, self._agent_rule(agent, suitability, today)) for agent in dict.fromkeys(agents))
        return tuple((agent, self._rules.reasons[rule]) for agent, rule in judged if rule is not None)

    def _agent_rule(self, agent: str, suitability: Suitability | None, today: date) -> str | None:
        """Return the id of the rule that denies `agent`, or None if the agent may act."""
        listed = self._rules.agents.get(agent)
        if listed is None:
            return "agent.unlisted"
        if not listed.needs_suitability:
            return None
        if suitability is None:
            return "suitability.missing"
        if suitability.recorded_on > today:
            return "suitability.future"
        return "suitability.expired" if suitability.valid_until < today else None

    def _disclosures(self, answer: AnswerReview) -> tuple[str, ...]:
        """Return the disclosures that must end this answer, each once, with a blank line before each."""
        texts = [text for agent in answer.agents for text in self._rules.agents[agent].disclosures]
        if answer.not_covered:
            texts.append(self._rules.not_covered.format(topics=mask("; ".join(dict.fromkeys(answer.not_covered)))))
        return tuple(f"\n\n{text}" for text in dict.fromkeys(texts))


def _without(text: str, paragraphs: tuple[str, ...]) -> str:
    for paragraph in reversed(paragraphs):
        text = text.removesuffix(paragraph)
    return text


def _each_once(hits: Iterable[RuleHit]) -> tuple[RuleHit, ...]:
    return tuple(dict.fromkeys(hits))
