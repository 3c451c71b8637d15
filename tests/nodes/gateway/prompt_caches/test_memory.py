"""What a process remembers of prompts: what is read again, and what the warning says."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from bursar.nodes.gateway.prompt_caches.memory import KEPT_FOR, MOST_AGENTS, Outlook, PromptMemory, logger
from bursar.nodes.gateway.prompt_caches.prompt import Prompt
from bursar.state.rules.reads_again import ReadsAgain

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
LONG = "Name the source of each figure. " * 60
SECONDS = timedelta(seconds=1)


def _see(memory: PromptMemory, system: str, *messages: str, at: datetime = NOW, tools: str = "") -> Outlook:
    return memory.see("key", "spending", Prompt(tools, (system, *messages), 1), at)


def test_before_anything_is_known_one_prefix_in_two_is_read_again() -> None:
    """The first call of an agent has the prior."""
    assert _see(PromptMemory(), LONG, "hi") == Outlook(ReadsAgain(1, 2), ReadsAgain(1, 2))


def test_a_prefix_that_is_sent_again_in_time_is_counted() -> None:
    """The static part was read again, and the prompt that this one goes on from; what is sent now is not counted."""
    memory = PromptMemory()
    _see(memory, LONG, "hi")
    assert _see(memory, LONG, "hi", "yes", at=NOW + SECONDS).static == ReadsAgain(2, 3)
    _see(memory, LONG, "another question", at=NOW + SECONDS)
    [first] = {_see(memory, LONG, "a third one", at=NOW + SECONDS).whole}
    assert first == ReadsAgain(2, 4)  # of the two first prompts, one went on


def test_after_five_minutes_a_prefix_is_not_read_again() -> None:
    """The cache has dropped it, so it counts as one that nobody read."""
    memory = PromptMemory()
    _see(memory, LONG, "hi")
    assert _see(memory, LONG, "hi", "yes", at=NOW + KEPT_FOR + SECONDS).static == ReadsAgain(1, 3)


def test_the_same_prompt_again_is_no_further_prompt() -> None:
    """A call that is sent again after a failure does not make its prompts look unread."""
    memory = PromptMemory()
    _see(memory, LONG, "hi")
    _see(memory, LONG, "hi")
    assert _see(memory, LONG, "hello").whole == ReadsAgain(1, 3)


def test_a_warning_names_the_clock_once(caplog: pytest.LogCaptureFixture) -> None:
    """The second break of the same agent is not told again."""
    memory = PromptMemory()
    with caplog.at_level(logging.WARNING, logger.name):
        for minute in range(3):
            _see(memory, f"{LONG} It is 12:0{minute}. {LONG}", "hi")
    [said] = caplog.messages
    assert said.startswith("spending: its system message is not that of its call before")
    assert 'a clock or a date in it changes: "' in said
    assert "12:00" in said
    assert "12:01" in said


def test_a_warning_names_tools_in_another_order(caplog: pytest.LogCaptureFixture) -> None:
    """Tools come first in a prompt, so another order of them breaks all of it."""
    memory = PromptMemory()
    with caplog.at_level(logging.WARNING, logger.name):
        _see(memory, LONG, "hi", tools='[{"name": "f"}, {"name": "g"}]')
        _see(memory, LONG, "hi", tools='[{"name": "g"}, {"name": "f"}]')
    [said] = caplog.messages
    assert said.startswith("spending: its tools are not those of its call before")
    assert "in another order" in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LONG, LONG),
        (LONG, "Judge the answer of another. " * 60),
        ("It is 12:03", "It is 12:04"),
    ],
    ids=["the same", "another prompt", "too short for any cache"],
)
def test_without_a_loss_nothing_is_said(first: str, second: str, caplog: pytest.LogCaptureFixture) -> None:
    """A stable prompt, an agent with two prompts, and a prompt that no cache takes anyway."""
    memory = PromptMemory()
    with caplog.at_level(logging.WARNING, logger.name):
        for system in (first, second, first):
            _see(memory, system, "hi")
    assert caplog.messages == []


def test_the_oldest_agents_are_forgotten() -> None:
    """After as many further agents as are kept, an agent is new again."""
    memory = PromptMemory()
    _see(memory, LONG, "hi")
    for number in range(MOST_AGENTS):
        memory.see(f"other {number}", "other", Prompt("", (LONG,), 1), NOW)
    assert _see(memory, LONG, "hi").static == ReadsAgain(1, 2)
