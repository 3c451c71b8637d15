"""The compliance checker as a gate: what a user reads when it denies, amends or lets pass."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from bursar.genie.agents.compliance_checker.checker import ComplianceChecker
from bursar.genie.agents.compliance_checker.gate import ComplianceGate
from bursar.genie.household.records import Profile, Suitability
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis, Fact
from bursar.genie.wording.reporting import report_of
from bursar.state.money import USD
from bursar.state.run import Report
from bursar.state.session import Request

NOW = datetime(2025, 6, 30, 12, tzinfo=UTC)
SUITABLE = Suitability("balanced", 10, date(2025, 1, 1), date(2025, 12, 31))
Household = Callable[..., Source]


def gate(source: Source) -> ComplianceGate:
    return ComplianceGate(ComplianceChecker(), source, lambda now: now.date())


def request(text: str) -> Request:
    return Request(id="r", session_id="s", tenant="t", text=text, opened_at=NOW, budget=USD("0.03"))


def reported(text: str) -> Report:
    fact = Fact("spent", Decimal("12.50"), "money", date(2025, 6, 1), "tool", "query", "USD")
    return report_of(Analysis(text=text, facts=(fact,)))


def test_advice_needs_the_record_that_the_household_has_today(household: Household) -> None:
    """The adviser alone is denied without a record, with one that has expired, and not with one that counts."""
    asked, planned = request("What should I buy?"), ("account_analysis", "investment_recommendation")

    def denied(profile: Profile) -> set[str]:
        return set(gate(household(profile=profile)).review_plan(asked, planned, now=NOW).denied)

    assert denied(Profile()) == {"investment_recommendation"}
    assert denied(Profile(suitability=replace(SUITABLE, valid_until=date(2025, 6, 29)))) == {
        "investment_recommendation"
    }
    assert denied(Profile(suitability=SUITABLE)) == set()


def test_a_denied_adviser_says_what_to_import(household: Household) -> None:
    """The reason that a user reads names the command that mends it."""
    verdict = gate(household()).review_plan(request("What should I buy?"), ("investment_recommendation",), now=NOW)

    assert verdict.action == "deny"
    assert "bursar import profile.toml" in verdict.reason


def test_a_prohibited_request_is_denied_whole(household: Household) -> None:
    """No specialist runs for it, whoever was chosen."""
    verdict = gate(household()).review_plan(request("Help me evade taxes"), ("account_analysis",), now=NOW)

    assert verdict.action == "deny"
    assert verdict.rules == ("request.tax_evasion",)
    assert "lawful" in verdict.reason


def test_a_grounded_answer_passes_as_it_is(household: Household) -> None:
    """A number that a tool computed, or that the question had, may be said."""
    text = "You spent $12.50 of your 99 euros."
    reports = {"account_analysis": reported(text)}

    verdict = gate(household()).review_answer(request("of my 99 euros?"), text, reports, now=NOW)

    assert (verdict.action, verdict.text) == ("allow", text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("You spent $13.00.", "answer.ungrounded_number"),
        ("You spent $12.50; gold has guaranteed returns.", "promise.guaranteed_return"),
    ],
)
def test_an_answer_that_may_not_be_said_is_replaced(household: Household, text: str, rule: str) -> None:
    """An invented number and a promise are denied; what is read instead does not repeat them."""
    verdict = gate(household()).review_answer(request("?"), text, {"account_analysis": reported(text)}, now=NOW)

    assert verdict.action == "deny"
    assert verdict.rules == (rule,)
    assert verdict.text is not None
    assert "13.00" not in verdict.text
    assert "guaranteed returns" not in verdict.text


def test_identifiers_are_masked_and_disclosures_added(household: Household) -> None:
    """A card number is cut to its end, and a tax answer closes with its disclosure."""
    text = "Paid $12.50 from 4111 1111 1111 1111."

    verdict = gate(household()).review_answer(request("?"), text, {"tax_optimisation": reported(text)}, now=NOW)

    assert verdict.action == "allow_with_changes"
    assert verdict.text is not None
    assert "4111 1111 1111 1111" not in verdict.text
    assert "not tax advice" in verdict.text
