"""`Pruning`: the choice of the checkpoints that `SQLAlchemySaver.prune` removes, by strategy and by age."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from bursar.checkpoints.database.database import Work
from bursar.checkpoints.saver.codec import Codec
from bursar.checkpoints.saver.removal import delete_session, keep_latest
from bursar.checkpoints.schema.saver_tables import checkpoints

STRATEGIES = ("keep_latest", "delete", "delete_all")
IS_UUID6 = "________-____-6___-____-____________"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GREGORIAN = 0x01B21DD213814000  # 100 ns steps from 1582-10-15, where UUIDs count from, to 1970; RFC 9562, 5.6


def id_at(moment: datetime) -> str:
    """Return the first 18 characters of a checkpoint id that is made at `moment`.

    A checkpoint id is a UUID of version 6, and these characters are its time. So an id that was made earlier sorts
    before them.
    """
    ticks = (moment - _EPOCH) // timedelta(microseconds=1) * 10 + _GREGORIAN
    high, low = ticks >> 12, ticks & 0xFFF
    return f"{high >> 16:08x}-{high & 0xFFFF:04x}-6{low:03x}"


class Pruning(NamedTuple):
    """A strategy and an age limit. If `before` is given, only checkpoints whose id sorts before it are pruned."""

    codec: Codec
    strategy: str
    before: str | None

    @classmethod
    def checked(cls, codec: Codec, strategy: str, older_than: timedelta | None, now: datetime) -> "Pruning":
        """Return the `Pruning` for these arguments. Raises `ValueError` if `strategy` or `older_than` is not valid."""
        if strategy not in STRATEGIES:
            raise ValueError(f"no prune strategy {strategy!r}; use one of {', '.join(STRATEGIES)}")
        if older_than is not None and older_than <= timedelta(0):
            raise ValueError(f"older_than must be positive, not {older_than}")
        return cls(codec, strategy, None if older_than is None else id_at(now - older_than))

    def sessions(self, connection: Connection) -> list[str]:
        """Return the sessions with a checkpoint older than `before`. Raises `ValueError` if `before` is None."""
        if self.before is None:
            raise ValueError("name the sessions to prune, or give older_than to prune all sessions by age")
        columns = checkpoints.c
        old = columns.checkpoint_id.like(IS_UUID6) & (columns.checkpoint_id < self.before)
        return list(connection.execute(select(columns.thread_id).distinct().where(old)).scalars())

    def of(self, thread_id: str) -> Work[None]:
        """Return a function that prunes the session `thread_id` in a transaction, by this strategy and age limit."""

        def work(connection: Connection) -> None:
            if self.strategy == "keep_latest":
                keep_latest(connection, self.codec, thread_id, self.before)
            elif self.before is None or not self._is_used(connection, thread_id):
                delete_session(connection, thread_id)

        return work

    def _is_used(self, connection: Connection, thread_id: str) -> bool:
        """Whether a checkpoint of the session is not older than `before`, or has an id that does not tell its age."""
        columns = checkpoints.c
        young = ~columns.checkpoint_id.like(IS_UUID6) | (columns.checkpoint_id >= self.before)
        mine = (columns.thread_id == thread_id) & ~columns.hidden
        return bool(connection.execute(select(func.count()).select_from(checkpoints).where(mine, young)).scalar())
