"""What sessions take on disk, and that values stored as differences are read as they were put."""

import asyncio
import random
import re
import string
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, ChannelVersions, Checkpoint, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer, add_messages  # pyright: ignore[reportPrivateUsage]
from sqlalchemy import Connection, UpdateBase, func, select, update

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.saver.address import Address, address_of
from bursar.checkpoints.saver.delta_chains import MAX_CHAIN, DeltaChains
from bursar.checkpoints.saver.deltas import check, difference, pack, unpack
from bursar.checkpoints.saver.queries import get_known_rows
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.checkpoints.saver.sql import latest, latest_history, one, one_history
from bursar.checkpoints.schema.migrate import migrate
from bursar.checkpoints.schema.saver_tables import channel_values, checkpoints, task_writes
from bursar.state.errors import DatabaseError

SESSION: RunnableConfig = {"configurable": {"thread_id": "s-1", "checkpoint_ns": ""}}


def words(seed: int, size: int = 600) -> str:
    """About `size` characters of random words: what no compression makes much smaller."""
    draw = random.Random(seed)
    made = ""
    while len(made) < size:
        made += "".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9))) + " "
    return made


class Messages(TypedDict):
    """Ordinary state."""

    messages: Annotated[list[AnyMessage], add_messages]


reduce_deltas: Any = _messages_delta_reducer  # LangGraph leaves its types partly unknown


class Deltas(TypedDict):
    """The same with LangGraph's delta channel."""

    messages: Annotated[list[AnyMessage], DeltaChannel(reduce_deltas, snapshot_frequency=20)]


def answer(state: dict[str, Any]) -> dict[str, list[AIMessage]]:
    """Say something new."""
    return {"messages": [AIMessage(words(len(state["messages"])))]}


def chat(saver: BaseCheckpointSaver[Any], state: type, turns: int) -> Any:
    """A session of so many questions and answers; the graph."""
    kind: Any = StateGraph
    builder: Any = kind(state)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    graph: Any = builder.compile(checkpointer=saver)
    for turn in range(turns):
        graph.invoke({"messages": [HumanMessage(words(-turn))]}, SESSION, durability="sync")
    return graph


def stored_bytes(url: str) -> int:
    """All payloads together."""
    sums = [select(func.sum(func.length(table.c.payload))) for table in (checkpoints, channel_values, task_writes)]
    return Database.at(url).run(lambda connection: sum(connection.execute(one).scalar_one() or 0 for one in sums))


@pytest.mark.slow
@pytest.mark.parametrize("state", [Messages, Deltas])
def test_storage_grows_with_what_is_said(url: str, state: type) -> None:
    """Four times the turns take about four times the room, and not more than a few times the text itself."""
    chat(SQLAlchemySaver(url), state, 20)
    after_20 = stored_bytes(url)
    graph = chat(SQLAlchemySaver(url), state, 60)
    assert stored_bytes(url) < 4.4 * after_20
    said = [message.content for message in graph.get_state(SESSION).values["messages"]]
    assert len(said) == 160
    assert stored_bytes(url) < 8 * sum(map(len, said))
    for found in list(graph.get_state_history(SESSION))[::40]:
        assert found.values == graph.get_state(found.config).values


PIECES = st.lists(st.binary(max_size=80), max_size=6)


@given(old=PIECES, new=PIECES, order=st.permutations(range(6)))
def test_a_difference_makes_the_new_of_the_old(old: list[bytes], new: list[bytes], order: list[int]) -> None:
    """Whatever was added, moved or removed: stored and read back, the difference makes exactly the new bytes."""
    before = b"".join(old)
    after = b"".join([*(old[place] for place in order if place < len(old)), *new])
    packed = unpack(pack(1, after, difference(before, after)))
    body = bytearray(before)
    packed.difference.change(body)
    assert bytes(body) == after
    check(body, packed)
    with pytest.raises(DatabaseError, match="a stored value is damaged"):
        check(body + b"x", packed)


MESSAGES = [words(seed, 700).encode() for seed in range(6)]


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        ("abc", "abcd", 710),  # append
        ("abc", "ab", 3),  # remove the last
        ("abcd", "bcde", 760),  # slide a window
        ("abc", "dabc", 710),  # prepend
        ("abcd", "abed", 710),  # edit
        ("abcde", "bcd", 40),  # trim both ends
    ],
)
def test_what_states_do_costs_what_is_new(old: str, new: str, most: int) -> None:
    """Each way in which a list of messages usually changes stores the new message alone, behind any header."""

    def encoded(names: str) -> bytes:
        return bytes([0xDC, 0, len(names)]) + b"".join(b"head" + MESSAGES[ord(name) - ord("a")] for name in names)

    assert difference(encoded(old), encoded(new)).added <= most


def put(
    saver: SQLAlchemySaver, config: RunnableConfig, step: int, versions: ChannelVersions, **values: object
) -> RunnableConfig:
    """Store a checkpoint with these values, all changed."""
    made = empty_checkpoint()
    made.update(channel_values=values, channel_versions=versions)
    return saver.put(config, made, {"step": step}, versions)


