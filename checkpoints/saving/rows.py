"""Between LangGraph's values and rows: every channel value, write, checkpoint and metadata goes through the serde."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from bursar.checkpoints.saving.statements import SEED, VALUE, WRITE, HistoryRow, StoredRow

Row = dict[str, object]
_APART = frozenset({"id", "channel_values", "channel_versions"})  # kept in columns, not in the payload


class Address(NamedTuple):
    """Where a config points: a session, a namespace in it, and a checkpoint or None for the latest."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str | None

    def config(self) -> RunnableConfig:
        """The config that points here."""
        return {"configurable": self._asdict()}

    def parameters(self) -> Row:
        """The columns of the address, as parameters of a statement."""
        return cast(Row, self._asdict())


def address_of(config: RunnableConfig) -> Address:
    """The address in `config`. Raises `ValueError` if it names no session."""
    configurable = config.get("configurable", {})
    if "thread_id" not in configurable:
        raise ValueError("the config names no session; pass {'configurable': {'thread_id': ...}}")
    return Address(
        str(configurable["thread_id"]),
        configurable.get("checkpoint_ns") or "",
        configurable.get("checkpoint_id") or None or None,
    )


def checkpoint_row(
    serde: SerializerProtocol, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
) -> Row:
    """The row of `checkpoint`; its parent is the checkpoint that `config` points at."""
    thread_id, checkpoint_ns, parent_id = address_of(config)
    versions = checkpoint["channel_versions"]
    rest: dict[str, object] = {name: value for name, value in checkpoint.items() if name not in _APART}
    if not all(type(version) is str for version in versions.values()):
        rest["channel_versions"] = versions  # numbers of another saver's thread: the column keeps them as text only
    stored = get_checkpoint_metadata(config, metadata)
    run_id = stored.get("run_id")
    kind, payload = serde.dumps_typed((rest, stored))
    return {
        "thread_id": thread_id,
        "checkpoint_ns": checkpoint_ns,
        "checkpoint_id": checkpoint["id"],
        "parent_id": parent_id,
        "run_id": None if run_id is None else str(run_id),
        "hidden": False,
        "versions": json.dumps({channel: str(version) for channel, version in versions.items()}),
        "kind": kind,
        "payload": payload,
    }


def value_rows(
    serde: SerializerProtocol, at: Address, values: Mapping[str, object], new_versions: ChannelVersions
) -> list[Row]:
    """Rows of the channels that changed. A changed channel without a value has no row: it reads as absent."""
    rows: list[Row] = []
    for channel, version in new_versions.items():
        if channel in values:
            kind, payload = serde.dumps_typed(values[channel])
            rows.append(
                {
                    "thread_id": at.thread_id,
                    "checkpoint_ns": at.checkpoint_ns,
                    "channel": channel,
                    "version": str(version),
                    "kind": kind,
                    "payload": payload,
                }
            )
    return rows


def write_rows(
    serde: SerializerProtocol, at: Address, writes: Sequence[tuple[str, object]], *, task_id: str, task_path: str
) -> tuple[list[Row], list[Row]]:
    """Rows of a task's writes: those that are kept if they exist already, and those that overwrite."""
    once: list[Row] = []
    again: list[Row] = []
    for position, (channel, value) in enumerate(writes):
        idx = WRITES_IDX_MAP.get(channel, position)
        kind, payload = serde.dumps_typed(value)
        (once if idx >= 0 else again).append(
            {
                "thread_id": at.thread_id,
                "checkpoint_ns": at.checkpoint_ns,
                "checkpoint_id": at.checkpoint_id,
                "task_id": task_id,
                "idx": idx,
                "task_path": task_path,
                "channel": channel,
                "kind": kind,
                "payload": payload,
            }
        )
    return once, again


def read_tuple(serde: SerializerProtocol, at: Address, rows: Iterable[StoredRow]) -> CheckpointTuple | None:
    """The checkpoint that `rows` hold, with its values and its writes in order; None if they hold none."""
    head: StoredRow | None = None
    values: dict[str, Any] = {}
    writes: list[StoredRow] = []
    for row in rows:
        if row.part == VALUE:
            values[row.first] = serde.loads_typed((row.kind, bytes(row.payload)))
        elif row.part == WRITE:
            writes.append(row)
        else:
            head = row
    if head is None:
        return None
    rest, metadata = read_payload(serde, head.kind, head.payload)
    checkpoint = {"channel_versions": json.loads(head.third), **rest, "id": head.first, "channel_values": values}
    writes.sort(key=lambda row: writes_sort_key(row.third, row.first, row.idx))
    parent = None if head.second is None else at._replace(checkpoint_id=head.second).config()
    return CheckpointTuple(
        config=at._replace(checkpoint_id=head.first).config(),
        checkpoint=cast(Checkpoint, checkpoint),
        metadata=metadata,
        parent_config=parent,
        pending_writes=[
            (row.first, str(row.second), serde.loads_typed((row.kind, bytes(row.payload)))) for row in writes
        ],
    )


def read_payload(serde: SerializerProtocol, kind: str, payload: bytes) -> tuple[dict[str, Any], CheckpointMetadata]:
    """What a checkpoint's row holds besides its columns: the rest of the checkpoint, and its metadata."""
    rest, metadata = serde.loads_typed((kind, bytes(payload)))
    return rest, metadata


def read_history(serde: SerializerProtocol, channel: str, rows: Iterable[HistoryRow]) -> DeltaChannelHistory:
    """What a delta channel is rebuilt from: the nearest stored value, if any, and the writes since, oldest first."""
    history: DeltaChannelHistory = {"writes": []}
    writes: list[HistoryRow] = []
    for row in rows:
        if row.part == SEED:
            history["seed"] = serde.loads_typed((row.kind, bytes(row.payload)))
        else:
            writes.append(row)
    writes.sort(key=lambda row: (-row.depth, *writes_sort_key(row.task_path, row.task_id, row.idx)))
    pending: list[PendingWrite] = [
        (row.task_id, channel, serde.loads_typed((row.kind, bytes(row.payload)))) for row in writes
    ]
    history["writes"] = pending
    return history
