"""What the user sent reaches the handlers whole: content blocks, system messages, names, and removals."""

from typing import Any

import pytest
from langchain_core.messages import AnyMessage, HumanMessage, RemoveMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import MessagesState
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from bursar import Ledger, Task, meter
from bursar.state.langgraph_private import MessagesChannel, messages_delta_reducer
from tests.support.graphs import answer_of, ask, build, first_run, free, one_node, priced, scripted, session, specialist
from tests.support.provider import Provider

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
LOOK = HumanMessage([{"type": "text", "text": "what is this?"}, IMAGE], name="ann", id="m-1")


def entered(*messages: Any) -> Any:
    """An input with these messages."""
    return {"messages": list(messages)}


def inner_graph(seen: list[Any]) -> Any:
    """A handler's own graph, which notes the messages that it gets."""

    def note(state: MessagesState) -> Any:
        seen.append(state["messages"])
        return {"messages": [("assistant", "noted")]}

    return one_node(MessagesState, note)


def texts(messages: Any) -> list[tuple[str, str]]:
    return [(message.type, message.text) for message in messages]


def test_a_task_has_the_messages_as_they_were_sent(any_ledger: Ledger) -> None:
    """Content blocks, a name and a system message are in `task.messages`; what is in them cannot change the session."""
    seen: list[Task] = []

    def handler(task: Task) -> str:
        seen.append(task.model_copy(deep=True))
        task.messages[-1].content = "spoilt"
        return "ok"

    app = build(any_ledger, [free("a", handler)])
    app.invoke(entered(SystemMessage("in French"), LOOK), session())
    system, image = seen[0].messages
    assert (system.text, image.content, image.name) == ("in French", LOOK.content, "ann")
    assert seen[0].text == "what is this?"
    assert app.get_state(session()).values["messages"][1].content == LOOK.content


def test_a_graph_gets_what_was_sent_and_the_turns_before(ledger: Ledger) -> None:
    """A handler's own graph gets the rules first, then the earlier turns, then this request's messages, each once."""
    seen: list[Any] = []
    app = build(ledger, [free("a", inner_graph(seen))])
    app.invoke(entered(SystemMessage("in French"), ("user", "one"), ("assistant", "1"), LOOK), session())
    assert texts(seen[0]) == [("system", "in French"), ("human", "one"), ("ai", "1"), ("human", "what is this?")]
    assert seen[0][-1].content == LOOK.content
    ask(app, "and now?")
    assert texts(seen[1]) == [
        *texts(seen[0])[:3],
        ("human", "what is this? [image_url]"),
        ("ai", "noted"),
        ("human", "and now?"),
    ]


def test_new_rules_replace_those_of_earlier_requests(ledger: Ledger) -> None:
    """A system message stays in force until a request brings another one, so a model never gets two that disagree."""
    seen: list[Any] = []
    app = build(ledger, [free("a", inner_graph(seen))])
    app.invoke(entered(SystemMessage("in French"), ("user", "one")), session())
    app.invoke(entered(SystemMessage("in Dutch"), ("user", "two")), session())
    ask(app, "three")
    rules = [[text for kind, text in texts(messages) if kind == "system"] for messages in seen]
    assert rules == [["in French"], ["in Dutch"], ["in Dutch"]]


def test_an_image_reaches_the_model_and_is_refused_by_name(ledger: Ledger, provider: Provider) -> None:
    """An image whose cost nobody can bound is refused by its name and not left out; a text is answered."""
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key=lambda: "none", base_url=provider.url))
    app = build(ledger, [specialist("a", model)])
    result = app.invoke(entered(LOOK), session())
    assert "image_url" in first_run(result).reason
    assert result["ending"] == "answered_with_gaps"
    assert provider.requests == []
    assert answer_of(ask(app, "a text", "s-2")) == "all is well"
    assert provider.requests[0]["messages"] == [{"role": "user", "content": "a text"}]


def test_a_message_without_text_is_asked_by_its_kinds(ledger: Ledger) -> None:
    """An image alone is a request: its agent gets it, and if no agent fits, the gap says that only it was there."""
    seen: list[Task] = []
    app = build(ledger, [free("a", lambda task: seen.append(task) or "a cat")])
    assert answer_of(app.invoke(entered(HumanMessage([IMAGE])), session())) == "a cat"
    assert (seen[0].text, seen[0].messages[-1].content) == ("[image_url]", [IMAGE])
    unrouted: Any = build(ledger, [free("a", lambda task: "a cat")], router=None)
    result = unrouted.invoke(entered(HumanMessage([IMAGE])), session("s-2"))
    assert result["gaps"] == [
        "None of the specialists fits this request: its last message has no text, only [image_url]"
    ]


def test_messages_can_be_removed(any_ledger: Ledger) -> None:
    """A removal in the input, of one message or of all before it, holds for this request and after a restart."""
    seen: list[Any] = []
    agents = [free("a", inner_graph(seen))]
    app = build(any_ledger, agents)
    app.invoke(entered(HumanMessage("one", id="m-1")), session())
    app.invoke(entered(RemoveMessage(id="m-1"), ("user", "two")), session())
    assert texts(seen[-1]) == [("ai", "noted"), ("human", "two")]
    app.invoke(entered(RemoveMessage(id=REMOVE_ALL_MESSAGES), ("user", "three")), session())
    assert texts(seen[-1]) == [("human", "three")]
    again = build(any_ledger, agents)
    assert texts(again.get_state(session()).values["messages"]) == [("human", "three"), ("ai", "noted")]
    again.invoke(entered({"type": "remove", "id": REMOVE_ALL_MESSAGES, "content": ""}, ("user", "four")), session())
    assert texts(seen[-1]) == [("human", "four")]


@pytest.mark.parametrize("cut", range(6))
def test_a_removal_does_not_depend_on_batches(cut: int) -> None:
    """However stored writes are cut into batches, the conversation that is read back is the same."""
    everything = RemoveMessage(id=REMOVE_ALL_MESSAGES)
    writes: list[Any] = [
        [HumanMessage("1", id="1")],
        HumanMessage("2", id="2"),
        [HumanMessage("3", id="3"), everything, HumanMessage("4", id="4")],
        [everything],
        [HumanMessage("5", id="5"), HumanMessage("6", id="6")],
        [RemoveMessage(id="5")],
    ]
    read, lived = (MessagesChannel(messages_delta_reducer, list[AnyMessage]) for _ in range(2))  # pyright: ignore[reportArgumentType]
    for channel in (read, lived):
        channel.value = []
    for batch in (writes[:cut], writes[cut:]):
        read.replay_writes([("task", "messages", write) for write in batch])
        lived.update(batch)
    assert [message.text for message in read.get()] == [message.text for message in lived.get()] == ["6"]


def test_a_priced_model_still_sees_the_history(ledger: Ledger) -> None:
    """A chat model as a handler gets the earlier turns and the question."""
    with scripted("one", "two") as double:
        app = build(ledger, [specialist("a", priced(double))])
        ask(app, "first")
        ask(app, "second")
    assert texts(double.calls[1].messages) == [("human", "first"), ("ai", "one"), ("human", "second")]