def grow(saver: SQLAlchemySaver, steps: int) -> list[RunnableConfig]:
    """A session whose list gets a text longer at each step."""
    config, configs, texts = SESSION, list[RunnableConfig](), list[str]()
    for step in range(steps):
        texts.append(words(step))
        config = put(saver, config, step, {"texts": saver.get_next_version(step)}, texts=list(texts))
        configs.append(config)
    return configs


def texts_at(saver: SQLAlchemySaver, config: RunnableConfig) -> list[str]:
    """The list at a checkpoint."""
    found = saver.get_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]["texts"]


def execute(url: str, change: UpdateBase) -> None:
    """Change the database behind the saver's back."""

    def work(connection: Connection) -> None:
        assert connection.execute(change).rowcount

    Database.at(url).run(work)


def bases(url: str) -> dict[str, str | None]:
    """Each stored version and what it builds on."""
    asked = select(channel_values.c.version, channel_values.c.base)
    found = Database.at(url).run(lambda connection: connection.execute(asked).all())
    return {row.version: row.base for row in found}


def test_chains_stay_short(url: str) -> None:
    """Of 300 steps few are stored whole, and each is read from at most 45 rows, by a saver just opened."""
    configs = grow(SQLAlchemySaver(url), 300)
    built = bases(url)
    assert list(built.values()).count(None) <= 4  # the first, and where a step of 16 or 256 more than doubles the size
    for version in built:
        depth, at = 0, version
        while (below := built[at]) is not None:
            depth, at = depth + 1, below
        assert depth < MAX_CHAIN - 2
    reopened = SQLAlchemySaver(url)
    for step in (0, 1, 15, 16, 17, 255, 256, 257, 299):
        assert texts_at(reopened, configs[step]) == [words(number) for number in range(step + 1)]


def test_a_saver_that_has_just_been_opened_goes_on_with_the_chain(url: str) -> None:
    """A session that moves between processes is not stored whole again by each: what was read is built on."""
    grow(SQLAlchemySaver(url), 20)
    for step in range(20, 60):
        saver = SQLAlchemySaver(url)
        found = saver.get_tuple(SESSION)
        assert found is not None
        more = [*found.checkpoint["channel_values"]["texts"], words(step)]
        put(saver, found.config, step, {"texts": saver.get_next_version(step)}, texts=more)
    assert list(bases(url).values()).count(None) <= 2
    assert texts_at(SQLAlchemySaver(url), SESSION) == [words(number) for number in range(60)]


def test_a_saver_that_remembers_nothing_still_goes_on_with_the_chain(url: str) -> None:
    """More sessions than are remembered do not make a step store everything again."""
    saver = SQLAlchemySaver(url)
    grow(saver, 10)
    saver._trails = DeltaChains(max_kept=0)  # pyright: ignore[reportPrivateUsage]
    config = saver.get_tuple(SESSION)
    assert config is not None
    put(saver, config.config, 10, {"texts": saver.get_next_version(10)}, texts=[words(n) for n in range(11)])
    assert list(bases(url).values()).count(None) == 1
    assert texts_at(saver, SESSION) == [words(number) for number in range(11)]


def test_work_that_shares_its_transaction_and_fails_costs_no_room(tmp_path: Path) -> None:
    """A step that is done again, for what waited with it on SQLite raised, is stored as a difference still."""
    url = f"sqlite:///{tmp_path}/steps.db"
    config = grow(SQLAlchemySaver(url), 10)[-1]
    saver, reached, go_on = SQLAlchemySaver(url), threading.Event(), threading.Event()
    versions: ChannelVersions = {"texts": saver.get_next_version(10)}
    made = empty_checkpoint()
    made.update(channel_values={"texts": [words(number) for number in range(11)]}, channel_versions=versions)

    def wait(_connection: Connection) -> None:
        reached.set()
        assert go_on.wait(60)

    def fail(_connection: Connection) -> None:
        raise LookupError

    async def listed() -> int:
        return len([found async for found in saver.alist(SESSION)])

    async def together() -> None:
        busy = asyncio.create_task(saver.database.arun(wait))
        await asyncio.to_thread(reached.wait, 10)
        putting = asyncio.create_task(saver.aput(config, made, {"step": 10}, versions))
        listing = asyncio.create_task(listed())
        await asyncio.sleep(0)
        failing = asyncio.create_task(saver.database.arun(fail))
        await asyncio.sleep(0)  # both have asked now
        go_on.set()
        await asyncio.gather(busy, putting)
        assert await listing == 11  # nothing is passed over
        with pytest.raises(LookupError):
            await failing

    asyncio.run(together())
    assert list(bases(url).values()).count(None) == 1
    assert texts_at(SQLAlchemySaver(url), SESSION) == [words(number) for number in range(11)]


