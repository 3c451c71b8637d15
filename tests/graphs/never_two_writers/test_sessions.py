"""Sessions: several requests, repeated messages, odd input, long conversations."""

from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from bursar import Budget, Ledger, Report, Task, build_supervisor
from bursar.state.errors import LedgerError
from bursar.state.money import USD
from tests.support.graphs import RouteTo, answer_of, ask, build, free, priced, scripted, session, specialist

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def _echo(task: Task) -> Report:
    return Report(answer=f"<{task.text}>")


def test_each_request_stands_for_itself(ledger: Ledger) -> None:
    """Runs, gaps, decisions and spend are of the last request alone; the conversation and the log hold all."""
    model = scripted("one", "two words")

    def handler(task: Task) -> Report:
        return Report(answer=priced(model).invoke(task.text).text, gaps=(f"gap of {task.text}",))

    app = build(ledger, [specialist("a", handler)])
    first, second = ask(app, "first"), ask(app, "second")
    assert first["gaps"] == ["a: gap of first"]
    assert second["gaps"] == ["a: gap of second"]
    assert (len(second["runs"]), len(second["decisions"])) == (1, 2)
    assert (first["spend"].spent, second["spend"].spent) == (USD("0.001"), USD("0.002"))
    assert [message.type for message in second["messages"]] == ["human", "ai"] * 2
    assert [row.kind for row in ledger.audit("s-1")].count("request_closed") == 2
    assert ledger.sessions()[0].requests == 2


def test_the_same_words_are_a_new_request(ledger: Ledger) -> None:
    """Asked again, a question is answered again, with a budget of its own."""
    with scripted("one", "two") as model:
        app = build(ledger, [specialist("a", lambda task: priced(model).invoke(task.text).text)])
        answers = [answer_of(ask(app, "same")) for _ in range(2)]
    assert answers == ["one", "two"]


def test_without_a_new_message_the_answer_is_given_again(ledger: Ledger) -> None:
    """Nothing is opened or paid. The same message again, by its id, is a wish for another answer, and a new request."""
    with scripted("one", "two") as model:
        app = build(ledger, [specialist("a", lambda task: priced(model).invoke(task.text).text)])
        message = HumanMessage("same", id="m-1")
        inputs: list[Any] = [{"messages": [message]}, {"messages": []}, {"messages": [message]}]
        first, second, third = (app.invoke(entered, session()) for entered in inputs)
    assert [answer_of(result) for result in (first, second, third)] == ["one", "one", "two"]
    assert all([message.type for message in result["messages"]] == ["human", "ai"] for result in (second, third))
    assert second["spend"] == first["spend"]
    assert [row.kind for row in ledger.audit("s-1")].count("request_opened") == 2


@pytest.mark.parametrize(
    "messages",
    [[], [("assistant", "I said this")], [("system", "be kind")], [("user", "")], [("user", " \n")]],
    ids=["nothing", "an answer", "a rule", "empty", "blank"],
)
def test_without_a_question_nothing_runs(messages: Any, ledger: Ledger) -> None:
    """Where the last message asks nothing, the answer says so and no specialist runs; the next question is served."""
    app = build(ledger, [free("a", _echo)])
    result = app.invoke({"messages": messages}, session())
    assert result["gaps"] == ["there is no question in the last message"]
    assert result["messages"][-1].type == "ai"
    assert "there is no question" in answer_of(result)
    assert result["runs"] == []
    assert answer_of(ask(app, "and now?")) == "<and now?>"


def test_the_last_message_asks(ledger: Ledger) -> None:
    """Earlier messages of the input are history."""
    seen: list[Task] = []
    app = build(ledger, [free("a", lambda task: seen.append(task) or "x")])
    app.invoke({"messages": [("system", "be kind"), ("user", "one"), ("assistant", "1"), ("user", "two")]}, session())
    assert seen[0].text == "two"
    assert [(turn.role, turn.text) for turn in seen[0].history] == [("user", "one"), ("assistant", "1")]


