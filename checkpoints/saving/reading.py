"""What each kind of read asks the database for."""

from collections.abc import Mapping, Sequence

from langchain_core.runnables import RunnableConfig
from sqlalchemy import Connection

from bursar.checkpoints.database import Work
from bursar.checkpoints.saving.address import Address, address_of
from bursar.checkpoints.saving.codec import Codec
from bursar.checkpoints.saving.listing import Listing
from bursar.checkpoints.saving.statements import HistoryRow, StoredRow, latest, latest_history, one, one_history


def get_rows(at: Address) -> Work[list[StoredRow]]:
    """Work that reads the checkpoint at an address, all that it shows and its writes."""

    def work(connection: Connection) -> list[StoredRow]:
        read = one if at.checkpoint_id else latest
        return [StoredRow(*row) for row in read(connection, **at.parameters())]

    return work


def history_rows(at: Address, channels: Sequence[str]) -> Work[dict[str, list[HistoryRow]]]:
    """Work that reads what each of these delta channels is rebuilt from."""

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
    """The list that LangGraph's arguments ask for."""
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
