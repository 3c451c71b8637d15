"""The saver's contract, beyond what the conformance suite tests."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from sqlalchemy import select

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes
from bursar.state.decision import Considered, Decision
from bursar.state.errors import ConfigurationError
from bursar.state.money import USD
from bursar.state.run import Outcome, Report, Run, Task, Turn
from bursar.state.spend import Spend

SESSION: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}


@dataclass
class Note:
    """A type of the user's own, as a channel's value."""

    text: str


class Reversing(CipherProtocol):
    """A cipher that anyone can read and no search for the plain text finds."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "reversed", plaintext[::-1]

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        assert ciphername == "reversed"
        return ciphertext[::-1]


def put(
    saver: SQLAlchemySaver,
    config: RunnableConfig,
    step: int,
    *,
    versions: dict[str, Any] | None = None,
    **values: object,
) -> RunnableConfig:
    """Store a checkpoint in which each of `values` has just changed."""
    new = versions or {channel: saver.get_next_version(step, None) for channel in values}
    return saver.put(config, checkpoint(step, values, new), {"source": "loop", "step": step, "parents": {}}, new)


def checkpoint(step: int, values: dict[str, Any], versions: dict[str, Any]) -> Checkpoint:
    """A checkpoint of a later id for each later call."""
    made = empty_checkpoint()
    made.update(id=str(uuid6(clock_seq=step)), channel_values=values, channel_versions=versions)
    return made


def id_of(config: RunnableConfig) -> str:
    """The checkpoint that `config` names."""
    return config.get("configurable", {})["checkpoint_id"]


def values_of(saver: SQLAlchemySaver, config: RunnableConfig = SESSION) -> dict[str, Any]:
    """The channel values of the checkpoint in `config`."""
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def writes_of(saver: SQLAlchemySaver, config: RunnableConfig) -> list[tuple[str, str, Any]]:
    """The writes at the checkpoint in `config`."""
    found = saver.get_tuple(config)
    assert found is not None
    return found.pending_writes or []


STATE: dict[str, Any] = {
    "task": Task(
        text="how much?",
        specialist="spending",
        session_id="s-1",
        request_id="r-1",
        tenant="acme",
        now=datetime(2025, 3, 1, tzinfo=UTC),
        left=USD("0.000000001"),
        history=(Turn(role="user", text="hello"),),
    ),
    "runs": [
        Run(
            step="spending",
            specialist="spending",
            handler="spending",
            outcome=Outcome.COMPLETED,
            report=Report(answer="12", data={"rows": [1, None, {"a": "b"}]}, sources=("march",), confidence=0.9),
            cost=USD("0.000150"),
        )
    ],
    "decisions": [
        Decision(
            kind="route",
            by="supervisor",
            rule="best value",
            chosen=("spending",),
            candidates=(Considered(name="spending", score=0.5, expected_cost=USD("0.01"), verdict="chosen"),),
            left=USD("0.03"),
        )
    ],
    "spend": Spend(spent=USD("9223372036.854775807"), budget=USD("-1.2"), by_agent={"spending": USD("0.1")}),
    "outcome": Outcome.EXHAUSTED,
    "messages": [HumanMessage("hello", id="m-1")],
}


