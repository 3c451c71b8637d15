"""Text that no database keeps is mended or refused in one line, before anything is paid, on both databases alike."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint

from bursar import Ledger, Report, SQLAlchemySaver, Task
from bursar.state.errors import ConfigurationError
from tests.support.graphs import answer_of, ask, build, free, priced, scripted, session, specialist

STRANGE = {"thread_id": ("a\x00b", "\ud800"), "tenant": ("a\x00b", "\ud800")}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_half_a_character_of_a_user_is_replaced(any_ledger: Ledger, asynchronous: bool) -> None:
    """A cut emoji costs nobody an answer, and the session goes on."""
    app = build(any_ledger, [free("a", lambda task: f"got {task.text}")])
    entered: Any = {"messages": [HumanMessage("half \ud83d", id="m\ud800")]}
    result = asyncio.run(app.ainvoke(entered, session())) if asynchronous else app.invoke(entered, session())
    assert answer_of(result) == "got half �"
    assert answer_of(ask(app, "whole")) == "got whole"
    assert len(app.get_state(session()).values["messages"]) == 4


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in STRANGE.items() for text in texts])
@pytest.mark.parametrize("saved", [True, False])
def test_a_strange_name_is_refused_before_anything_is_paid(
    any_ledger: Ledger, name: str, text: str, saved: bool
) -> None:
    """One line names it; nothing is opened, and a proper name is served."""
    with scripted("fine") as model:
        app = build(any_ledger, [specialist("a", priced(model))], **({} if saved else {"checkpointer": None}))
        with pytest.raises(ConfigurationError, match=f"{name} .* holds a NUL or half a character"):
            app.invoke({"messages": [("user", "hi")]}, session(**{"name": "s-1", name: text}))
        assert any_ledger.sessions() == []
        assert answer_of(ask(app)) == "fine"


def test_a_model_gets_no_half_character(any_ledger: Ledger) -> None:
    """What a handler sends to its model is mended too, and what the model says may hold a NUL."""
    with scripted("x\x00y") as model:
        metered = priced(model)

        def handler(task: Task) -> Report:
            return Report(answer=metered.invoke("a\x00\ud800", stop=["\ud800"]).text)

        result = ask(build(any_ledger, [specialist("a", handler)]))
    assert (result["ending"], answer_of(result)) == ("answered", "x\x00y")
    assert model.calls[0].messages[0].text == "a\x00�"


@pytest.mark.parametrize("name", ["a\x00b", "a\ud800"])
def test_a_saver_refuses_a_strange_channel(any_ledger: Ledger, name: str) -> None:
    """Of any graph, in a checkpoint and in a write; a proper channel is kept."""
    saver = SQLAlchemySaver(any_ledger.database)
    config: Any = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}
    for channel in (name, "proper"):
        checkpoint = empty_checkpoint()
        checkpoint["channel_versions"] = {channel: "1"}
        checkpoint["channel_values"] = {channel: "x"}
        if channel == name:
            with pytest.raises(ConfigurationError, match=r"channel .* holds a NUL or half a character"):
                saver.put(config, checkpoint, {}, {channel: "1"})
        else:
            at = saver.put(config, checkpoint, {}, {channel: "1"})
            with pytest.raises(ConfigurationError, match=r"channel .* holds a NUL or half a character"):
                saver.put_writes(at, [(name, "x")], "task")
            saver.put_writes(at, [(channel, "x")], "task")
    kept = saver.get_tuple(config)
    assert kept is not None
    assert kept.checkpoint["channel_values"] == {"proper": "x"}
