"""A LangGraph checkpointer on SQLite and PostgreSQL, for sync and async callers from one implementation.

Each method runs *work*: a function of a connection that `Database` runs in one transaction. The serde encodes values
before the transaction begins, and decodes them after it ends, so that no lock is held meanwhile.
"""

import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.leases import LeaseHolder, LeaseRequest, lease_of
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.address import Address, address_of
from bursar.checkpoints.saver.channel_values import NewValues
from bursar.checkpoints.saver.cipher import Cipher
from bursar.checkpoints.saver.codec import Codec
from bursar.checkpoints.saver.commit_sharing import CommitSharing, PendingWrites, StoreOperation, may_wait
from bursar.checkpoints.saver.delta_chains import RANDOM, DeltaChains
from bursar.checkpoints.saver.pruning import Pruning
from bursar.checkpoints.saver.queries import Read, get_known_rows, get_rows, history_rows, listing_of
from bursar.checkpoints.saver.rebasing import overwrite
from bursar.checkpoints.saver.removal import copy_session, delete_runs, delete_session
from bursar.checkpoints.saver.rows import (
    checkpoint_row,
    load_chains,
    read_history,
    read_tuple,
    stored_metadata,
    write_rows,
)
from bursar.checkpoints.saver.secure_delete import truncate_wal
from bursar.checkpoints.saver.serde import default_serde
from bursar.checkpoints.saver.store import RowsToStore, store
from bursar.checkpoints.schema.migrate import migrate
from bursar.state.errors import ConfigurationError

# In `configurable`: the ledger of the run. If it is in the saver's database, checkpoints need not wait for the disk:
# the ledger's next durable commit puts them there too. LangGraph keeps keys that begin with `__` out of the metadata.
LEDGER = "__bursar_ledger"
MAX_WAIT_SECONDS = 3600
DIGITS = 12  # of a version's number: a session of a step every millisecond has them for thirty years


class SQLAlchemySaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of any LangGraph graph in the database at `url`; makes and migrates its tables.

    Any number of threads and event loops may use it at once. A checkpoint is on disk when `put` returns. In a run of a
    supervisor whose ledger is in the same database, it is on disk after the ledger's next durable commit. Every channel
    value, write and metadata goes through `serde` and is encrypted by `cipher`, if there is one. Ids, channel names and
    versions are stored in clear. A value of `configurable` with a name such as `api_key` or `token` is not stored. A
    supervisor's run owns its session by a lease of `lease_seconds`, which is renewed while the run works. Another run
    that wants the session meanwhile waits up to `wait_seconds`, then raises `SessionBusy`. Runs of other graphs take a
    lease only by `own`. `randomness` returns floats in [0, 1), which become part of each version, so that two branches
    of a session never make the same version. `clock` returns the present time, for `prune`.

    Raises `ConfigurationError` for a wrong URL or lease, and `DatabaseError` if the database cannot be used.
    """

    def __init__(
        self,
        url: str | Database,
        *,
        serde: SerializerProtocol | None = None,
        cipher: Cipher | None = None,
        lease_seconds: float = 30,
        wait_seconds: float = 0,
        randomness: Callable[[], float] = random.random,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if lease_seconds <= 0:
            raise ConfigurationError(f"lease_seconds must be positive, not {lease_seconds}")
        if not 0 <= wait_seconds <= MAX_WAIT_SECONDS:
            raise ConfigurationError(f"wait_seconds must be from 0 to {MAX_WAIT_SECONDS}, not {wait_seconds}")
        super().__init__(serde=serde or default_serde())
        self.lease_seconds = lease_seconds
        self.wait_seconds = wait_seconds
        self._randomness = randomness
        self._clock = clock
        self._cipher = cipher
        self._trails = DeltaChains()
        self._companions = CommitSharing()
        self._delta_channels: set[str] = set()
        self._database = Database.at(url)
        migrate(self._database)

    @property
    def database(self) -> Database:
        """The database that keeps the checkpoints."""
        return self._database

    def own(
        self,
        thread_id: str,
        *,
        wait_seconds: float | None = None,
        take_over: bool = False,
        ledger: Ledger | None = None,
        resumes: bool = False,
    ) -> LeaseHolder:
        """Return a `with` or `async with` block that owns the session: `with saver.own("s-1") as owned:`.

        In the block, run `graph.invoke(x, owned.config)`. A run with that config is fenced: if another run takes the
        session over, the fenced run's writes are refused with `LeaseLost`. A run without it is not fenced, unless its
        graph is a supervisor's, which does this by itself. If another run owns the session, entering waits
        `wait_seconds`, by default the saver's own, then raises `SessionBusy`. If `take_over`, the session is taken even
        from an owner that still lives. Only the engine gives `ledger` and `resumes`, for the audit log: if the run
        `resumes`, its lease is logged at once.
        """
        wait = self.wait_seconds if wait_seconds is None else min(max(wait_seconds, 0), MAX_WAIT_SECONDS)
        known = ledger if ledger is not None and ledger.database is self._database else None
        wish = LeaseRequest(wait_seconds=wait, take_over=take_over, ledger=known, resumes=resumes)
        owner = uuid.uuid4().hex[:12]
        return LeaseHolder(self._database, thread_id, seconds=self.lease_seconds, owner=owner, wish=wish)

    @property
    def _codec(self) -> Codec:
        return Codec(self.serde, self._cipher)

    def get_next_version(self, current: str | float | None, channel: None = None) -> str:
        """Return a version that sorts after `current`, with random digits that differ from another branch's version."""
        digits = current.partition(".")[0] if isinstance(current, str) else str(int(current or 0))
        # As wide as `current`, which another saver may have made, so that text sorts as numbers do.
        width = max(len(digits), DIGITS)
        return f"{int(digits) + 1:0{width}}.{int(self._randomness() * 10**RANDOM):0{RANDOM}}"

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store `checkpoint`, whose parent `config` names. Replace one with the same id. Return its config."""
        at, storing = self._put(config, checkpoint, metadata, new_versions)
        self._store(storing)
        return at.config()

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what `put` does, without blocking the event loop."""
        at, storing = self._put(config, checkpoint, metadata, new_versions)
        await self._astore(storing)
        return at.config()

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store a task's writes at the checkpoint in `config`, which may not exist yet.

        A write that is stored already is not changed, but a later error, interrupt or resume replaces an earlier one.
        """
        self._store(self._put_writes(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Do what `put_writes` does, without blocking the event loop."""
        await self._astore(self._put_writes(config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, by default the latest of its namespace; None if there is none."""
        at = address_of(config)
        return self._found(at, self._database.run(get_known_rows(at, self._trails), readonly=True))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do what `get_tuple` does, without blocking the event loop."""
        at = address_of(config)
        return self._found(at, await self._database.arun(get_known_rows(at, self._trails), readonly=True, brief=True))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield the checkpoints of the session and namespace in `config`, newest first.

        If `config` has no namespace, all namespaces are listed; if it is None, all sessions. `filter` maps metadata
        keys to the values that a checkpoint must have. The checkpoint in `before` and later ones are left out. Each
        page is read in a transaction of its own.
        """
        listing = listing_of(self._codec, config, filter, before, limit)
        while not listing.done:
            for found in listing.take(self._database.run(listing.next_page, readonly=True)):
                yield found()

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Do what `list` does, without blocking the event loop."""
        listing = listing_of(self._codec, config, filter, before, limit)
        while not listing.done:
            for found in listing.take(await self._database.arun(listing.next_page, readonly=True)):
                yield found()

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return, by channel, what the channel's value at the checkpoint in `config` is rebuilt from.

        That is the nearest stored value among the checkpoint's ancestors, if any, and the ancestors' writes since that
        value, oldest first.
        """
        at = address_of(config)
        rows = self._database.run(history_rows(at, channels), readonly=True)
        return {channel: read_history(self._codec, at, channel, found) for channel, found in rows.items()}

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do what `get_delta_channel_history` does, without blocking the event loop."""
        at = address_of(config)
        rows = await self._database.arun(history_rows(at, channels), readonly=True)
        return {channel: read_history(self._codec, at, channel, found) for channel, found in rows.items()}

    def delete_thread(self, thread_id: str) -> None:
        """Delete all that this saver stored of the session. The ledger's log stays: it has hashes, not texts."""
        self._database.run(lambda connection: delete_session(connection, str(thread_id)))
        self._database.run(truncate_wal, readonly=True, apart=True)

    async def adelete_thread(self, thread_id: str) -> None:
        """Do what `delete_thread` does, without blocking the event loop."""
        await self._database.arun(lambda connection: delete_session(connection, str(thread_id)))
        await self._database.arun(truncate_wal, readonly=True, apart=True)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that these runs made, and their writes. Later checkpoints stay readable."""
        self._database.run(lambda connection: delete_runs(connection, self._codec, map(str, run_ids)))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `delete_for_runs` does, without blocking the event loop."""
        await self._database.arun(lambda connection: delete_runs(connection, self._codec, map(str, run_ids)))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a session to another. Raises `ValueError`, and copies nothing, if the target is not empty."""
        self._database.run(lambda connection: copy_session(connection, str(source_thread_id), str(target_thread_id)))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `copy_thread` does, without blocking the event loop."""
        await self._database.arun(
            lambda connection: copy_session(connection, str(source_thread_id), str(target_thread_id))
        )

    def prune(
        self,
        thread_ids: Sequence[str] | None,
        *,
        strategy: str = "keep_latest",
        older_than: timedelta | None = None,
    ) -> None:
        """Remove checkpoints: with `keep_latest` all but each namespace's latest, with `delete` or `delete_all` all.

        If `older_than` is given, `keep_latest` removes only older checkpoints, and the other strategies remove only
        sessions that have no younger checkpoint; then `thread_ids` may be None for every session. A checkpoint's id
        says its age. The checkpoints that are kept stay readable, delta channels included. Each session is pruned in a
        transaction of its own. Raises `ValueError` for any other strategy, if `older_than` is not positive, or if both
        `thread_ids` and `older_than` are None.
        """
        pruning = Pruning.checked(self._codec, strategy, older_than, self._clock())
        found = self._database.run(pruning.sessions, readonly=True) if thread_ids is None else thread_ids
        for thread_id in found:
            self._database.run(pruning.of(str(thread_id)))
        self._database.run(truncate_wal, readonly=True, apart=True)

    async def aprune(
        self,
        thread_ids: Sequence[str] | None,
        *,
        strategy: str = "keep_latest",
        older_than: timedelta | None = None,
    ) -> None:
        """Do what `prune` does, without blocking the event loop."""
        pruning = Pruning.checked(self._codec, strategy, older_than, self._clock())
        found = await self._database.arun(pruning.sessions, readonly=True) if thread_ids is None else thread_ids
        for thread_id in found:
            await self._database.arun(pruning.of(str(thread_id)))
        await self._database.arun(truncate_wal, readonly=True, apart=True)

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> tuple[Address, StoreOperation]:
        parent = address_of(config)
        at = Address(parent.thread_id, parent.checkpoint_ns, checkpoint["id"])
        codec = self._codec
        row = checkpoint_row(codec, at, checkpoint, stored_metadata(config, metadata), parent.checkpoint_id)
        new = NewValues.of(codec, at, checkpoint["channel_values"], new_versions)
        strange = parent.checkpoint_id is not None and new.needs_base_lookup(self._trails)
        if not strange:
            new.encode_rows(codec, self._trails)
        self._learn(metadata)
        lease = lease_of(config)
        taken = self._companions.take((*at.session, lease))
        writes = [parcel.rows for parcel in taken]
        rows = RowsToStore(new.whole, new.differences, checkpoint=[row]).with_writes(
            writes
        )  # `work` may fill its lists later

        def work(connection: Connection) -> None:
            if strange:
                new.encode_rows(codec, self._trails, load_chains(codec, parent, get_rows(parent)(connection)))
            store(connection, rows, lease)

        def again(connection: Connection) -> None:
            overwrite(connection, codec, new)
            store(connection, RowsToStore(checkpoint=[row]).with_writes(writes), lease)

        one = not strange and rows.is_one_statement
        return at, StoreOperation(work, self._durable(config), one, again, taken)

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> StoreOperation:
        at = address_of(config)
        own = write_rows(self._codec, at, writes, task_id=task_id, task_path=task_path)
        durable = self._durable(config)
        lease = lease_of(config)
        parcel: PendingWrites | None = None
        taken: list[PendingWrites] = []
        if durable and may_wait(config, [channel for channel, _ in writes], self._delta_channels):
            parcel = self._companions.leave((*at.session, lease), own)
        if parcel is None:
            taken = self._companions.take((*at.session, lease))
        rows = own.with_writes([parcel.rows for parcel in taken])

        def work(connection: Connection) -> None:
            store(connection, rows, lease)

        return StoreOperation(work, durable, rows.is_one_statement, taken=taken, parcel=parcel)

    def _store(self, storing: StoreOperation) -> None:
        if storing.parcel is not None and self._companions.wait(storing.parcel):
            return
        with storing.told():
            try:
                self._database.run(storing.work, durable=storing.durable, one_statement=storing.one_statement)
            except IntegrityError:  # a version is stored already, or the version that a difference builds on is gone
                if storing.again is None:
                    raise
                self._database.run(storing.again, durable=storing.durable)

    async def _astore(self, storing: StoreOperation) -> None:
        if storing.parcel is not None:
            alone = storing._replace(parcel=None)
            if await self._companions.await_(storing.parcel, lambda: self._astore(alone)):
                return
        with storing.told():
            try:
                await self._database.arun(
                    storing.work, durable=storing.durable, brief=True, one_statement=storing.one_statement
                )
            except IntegrityError:
                if storing.again is None:
                    raise
                await self._database.arun(storing.again, durable=storing.durable)

    def _learn(self, metadata: CheckpointMetadata) -> None:
        """Add to `_delta_channels` the delta channels that `metadata` names. LangGraph awaits writes to them."""
        self._delta_channels.update(metadata.get("counters_since_delta_snapshot") or ())

    def _found(self, at: Address, read: Read) -> CheckpointTuple | None:
        found = read_tuple(self._codec, at, read.rows, self._trails, known=read.known)
        if found is not None:
            self._learn(found.metadata)
        return found

    def _durable(self, config: RunnableConfig) -> bool:
        ledger = config.get("configurable", {}).get(LEDGER)
        return not isinstance(ledger, Ledger) or ledger.database is not self._database
