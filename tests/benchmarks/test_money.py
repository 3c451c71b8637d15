"""Bursar in each scenario of `benchmarks/money`, against a seller that bills what it receives.

Its peers are measured by `make money`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.money.contest import Crew, limit_of
from benchmarks.money.contestants import BURSAR, CONTESTANTS, PINS
from benchmarks.money.scenario import NANOS, Scenario
from benchmarks.money.scenarios import SCENARIOS
from benchmarks.money.seller import Answer, Seller

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
UNANSWERED = {"long_prompt", "dear_model_hidden", "choices_hidden", "zero_budget", "tiny_budget"}  # nothing may be sent
BUSY = {"two_processes_one_session"}  # one of the two is told that the other has the session


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """Two processes with Bursar loaded."""
    made = Crew(BURSAR)
    yield made
    made.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[one.name for one in SCENARIOS])
def test_the_bill_is_within_the_limit_and_the_request_ends_with_an_answer(crew: Crew, scenario: Scenario) -> None:
    """Whatever the program, the seller and the kills do; and the books verify."""
    measured = crew.measure(scenario)
    assert measured.over == 0
    assert measured.is_answered or scenario.name in BUSY, measured.ended
    assert (measured.billed == 0) == (scenario.name in UNANSWERED)


def test_the_seller_bills_by_what_it_received_and_knows_what_was_of_use() -> None:
    """An answer that neither the caller got nor a later useful request quotes is lost; the others are not."""
    seller = Seller(Answer(words=100))
    try:
        _, first = seller.take({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]})
        quoting = {"model": "gpt-4o", "max_tokens": 10, "n": 2, "messages": [{"role": "user", "content": first.text}]}
        _, second = seller.take(quoting)
        assert seller.bills[0].nanos == first.input_tokens * 150 + 100 * 600
        assert seller.bills[1].nanos == second.input_tokens * 2_500 + 10 * 2 * 10_000
        assert seller.lost([second.text]) == 0
        assert seller.lost([first.text]) == seller.bills[1].nanos
        assert seller.lost([]) == seller.billed
    finally:
        seller.close()


def test_a_limit_is_read_exactly() -> None:
    """In nano-dollars."""
    limits = {one.limit: limit_of(one) for one in SCENARIOS}
    assert limits["0.002"] == NANOS // 500
    assert limits["0.00001"] == 10_000
    assert limits["0"] == 0


def test_the_page_says_what_was_measured() -> None:
    """Its table is of these contestants, these scenarios and the pinned versions."""
    pins = dict(line.strip().split("==") for line in PINS.read_text().splitlines() if "==" in line)
    section = PAGE.partition("## Dollars over the limit")[2]
    words = " ".join(section.split())
    for contestant in CONTESTANTS:
        over, of = re.search(rf"^\| {contestant.name} \| (\d+) of (\d+) \|", section, re.MULTILINE).groups()  # pyright: ignore[reportOptionalMemberAccess]
        assert int(of) == len(SCENARIOS)
        assert (over == "0") == (contestant is BURSAR)
    named = {name for name in re.findall(r"`(\w+)`", section) if "_" in name}
    assert named <= {one.name for one in SCENARIOS} | {"cost_limit", "max_turns"}
    for package in ("langchain", "pydantic-ai-slim", "pydantic-ai-harness", "litellm", "openai-agents"):
        assert f"{package} {pins[package]}" in words
