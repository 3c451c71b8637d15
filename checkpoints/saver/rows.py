"""Functions that turn LangGraph's checkpoints, metadata and writes into rows, and rows back, by way of the serde."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, cast

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
    writes_sort_key,
)

from bursar.checkpoints.saver.address import Address, Row
from bursar.checkpoints.saver.channel_values import Version, Versions, read_encoded, read_values
from bursar.checkpoints.saver.codec import Codec, EncodedPayload
from bursar.checkpoints.saver.delta_chains import DeltaChain, DeltaChains
from bursar.checkpoints.saver.sql import SEED, VALUE, WRITE, HistoryRow, StoredRow
from bursar.checkpoints.saver.store import RowsToStore
from bursar.state.text import check_storable

CHECKPOINT_PLACE, WRITE_PLACE = "checkpoint", "write"
# The words by which LangGraph itself keeps secrets out of traces, and some more.
SECRET_WORDS = ("key", "token", "secret", "passw", "auth", "credential", "cookie", "bearer")
_TEXT = frozenset({str})
_APART = frozenset({"id", "channel_values", "channel_versions"})  # kept in columns, not in the payload


def checkpoint_row(
    codec: Codec, at: Address, checkpoint: Checkpoint, metadata: CheckpointMetadata, parent_id: str | None
) -> Row:
    """Return the row of `checkpoint`, whose address is `at`, with `metadata` but without the channels' values."""
    versions = checkpoint["channel_versions"]
    for channel in versions:
        _check_channel(channel)
    rest: dict[str, object] = {name: value for name, value in checkpoint.items() if name not in _APART}
    if not _TEXT.issuperset(map(type, versions.values())):
        rest["channel_versions"] = versions  # numbers of another saver's thread: the column keeps them as text only
        versions = {channel: str(version) for channel, version in versions.items()}
    run_id = metadata.get("run_id")
    kind, coding, payload = codec.dump((rest, metadata), (CHECKPOINT_PLACE, at.checkpoint_ns, checkpoint["id"]))
    return {
        "thread_id": at.thread_id,
        "checkpoint_ns": at.checkpoint_ns,
        "checkpoint_id": checkpoint["id"],
        "parent_id": parent_id,
        "run_id": None if run_id is None else str(run_id),
        "hidden": False,
        "versions": orjson.dumps(versions).decode(),
        "kind": kind,
        "payload": payload,
        "coding": coding,
    }


def stored_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> CheckpointMetadata:
    """Return the metadata that LangGraph would store for `config`, without secrets.

    A value of `configurable` is a secret if its name has one of `SECRET_WORDS` in it, such as `openai_api_key`.
    """
    stored = get_checkpoint_metadata(config, metadata)
    secret = [name for name in config.get("configurable", {}) if _is_secret(name)]
    if not secret:
        return stored
    return cast(CheckpointMetadata, {name: value for name, value in stored.items() if name not in secret})


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return any(word in name.casefold() for word in SECRET_WORDS)


@lru_cache(1024)
def _check_channel(name: str) -> None:
    check_storable("channel", name)


def write_rows(
    codec: Codec, at: Address, writes: Sequence[tuple[str, object]], *, task_id: str, task_path: str
) -> RowsToStore:
    """Return the rows of a task's writes.

    Errors, interrupts and resumes are in the result's `again`: they replace earlier writes. All other writes are in
    `once`: a write that is stored already is not changed.
    """
    once: list[Row] = []
    again: list[Row] = []
    for position, (channel, value) in enumerate(writes):
        _check_channel(channel)
        idx = WRITES_IDX_MAP.get(channel, position)
        kind, coding, payload = codec.dump(value, write_place(at, task_id, idx, channel))
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
                "coding": coding,
            }
        )
    return RowsToStore(once=once, again=again)


def write_place(at: Address, task_id: str, idx: int, channel: str) -> tuple[str, ...]:
    """Return the place of a write. The codec binds the write's encryption to the place.

    The session is no part of the place, so a copy of the session can be decrypted too.
    """
    return (WRITE_PLACE, at.checkpoint_ns, at.checkpoint_id or "", task_id, str(idx), channel)


