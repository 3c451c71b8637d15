"""Random histories on the saver and on LangGraph's saver in memory: they must read alike, sync and async."""

import asyncio
import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from bursar.checkpoints.saver.cipher import Cipher
from bursar.checkpoints.saver.saver import SQLAlchemySaver

CHANNELS = ("a", "b", "ü/c")
TEXTS = [f"{number} " + "".join(chr(97 + number * 7 * place % 26) for place in range(300)) for number in range(12)]
# Large enough to be stored as differences.
GROWN = st.tuples(st.integers(0, 8), st.integers(0, 12)).map(
    lambda cut: TEXTS[cut[0] : cut[1]]
)  # stored as differences
VALUES = st.one_of(
    GROWN,
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3),
    st.binary(max_size=4),
)
PICKS = st.integers(0, 9)


@dataclass(frozen=True)
class Put:
    """Store a checkpoint below the picked one; a changed channel whose value is absent has become empty."""

    session: int
    namespace: str
    parent: int
    again: bool
    changed: dict[str, Any]
    emptied: frozenset[str]
    source: str


@dataclass(frozen=True)
class Write:
    """Store a task's writes at the picked checkpoint, which may not exist."""

    session: int
    namespace: str
    at: int
    task: str
    path: str
    writes: list[tuple[str, Any]]


@dataclass(frozen=True)
class Prune:
    """Keep the latest checkpoint of each namespace."""

    session: int


@dataclass(frozen=True)
class Copy:
    """Replace one session by a copy of the other."""

    session: int


SESSIONS, NAMESPACES = st.integers(0, 1), st.sampled_from(["", "child:1"])
WRITES = st.tuples(st.sampled_from([*CHANNELS, ERROR, INTERRUPT, RESUME]), VALUES)
STEPS = st.one_of(
    st.builds(
        Put,
        session=SESSIONS,
        namespace=NAMESPACES,
        parent=PICKS,
        again=st.booleans(),
        changed=st.dictionaries(st.sampled_from(CHANNELS), VALUES),
        emptied=st.frozensets(st.sampled_from(CHANNELS), max_size=1),
        source=st.sampled_from(["loop", "input"]),
    ),
    st.builds(
        Write,
        session=SESSIONS,
        namespace=NAMESPACES,
        at=PICKS,
        task=st.sampled_from(["t1", "t2", "T3"]),
        path=st.sampled_from(["", "~a", "~B"]),
        writes=st.lists(WRITES, max_size=4),
    ),
    st.builds(Prune, session=SESSIONS),
    st.builds(Copy, session=SESSIONS),
)
Step = Put | Write | Prune | Copy


@dataclass
class Pair:
    """The two savers, in one history."""

    name: str
    saver: SQLAlchemySaver
    memory: InMemorySaver = field(default_factory=InMemorySaver)
    made: dict[tuple[str, str], list[Checkpoint]] = field(default_factory=dict[tuple[str, str], list[Checkpoint]])
    steps: int = 0

    def config(self, session: int, namespace: str, checkpoint_id: str | None = None) -> RunnableConfig:
        at = {"thread_id": f"{self.name}-{session}", "checkpoint_ns": namespace}
        return {"configurable": at if checkpoint_id is None else at | {"checkpoint_id": checkpoint_id}}

    def apply(self, step: Step) -> None:
        if isinstance(step, Prune):
            self.prune(f"{self.name}-{step.session}")
            return
        if isinstance(step, Copy):
            self.copy(f"{self.name}-{step.session}", f"{self.name}-{1 - step.session}")
            return
        made = self.made.setdefault((f"{self.name}-{step.session}", step.namespace), [])
        if isinstance(step, Put):
            self.put(step, made)
        else:
            at = made[step.at % len(made)]["id"] if made else "not-yet"
            config = self.config(step.session, step.namespace, at)
            for saver in (self.saver, self.memory):
                saver.put_writes(config, step.writes, step.task, step.path)

    def prune(self, name: str) -> None:
        """The saver prunes; the one in memory cannot, so its dictionaries are."""
        self.saver.prune([name])
        for namespace, stored in self.memory.storage[name].items():
            kept = max(stored, default="")
            for gone in [found for found in stored if found != kept]:
                del stored[gone]
            for key in [key for key in self.memory.writes if key[:2] == (name, namespace) and key[2] < kept]:
                del self.memory.writes[key]
            made = self.made.get((name, namespace), [])
            made[:] = [found for found in made if found["id"] == kept]

    def copy(self, source: str, target: str) -> None:
        """As `prune`."""
        memory: Any = self.memory
        self.saver.delete_thread(target)
        memory.delete_thread(target)
        self.saver.copy_thread(source, target)
        memory.storage[target] = deepcopy(memory.storage[source])
        for kept in (memory.writes, memory.blobs):
            for key in [key for key in kept if key[0] == source]:
                kept[target, *key[1:]] = deepcopy(kept[key])
        for name, namespace in list(self.made):
            if name == target:
                del self.made[name, namespace]
        for (name, namespace), made in list(self.made.items()):
            if name == source:
                self.made[target, namespace] = list(made)

    def put(self, step: Put, made: list[Checkpoint]) -> None:
        self.steps += 1
        parent = made[step.parent % len(made)] if made and step.parent else None
        versions = dict(parent["channel_versions"]) if parent else {}
        values = dict(parent["channel_values"]) if parent else {}
        new = {name: self.saver.get_next_version(self.steps) for name in {*step.changed, *step.emptied}}
        for name in step.emptied - step.changed.keys():
            values.pop(name, None)
        checkpoint: Checkpoint = {
            "v": 4,
            "id": made[-1]["id"] if made and step.again else f"{self.steps:04}",
            "ts": "2025-01-01T00:00:00+00:00",
            "channel_values": values | step.changed,
            "channel_versions": versions | new,
            "versions_seen": {"node": dict(versions)},
            "updated_channels": sorted(new),
        }
        made[:] = [other for other in made if other["id"] != checkpoint["id"]] + [checkpoint]
        above = None if parent is None or parent["id"] == checkpoint["id"] else parent["id"]
        config = self.config(step.session, step.namespace, above)
        for saver in (self.saver, self.memory):
            saver.put(config, checkpoint, {"source": step.source, "step": self.steps}, new)  # type: ignore[typeddict-item]


