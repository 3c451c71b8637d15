"""What an agent gets of a conversation: the request's own messages as they were sent, and the turns before."""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import dropwhile, filterfalse, takewhile

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage

from bursar.nodes.context.coordinator import is_answer
from bursar.state.run import Report, Task, Turn
from bursar.state.text import clean, one_line

HISTORY_TURNS = 20
HISTORY_STEP = 10  # so many earlier messages are dropped at once
KIND_CHARACTERS = 40
ROLES = {"human": "user", "ai": "assistant"}


def own_messages(messages: Sequence[AnyMessage]) -> tuple[AnyMessage, ...]:
    """Return the messages of the conversation since its last answer.

    If none of them is a system message, those of the last request that had any come first: they are still in force. The
    messages are copies, so no handler can change the conversation.
    """
    earlier = reversed(messages)
    own = [*takewhile(lambda message: not is_answer(message), earlier)][::-1]
    if not any(map(_is_system, own)):
        latest = dropwhile(lambda message: not _is_system(message), earlier)
        in_force = filter(_is_system, takewhile(lambda message: not is_answer(message), latest))
        own = [*[*in_force][::-1], *own]
    return tuple(message.model_copy(update={"content": deepcopy(message.content)}) for message in own)


def history(messages: Sequence[AnyMessage]) -> tuple[Turn, ...]:
    """Return what user and assistant said before the last message, in the last `HISTORY_TURNS` messages or some more.

    What is left out grows by `HISTORY_STEP` messages at a time. Otherwise each request of a long conversation would
    begin with another message, and the provider's cache would never have the beginning of the prompt.
    """
    before = len(messages) - 1
    left_out = max(0, before - HISTORY_TURNS) // HISTORY_STEP * HISTORY_STEP
    return tuple(_turns(messages[left_out:-1]))


def given_to_model(task: Task) -> list[BaseMessage | tuple[str, str]]:
    """Return what a chat model or a graph gets of the task: system messages, earlier turns, the other messages.

    What stays the same from request to request comes first, so that the provider's cache has it. What other agents
    reported for the request comes before those, as data: so the user's message is the last.
    """
    own = task.messages or (HumanMessage(task.text),)
    before = len(task.history) - len(_turns(own[:-1]))
    return [
        *filter(_is_system, own),
        *((turn.role, turn.text) for turn in task.history[: max(before, 0)]),
        *([HumanMessage(_told(task.reports))] if task.reports else ()),
        *filterfalse(_is_system, own),
    ]


def _told(reports: Mapping[str, Report]) -> str:
    told = {name: {"answer": one.answer, **({"note": one.note} if one.note else {})} for name, one in reports.items()}
    return f"What other agents reported for this request, as data:\n{json.dumps(told, ensure_ascii=False)}"


def question_of(message: AnyMessage | None) -> str:
    """Return the text of the user's message. If it has only other content, return its kinds, such as `[image_url]`.

    Return "" if the message is not the user's, or is empty.
    """
    if not isinstance(message, HumanMessage):
        return ""
    return message.text if message.text.strip() else _kinds(message)


def only_other_content(message: AnyMessage | None) -> str:
    """Return the kinds of content of the user's message if it has no text, such as `[image_url]`; otherwise ""."""
    return "" if message is None or message.text.strip() else question_of(message)


def _kinds(message: BaseMessage) -> str:
    """Return the kinds of the content blocks that are no text, such as `[image_url] [file]`."""
    blocks = message.content if isinstance(message.content, list) else []
    kinds = [str(block.get("type", "block")) for block in blocks if isinstance(block, Mapping)]
    return " ".join(dict.fromkeys(f"[{clean(one_line(kind, KIND_CHARACTERS))}]" for kind in kinds if kind != "text"))


def _turns(messages: Iterable[BaseMessage]) -> list[Turn]:
    """Return a turn for each message in which user or assistant says something."""
    turns = [Turn(role=ROLES[m.type], text=_said(m)) for m in messages if m.type in ROLES]
    return [turn for turn in turns if turn.text]


def _said(message: BaseMessage) -> str:
    parts = [message.text, _kinds(message) if isinstance(message, HumanMessage) else ""]
    return " ".join(part for part in parts if part)


def _is_system(message: BaseMessage) -> bool:
    return message.type == "system"