def test_bursars_state_comes_back_exactly_and_silently(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every model of the state, amounts to the nano-dollar included, is rebuilt equal and without a warning."""
    saver = SQLAlchemySaver(url)
    with caplog.at_level(logging.WARNING):
        put(saver, SESSION, 1, **STATE)
        found = values_of(saver)
    assert found == STATE
    assert type(found["outcome"]) is Outcome
    assert type(found["spend"].by_agent["spending"]) is USD
    assert caplog.records == []


def test_an_allowlist_adds_types_and_keeps_the_database(url: str) -> None:
    """`with_allowlist` gives a saver on the same database that rebuilds one more type; the first one does not."""
    saver = SQLAlchemySaver(url)
    put(saver, SESSION, 1, note=Note("mine"))
    wider = saver.with_allowlist([(Note.__module__, "Note")])
    assert values_of(saver) == {"note": {"text": "mine"}}
    assert isinstance(wider, SQLAlchemySaver)
    found = values_of(wider)["note"]
    assert (type(found).__name__, found.text) == ("Note", "mine")


def test_nothing_that_a_user_wrote_is_stored_outside_the_serde(url: str) -> None:
    """Values, writes and metadata are found in no column once the serde encrypts."""
    serde = EncryptedSerializer(Reversing(), JsonPlusSerializer(allowed_msgpack_modules=None))
    saver = SQLAlchemySaver(url, serde=serde)
    config: RunnableConfig = {**SESSION, "metadata": {"account": "secret-3"}}
    at = put(saver, config, 1, text="secret-1", number=4)
    saver.put_writes(at, [("text", "secret-2")], "task")
    found = saver.get_tuple(SESSION)
    assert found is not None
    assert found.metadata.get("account") == "secret-3"
    assert found.checkpoint["channel_values"] == {"text": "secret-1", "number": 4}
    assert found.pending_writes == [("task", "text", "secret-2")]
    for table in (checkpoints, channel_values, task_writes):
        stored = Database.at(url).run(lambda connection, table=table: connection.execute(select(table)).all())
        assert stored
        assert b"secret" not in b"".join(
            cell if isinstance(cell, bytes) else str(cell).encode() for row in stored for cell in row
        )


def test_versions_grow_and_tell_branches_apart(url: str) -> None:
    """A next version sorts after the last, whatever kind the last was; two branches get different ones."""
    draws = iter([0.75, 0.25, 0.5, 0.5])
    saver = SQLAlchemySaver(url, randomness=lambda: next(draws))
    first = saver.get_next_version(None)
    assert first == "000000000001.7500000000000000"
    one, other = saver.get_next_version(first), saver.get_next_version(first)
    assert first < min(one, other)
    assert one != other
    assert saver.get_next_version(41) == "000000000042.5000000000000000"


def test_a_session_that_another_saver_began_goes_on_with_versions_as_wide(url: str) -> None:
    """Text sorts as the numbers do only where they are equally wide, so a session keeps the width it began with."""
    theirs = InMemorySaver().get_next_version(None, None)
    saver = SQLAlchemySaver(url)
    ours = saver.get_next_version(theirs)
    assert theirs < ours < InMemorySaver().get_next_version(ours, None) < saver.get_next_version(f"{9:032}.0")


def test_numeric_versions_of_another_saver_keep_their_type(url: str) -> None:
    """A thread that began with integer versions reads back with integers, and its values are found."""
    saver = SQLAlchemySaver(url)
    put(saver, SESSION, 1, versions={"a": 3, "b": 4}, a="x", b="y")
    found = saver.get_tuple(SESSION)
    assert found is not None
    assert found.checkpoint["channel_versions"] == {"a": 3, "b": 4}
    assert found.checkpoint["channel_values"] == {"a": "x", "b": "y"}


def test_a_value_is_stored_once_however_many_checkpoints_show_it(url: str) -> None:
    """A hundred steps that change one small channel store a large unchanged one once."""
    saver = SQLAlchemySaver(url)
    large = {"text": "x" * 10_000}
    versions: ChannelVersions = {"large": saver.get_next_version(None), "count": saver.get_next_version(None)}
    config = saver.put(SESSION, checkpoint(0, {"large": large, "count": 0}, versions), {"step": 0}, versions)
    for step in range(1, 100):
        new: ChannelVersions = {"count": saver.get_next_version(versions["count"])}
        versions = versions | new
        config = saver.put(config, checkpoint(step, {"large": large, "count": step}, versions), {"step": step}, new)
    assert [found.checkpoint["channel_values"]["count"] for found in saver.list(SESSION)] == list(range(99, -1, -1))
    assert values_of(saver) == {"large": large, "count": 99}
    stored = Database.at(url).run(
        lambda connection: connection.execute(select(channel_values.c.payload)).scalars().all()
    )
    assert len(stored) == 101
    assert sum(map(len, stored)) < 11_000


def test_putting_a_checkpoint_again_replaces_it(url: str) -> None:
    """The second `put` of an id counts, and the session still has one checkpoint."""
    saver = SQLAlchemySaver(url)
    version: ChannelVersions = {"a": saver.get_next_version(None)}
    made = checkpoint(1, {"a": "first"}, version)
    saver.put(SESSION, made, {"step": 1}, version)
    made["channel_values"] = {"a": "second"}
    saver.put(SESSION, made, {"step": 2}, version)
    (found,) = saver.list(SESSION)
    assert found.metadata == {"step": 2}
    assert found.checkpoint["channel_values"] == {"a": "second"}


def test_writes_may_arrive_before_their_checkpoint(url: str) -> None:
    """Writes that came first are there once their checkpoint is."""
    saver = SQLAlchemySaver(url)
    made = checkpoint(1, {}, {})
    at: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": "", "checkpoint_id": made["id"]}}
    saver.put_writes(at, [("a", 1)], "task")
    assert saver.get_tuple(SESSION) is None
    saver.put(SESSION, made, {}, {})
    assert writes_of(saver, SESSION) == [("task", "a", 1)]


def test_writes_are_ordered_by_path_then_task_then_position(url: str) -> None:
    """The order is that of LangGraph's own execution, in code points, not that of arrival or of a locale."""
    saver = SQLAlchemySaver(url)
    at = put(saver, SESSION, 1)
    for task_path, task_id in [("~b", "1"), ("~a", "4"), ("", "z"), ("~a", "2"), ("~B", "3")]:
        saver.put_writes(at, [("x", 0), ("y", 1)], task_id, task_path)
    assert [(task, channel) for task, channel, _ in writes_of(saver, at)] == [
        (task, channel) for task in ("z", "3", "2", "4", "1") for channel in ("x", "y")
    ]


def test_ordinary_writes_stay_and_special_ones_are_replaced(url: str) -> None:
    """A repeated task keeps its first result; of errors, interrupts and resumes the last counts, also in one batch."""
    saver = SQLAlchemySaver(url)
    at = put(saver, SESSION, 1)
    saver.put_writes(at, [("a", "first"), (INTERRUPT, "ask")], "task")
    saver.put_writes(at, [("a", "second"), (INTERRUPT, "ask again"), (RESUME, 1), (RESUME, 2)], "task")
    saver.put_writes(at, [(ERROR, "fault")], "task")
    assert {channel: value for _, channel, value in writes_of(saver, at)} == {
        "a": "first",
        INTERRUPT: "ask again",
        RESUME: 2,
        ERROR: "fault",
    }


def test_listing_crosses_sessions_and_pages(url: str) -> None:
    """Without a config every session's checkpoints come, newest first, each once, however many pages it takes."""
    saver = SQLAlchemySaver(url)
    made = [put(saver, {"configurable": {"thread_id": f"s-{step % 3}"}}, step, a=step) for step in range(80)]
    expected = sorted((id_of(config) for config in made), reverse=True)
    assert [found.checkpoint["id"] for found in saver.list(None)] == expected
    assert [found.checkpoint["id"] for found in saver.list(None, limit=70)] == expected[:70]
    assert [found.checkpoint["id"] for found in saver.list(None, before=made[40], limit=2)] == [
        found for found in expected if found < id_of(made[40])
    ][:2]
    assert [found.metadata.get("step") for found in saver.list(None, filter={"step": 7, "source": "loop"})] == [7]
    assert list(saver.list(None, filter={"step": 7, "source": "input"})) == []
    assert list(saver.list(None, limit=0)) == []


def test_checkpoints_with_one_id_are_all_listed(url: str) -> None:
    """A page that ends between sessions of equal checkpoint ids loses none of them."""
    saver = SQLAlchemySaver(url)
    made = checkpoint(1, {}, {})
    names = [f"s-{number:02}" for number in range(40)]
    for name in names:
        saver.put({"configurable": {"thread_id": name}}, made, {}, {})
    assert [found.config.get("configurable", {})["thread_id"] for found in saver.list(None)] == names


def test_copying_onto_a_session_refuses_and_changes_nothing(url: str) -> None:
    """A copy never mixes two sessions."""
    saver = SQLAlchemySaver(url)
    put(saver, SESSION, 1, a="source")
    put(saver, {"configurable": {"thread_id": "s-2"}}, 1, a="target")
    with pytest.raises(ValueError, match="session 's-2' exists already"):
        saver.copy_thread("s-1", "s-2")
    assert values_of(saver, {"configurable": {"thread_id": "s-2"}}) == {"a": "target"}


def test_wrong_use_is_told_in_one_line(url: str) -> None:
    """A wrong strategy and a config without a session raise `ValueError` and say what to do."""
    saver = SQLAlchemySaver(url)
    with pytest.raises(ValueError, match="no prune strategy 'some'; use one of keep_latest, delete, delete_all"):
        saver.prune(["s-1"], strategy="some")
    with pytest.raises(ValueError, match="the config names no session"):
        saver.get_tuple({"configurable": {}})


def test_a_lease_must_be_positive(url: str) -> None:
    """A lease of no length is refused before anything is opened."""
    with pytest.raises(ConfigurationError, match="lease_seconds must be positive"):
        SQLAlchemySaver(url, lease_seconds=0)
    assert SQLAlchemySaver(url, lease_seconds=5).lease_seconds == 5


def test_prune_delete_all_leaves_no_row(url: str) -> None:
    """`delete_all` is `delete`: no row of the session remains in any table."""
    saver = SQLAlchemySaver(url)
    saver.put_writes(put(saver, SESSION, 1, a=1), [("a", 2)], "task")
    saver.prune(["s-1"], strategy="delete_all")
    for table in (checkpoints, channel_values, task_writes):
        assert Database.at(url).run(lambda connection, table=table: connection.execute(select(table)).all()) == []


def test_a_hidden_checkpoint_is_never_the_latest(url: str) -> None:
    """A removed ancestor that sorts last, as after a clock that went back, is not read; what rests on it still is."""
    saver = SQLAlchemySaver(url)
    first: ChannelVersions = {"texts": saver.get_next_version(None)}
    second: ChannelVersions = {"texts": saver.get_next_version(None)}
    parent, child = checkpoint(1, {"texts": ["a"]}, first), checkpoint(2, {}, second)
    parent["id"], child["id"] = "2", "1"
    at = saver.put(SESSION, parent, {"run_id": "r-1"}, first)
    saver.put_writes(at, [("texts", ["b"]), ("other", 1)], "task")
    saver.put(at, child, {"counters_since_delta_snapshot": {"texts": (1, 1)}}, second)
    saver.delete_for_runs(["r-1"])
    found = saver.get_tuple(SESSION)
    assert found is not None
    assert found.checkpoint["id"] == "1"
    assert [shown.checkpoint["id"] for shown in saver.list(SESSION)] == ["1"]
    history = saver.get_delta_channel_history(config=SESSION, channels=["texts", "other"])
    assert history == {"texts": {"seed": ["a"], "writes": [("task", "texts", ["b"])]}, "other": {"writes": []}}