def test_what_is_remembered_is_not_read_again(url: str) -> None:
    """A saver reads one row of a value that it stored itself, however many it builds on; what is elsewhere, whole."""
    saver = SQLAlchemySaver(url)
    configs = grow(saver, 20)
    at = address_of(SESSION)

    def rows(at: Address, trails: DeltaChains) -> int:
        return len(saver.database.run(get_known_rows(at, trails), readonly=True).rows)

    trails = saver._trails  # pyright: ignore[reportPrivateUsage]
    whole = rows(at, DeltaChains())
    assert whole > rows(at, trails) == 2
    assert rows(address_of(configs[18]), trails) == whole - 1
    grow(SQLAlchemySaver(url), 5)
    assert rows(at, trails) == 6
    assert texts_at(saver, SESSION) == [words(number) for number in range(5)]
    assert rows(at, trails) == 2


def test_what_another_process_deleted_is_not_built_on(url: str) -> None:
    """A saver that remembers a session which is gone stores the next value whole, and it reads back."""
    one, other = SQLAlchemySaver(url), SQLAlchemySaver(url)
    last = grow(one, 5)[-1]
    other.delete_thread("s-1")
    put(one, last, 5, {"texts": one.get_next_version(5)}, texts=[words(number) for number in range(6)])
    assert texts_at(other, SESSION) == [words(number) for number in range(6)]
    assert list(bases(url).values()) == [None]


def test_a_version_put_again_changes_nothing_that_builds_on_it(url: str) -> None:
    """Another value under a stored version, as from a checkpoint put again, is read there and nowhere else."""
    saver = SQLAlchemySaver(url)
    configs = grow(saver, 20)
    found = saver.get_tuple(configs[3])
    assert found is not None
    checkpoint: Checkpoint = {**found.checkpoint, "channel_values": {"texts": ["other"]}}
    assert found.parent_config is not None
    saver.put(found.parent_config, checkpoint, found.metadata, {"texts": found.checkpoint["channel_versions"]["texts"]})
    for step, config in enumerate(configs):
        expected = ["other"] if step == 3 else [words(number) for number in range(step + 1)]
        assert texts_at(SQLAlchemySaver(url), config) == expected


def test_pruning_frees_the_room(url: str) -> None:
    """After `keep_latest` the one value that is left stands alone, and goes on."""
    saver = SQLAlchemySaver(url)
    grow(saver, 40)
    saver.prune(["s-1"])
    assert list(bases(url).values()) == [None]
    assert texts_at(SQLAlchemySaver(url), SESSION) == [words(number) for number in range(40)]
    put(saver, SESSION, 40, {"texts": saver.get_next_version(40)}, texts=[words(number) for number in range(41)])
    assert texts_at(SQLAlchemySaver(url), SESSION) == [words(number) for number in range(41)]


@pytest.mark.parametrize("how", ["base gone", "base changed", "cut short", "circle"])
def test_damage_is_told_and_never_read_as_a_value(url: str, how: str) -> None:
    """A value whose base is gone or changed, or that was cut, raises one line and returns nothing wrong."""
    saver = SQLAlchemySaver(url)
    grow(saver, 3)
    first = channel_values.c.version == min(bases(url))
    if how == "base gone":
        execute(url, channel_values.delete().where(first))
    elif how == "base changed":
        other = saver.serde.dumps_typed([words(99)])[1]
        execute(url, update(channel_values).where(first).values(payload=other))
    elif how == "cut short":
        execute(url, update(channel_values).where(channel_values.c.base.is_not(None)).values(payload=b"short"))
    else:
        execute(url, update(channel_values).values(base=channel_values.c.version))
    with pytest.raises(DatabaseError, match=r"^[^\n]*(damaged|gone|too many)[^\n]*$"):
        SQLAlchemySaver(url).get_tuple(SESSION)


def test_removed_messages_read_as_in_memory(url: str) -> None:
    """A session that is trimmed and edited while it grows holds what LangGraph's saver in memory holds."""
    found: list[list[str]] = []
    for saver in (SQLAlchemySaver(url), InMemorySaver()):
        graph = chat(saver, Messages, 3)
        for turn in range(12):
            first, second, *_ = graph.get_state(SESSION).values["messages"]
            changes = [RemoveMessage(first.id), HumanMessage(f"edited {turn}", id=second.id)]
            graph.update_state(SESSION, {"messages": changes}, as_node="answer")
            graph.invoke({"messages": [HumanMessage(words(1000 + turn))]}, SESSION, durability="sync")
        found.append([message.text for message in graph.get_state(SESSION).values["messages"]])
    assert found[0] == found[1]
    assert len(found[0]) == 18


@pytest.mark.postgres
def test_a_read_finds_each_row_by_its_key(postgres: str) -> None:
    """Also where PostgreSQL has never analysed the tables, and would rather read all of a session for every row."""
    database = Database(postgres)
    migrate(database)
    values = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c", "channel": "messages"}

    def plans(connection: Connection) -> list[str]:
        return [
            "\n".join(line for (line,) in read.explained(connection, **values))
            for read in (latest, one, latest_history, one_history)
        ]

    read = database.run(plans)
    database.close()
    for plan in read:
        conditions = re.findall(r"using bursar_channel_values_pkey .*?\n\s+Index Cond: (.*)", plan)
        assert conditions
        assert all("channel = " in condition for condition in conditions), plan