def plain(found: CheckpointTuple | None) -> object:
    """All that a saver says, without what two savers may word differently."""
    if found is None:
        return None
    parent = found.parent_config and found.parent_config.get("configurable")
    return found.config.get("configurable"), parent, found.checkpoint, found.metadata, found.pending_writes


def where(found: CheckpointTuple) -> tuple[str, str]:
    """Namespace and id."""
    at = found.config.get("configurable", {})
    return at["checkpoint_ns"], at["checkpoint_id"]


async def assert_alike(pair: Pair, session: int, namespace: str) -> None:
    """Reads of one namespace agree: the latest, each one, delta histories, and lists."""
    saver, memory = pair.saver, pair.memory
    here = pair.config(session, namespace)
    made = pair.made.get((f"{pair.name}-{session}", namespace), [])
    for config in (here, *(pair.config(session, namespace, found["id"]) for found in made)):
        assert (
            plain(saver.get_tuple(config)) == plain(await saver.aget_tuple(config)) == plain(memory.get_tuple(config))
        )
        history = memory.get_delta_channel_history(config=config, channels=CHANNELS)
        assert saver.get_delta_channel_history(config=config, channels=CHANNELS) == history
    middle = pair.config(session, namespace, made[len(made) // 2]["id"]) if made else None
    for wanted in ({}, {"source": "loop"}, {"source": "input", "step": 2}):
        for before, limit in itertools.product((None, middle), (None, 0, 2)):
            expected = [plain(found) for found in memory.list(here, filter=wanted, before=before, limit=limit)]
            assert [plain(found) for found in saver.list(here, filter=wanted, before=before, limit=limit)] == expected
            listed = saver.alist(here, filter=wanted, before=before, limit=limit)
            assert [plain(found) async for found in listed] == expected


HISTORIES = itertools.count()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*checkpoint.*")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=14))
def test_random_histories_read_as_in_memory(url: str, steps: list[Step]) -> None:
    """Whatever was put, put again, forked, written, pruned and copied reads as LangGraph's saver in memory says.

    Also from a saver that has just been opened, and with a cipher.
    """
    number = next(HISTORIES)
    cipher = Cipher({"key": bytes(32)}, "key", accept_plain=True) if number % 2 else None
    pair = Pair(f"h{number}", SQLAlchemySaver(url, cipher=cipher))
    for step in steps:
        pair.apply(step)
    if number % 4 > 1:
        pair.saver = SQLAlchemySaver(url, cipher=cipher)
    for session, namespace in itertools.product((0, 1), ("", "child:1")):
        asyncio.run(assert_alike(pair, session, namespace))
    for session in (0, 1):
        everywhere: RunnableConfig = {"configurable": {"thread_id": f"{pair.name}-{session}"}}
        expected = {where(found): plain(found) for found in pair.memory.list(everywhere)}
        assert {where(found): plain(found) for found in pair.saver.list(everywhere)} == expected
