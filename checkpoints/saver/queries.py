"""Functions that return work that reads a checkpoint, a delta channel's history or a list from the database."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from langchain_core.runnables import RunnableConfig
from sqlalchemy import Connection

from bursar.checkpoints.database.database import Work
from bursar.checkpoints.saver.address import Address, address_of
from bursar.checkpoints.saver.channel_values import mark
from bursar.checkpoints.saver.codec import Codec
from bursar.checkpoints.saver.delta_chains import DeltaChain, DeltaChains
from bursar.checkpoints.saver.listing import Listing
from bursar.checkpoints.saver.sql import (
    VALUE,
    HistoryRow,
    StoredRow,
    latest,
    latest_history,
    one,
    one_history,
)


class Read(NamedTuple):
    """The rows of a checkpoint, and `known`, the cached delta chains of its values by channel.

    For a channel in `known`, `rows` need only have the row of the version that the checkpoint shows.
    """

    rows: Sequence[StoredRow]
    known: Mapping[str, DeltaChain]


def get_rows(at: Address) -> Work[list[StoredRow]]:
    """Return work that reads the rows of the checkpoint at `at`, of its values and of its writes."""

    def work(connection: Connection) -> list[StoredRow]:
        read = one if at.checkpoint_id else latest
        return [StoredRow(*row) for row in read(connection, **at.parameters())]

    return work


def get_known_rows(at: Address, trails: DeltaChains) -> Work[Read]:
    """Return work that reads the rows of the checkpoint at `at`, of its values and writes, with cached delta chains.

    If the cache `trails` has the chain of every value that is stored as a difference, the work does not read the
    versions that these values build on; the result's `known` has the chains instead. Otherwise the work reads all of
    these versions.
    """

    def work(connection: Connection) -> Read:
        read = one if at.checkpoint_id else latest
        rows = [StoredRow(*row) for row in read(connection, **at.parameters(), steps=1)]
        known = known_values(at, rows, trails)
        if any(row.part == VALUE and row.third is not None and row.first not in known for row in rows):
            rows = [StoredRow(*row) for row in read(connection, **at.parameters())]
            known = known_values(at, rows, trails)  # race: this read may have found a newer latest checkpoint
        return Read(rows, known)

    return work


def known_values(at: Address, rows: Sequence[StoredRow], trails: DeltaChains) -> dict[str, DeltaChain]:
    """Return, by channel, the chains in the cache `trails` whose last version is one of `rows`."""
    known: dict[str, DeltaChain] = {}
    for row in rows:
        if row.part == VALUE:
            trail = trails.get((*at.session, row.first))
            if (
                trail is not None
                and trail.last.version == row.second
                and trail.last.mark == mark(row.third, row.stored)
            ):
                known[row.first] = trail
    return known


def history_rows(at: Address, channels: Sequence[str]) -> Work[dict[str, list[HistoryRow]]]:
    """Return work that reads, by channel, the rows from which each of these delta channels is rebuilt."""

    def work(connection: Connection) -> dict[str, list[HistoryRow]]:
        read = one_history if at.checkpoint_id else latest_history
        return {
            channel: [HistoryRow(*row) for row in read(connection, **at.parameters(), channel=channel)]
            for channel in channels
        }

    return work


def listing_of(
    codec: Codec,
    config: RunnableConfig | None,
    wanted: Mapping[str, object] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> Listing:
    """Return the `Listing` for the arguments of `BaseCheckpointSaver.list`; `wanted` is LangGraph's `filter`."""
    at = address_of(config) if config else None
    return Listing(
        codec,
        thread_id=at and at.thread_id,
        checkpoint_ns=config["configurable"].get("checkpoint_ns") if config and "configurable" in config else None,
        checkpoint_id=at and at.checkpoint_id,
        before=before["configurable"].get("checkpoint_id") if before and "configurable" in before else None,
        wanted=wanted or {},
        limit=limit,
    )