def read_tuple(
    codec: Codec,
    at: Address,
    rows: Iterable[StoredRow],
    trails: DeltaChains | None = None,
    *,
    known: Mapping[str, DeltaChain] = MappingProxyType({}),
) -> CheckpointTuple | None:
    """Return the checkpoint in `rows`, with its values and its sorted writes; None if `rows` have no checkpoint.

    The chains of the values are put into the cache `trails`, for the next `put`. `known` has chains that were cached
    before, by channel: their values are taken from there.
    """
    sorted_rows = _sort(rows)
    if sorted_rows is None:
        return None
    head, shown, versions, writes = sorted_rows
    here = at._replace(checkpoint_id=head.first)
    rest, metadata = read_payload(codec, here, head.stored)
    values = read_values(codec, here, shown, versions, trails, known=known)
    checkpoint = {"channel_versions": shown, **rest, "id": head.first, "channel_values": values}
    writes.sort(key=lambda row: writes_sort_key(str(row.third), row.first, row.idx))
    parent = None if head.second is None else at._replace(checkpoint_id=head.second).config()
    return CheckpointTuple(
        config=here.config(),
        checkpoint=cast(Checkpoint, checkpoint),
        metadata=metadata,
        parent_config=parent,
        pending_writes=[
            (row.first, channel, codec.load(row.stored, write_place(here, row.first, row.idx, channel)))
            for row in writes
            for channel in (str(row.second),)
        ],
    )


def load_chains(codec: Codec, at: Address, rows: Iterable[StoredRow]) -> DeltaChains:
    """Return a new cache with the delta chains of the values in `rows`."""
    trails = DeltaChains()
    sorted_rows = _sort(rows)
    if sorted_rows is not None:
        _, shown, versions, _ = sorted_rows
        read_encoded(codec, at, shown, versions, trails)
    return trails


def _sort(
    rows: Iterable[StoredRow],
) -> tuple[StoredRow, dict[str, str], dict[str, Versions], list[StoredRow]] | None:
    """Return the checkpoint's row, its version of each channel, the stored versions by channel, and the write rows.

    Returns None if `rows` have no checkpoint.
    """
    head: StoredRow | None = None
    versions: dict[str, Versions] = {}
    writes: list[StoredRow] = []
    for row in rows:
        if row.part == VALUE:
            versions.setdefault(row.first, {})[str(row.second)] = Version(row.third, row.stored)
        elif row.part == WRITE:
            writes.append(row)
        else:
            head = row
    return None if head is None else (head, json.loads(head.third or "{}"), versions, writes)


def read_payload(codec: Codec, at: Address, stored: EncodedPayload) -> tuple[dict[str, Any], CheckpointMetadata]:
    """Decode a checkpoint's payload. Return the parts of the checkpoint that are not columns, and its metadata."""
    rest, metadata = codec.load(stored, (CHECKPOINT_PLACE, at.checkpoint_ns, at.checkpoint_id or ""))
    return rest, metadata


def read_history(codec: Codec, at: Address, channel: str, rows: Iterable[HistoryRow]) -> DeltaChannelHistory:
    """Return, from `rows`, the nearest stored value of a delta channel, if any, and the writes since, oldest first."""
    history: DeltaChannelHistory = {"writes": []}
    writes: list[HistoryRow] = []
    versions: Versions = {}
    seed: str | None = None
    for row in rows:
        if row.part == SEED:
            versions[row.first] = Version(row.second, row.stored)
            seed = row.first if row.depth == 1 else seed
        else:
            writes.append(row)
    if seed is not None:
        history.update(seed=read_values(codec, at, {channel: seed}, {channel: versions})[channel])
    writes.sort(key=lambda row: (-row.depth, *writes_sort_key(row.first, str(row.second), row.idx)))
    for row in writes:
        place = write_place(at._replace(checkpoint_id=row.checkpoint_id), str(row.second), row.idx, channel)
        history["writes"].append((str(row.second), channel, codec.load(row.stored, place)))
    return history