@pytest.mark.parametrize(
    "text",
    [
        "日本語で食費は？",
        "\u202eright to left",
        "a\x00b",
        "\U0001f469\u200d\U0001f680" * 50,
        "x" * 200_000,
        "' OR 1=1 --",
    ],
    ids=["japanese", "bidi", "nul", "emoji", "long", "sql"],
)
def test_any_text_is_answered(text: str, any_ledger: Ledger) -> None:
    """Questions and answers of any script pass whole through state, books and checkpoints."""
    app = build(any_ledger, [free("a", lambda task: task.text[:50_000])])
    ask(app, text)
    assert answer_of(app.get_state(session()).values) == text[:50_000]


def test_text_that_is_no_unicode_is_mended(ledger: Ledger) -> None:
    """A lone surrogate is replaced, and the session goes on."""
    app = build(ledger, [free("a", _echo)])
    assert answer_of(ask(app, "\ud800")) == "<�>"
    assert answer_of(ask(app, "second")) == "<second>"
    assert [row.kind for row in ledger.audit("s-1")].count("request_opened") == 2


@pytest.mark.parametrize("name", ["x" * 201, "line\nbreak"], ids=["long", "unprintable"])
def test_a_bad_session_id_is_refused_in_one_line(name: str, ledger: Ledger) -> None:
    """The error says what an id is."""
    with pytest.raises(LedgerError, match="a session id is 1 to 200 printable characters"):
        ask(build(ledger, [free("a", _echo)]), name=name)
    assert ledger.sessions() == []


def test_a_long_conversation_is_kept_and_shown_in_part(ledger: Ledger) -> None:
    """A thousand earlier messages are kept in order; a specialist sees the last twenty turns of them."""
    seen: list[Task] = []
    app = build(ledger, [free("a", lambda task: seen.append(task) or "x")])
    past = [(HumanMessage if n % 2 == 0 else AIMessage)(f"m{n}") for n in range(1_000)]
    result = app.invoke({"messages": [*past, HumanMessage("now")]}, session())
    assert [message.text for message in result["messages"]] == [*(f"m{n}" for n in range(1_000)), "now", "x"]
    assert [turn.text for turn in seen[0].history] == [f"m{n}" for n in range(980, 1_000)]
    again = ask(app, "more")
    assert len(again["messages"]) == 1_004


def test_without_a_checkpointer_the_books_hold(ledger: Ledger) -> None:
    """A graph that keeps no state still answers within its budget, under a session id of its own if none is given."""
    ids = iter(f"n-{number}" for number in range(100))
    with scripted("one", "two") as model:
        app: Any = build_supervisor(
            [specialist("a", lambda task: priced(model).invoke(task.text).text)],
            budget=Budget("0.03"),
            ledger=ledger,
            router=RouteTo(),
            clock=lambda: NOW,
            new_id=lambda: next(ids),
        )
        assert answer_of(app.invoke({"messages": [HumanMessage("x")]})) == "one"
        assert answer_of(app.invoke({"messages": [HumanMessage("x")]}, session("s-1"))) == "two"
    assert {row.session_id for row in ledger.sessions()} == {"n-0", "s-1"}
    assert {row.at for row in ledger.audit("s-1")} == {NOW}


def test_a_task_tells_who_when_and_how_much(ledger: Ledger) -> None:
    """A handler is told its session, tenant, request, the request's opening time and what it may spend."""
    seen: list[Task] = []
    app = build(ledger, [free("a", lambda task: seen.append(task) or "x", ceiling="0.02")], clock=lambda: NOW)
    result = ask(app)
    task = seen[0]
    assert (task.session_id, task.tenant, task.specialist, task.now, task.left) == (
        "s-1",
        "acme",
        "a",
        NOW,
        USD("0.02"),
    )
    assert task.request_id == result["messages"][-1].response_metadata["request_id"]
    with pytest.raises(ValueError, match="frozen"):
        task.text = "other"  # type: ignore[misc]
