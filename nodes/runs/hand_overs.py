"""Hand-overs in LangGraph's own words: `Command(goto="tax", graph=Command.PARENT)` means `Report(handoff="tax")`."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import Command, Send

from bursar.state.run import Report
from bursar.state.text import excerpt

MOST_HAND_OVERS = 8
NOTE_CHARACTERS = 2_000


def is_hand_over(value: object) -> bool:
    """Whether it is a command to the graph around."""
    return isinstance(value, Command) and cast("Command[Any]", value).graph == Command.PARENT


def hand_over_report(command: "Command[Any]") -> Report:
    """Return the report of a command to the graph around: it hands over to each node that the command goes to.

    Its answer is what the model said last, if the command brings that, and its note the last message's text.
    """
    said = _messages(command.update)
    answer = next((message.text for message in reversed(said) if isinstance(message, AIMessage)), "")
    note = said[-1].text if said else ""
    targets = _targets(command.goto)
    more = len(targets) - MOST_HAND_OVERS
    gaps = (f"it hands over to {more} more than the {MOST_HAND_OVERS} that are allowed",) if more > 0 else ()
    kept = targets[:MOST_HAND_OVERS]
    return Report(answer=answer, handoff=kept, note=excerpt(note, NOTE_CHARACTERS), gaps=gaps)


def _targets(goto: object) -> tuple[str, ...]:
    several = cast("Sequence[object]", goto) if isinstance(goto, Sequence) and not isinstance(goto, str) else [goto]
    names = (one.node if isinstance(one, Send) else str(one) for one in several)
    return tuple(dict.fromkeys(names))


def _messages(update: object) -> list[BaseMessage]:
    given: object = cast("Mapping[str, object]", update).get("messages") if isinstance(update, Mapping) else None
    return (
        [one for one in cast("list[object]", given) if isinstance(one, BaseMessage)] if isinstance(given, list) else []
    )
