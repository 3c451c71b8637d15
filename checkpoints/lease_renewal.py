"""Renewing leases while their owners work, by one thread for each database: a database that hangs delays no other."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakSet

from bursar.checkpoints.database.database import Database
from bursar.state.errors import DatabaseError

IDLE_SECONDS = 30.0  # the thread ends after so long without a lease


@dataclass(slots=True)
class _Scheduled:
    at: float
    every: float
    renew: Callable[[], bool]


class LeaseRenewer:
    """The leases of this process in one database, and the thread that renews them, which sleeps until one is due.

    A run that ends within a third of its lease never wakes the thread. The thread needs no event loop, so it renews
    while handlers block or compute, as long as they let other threads run.
    """

    _of: "WeakKeyDictionary[Database, LeaseRenewer]" = WeakKeyDictionary()  # noqa: RUF012 - one registry per process
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._start()
        _all.add(self)

    @classmethod
    def of(cls, database: Database) -> "LeaseRenewer":
        """Return the one renewer that this process has for `database`."""
        with cls._lock:
            if database not in cls._of:
                cls._of[database] = cls()
            return cls._of[database]

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[object, _Scheduled] = {}
        self._thread: threading.Thread | None = None

    def add(self, key: object, renew: Callable[[], bool], *, every: float) -> None:
        """Call `renew` each time `every` seconds have passed, until it returns False or `key` is removed."""
        with self._changed:
            at = time.monotonic() + every
            sooner = all(at < due.at for due in self._due.values())
            self._due[key] = _Scheduled(at, every, renew)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="bursar-leases", daemon=True)
                self._thread.start()
            elif sooner:
                self._changed.notify()

    def remove(self, key: object) -> None:
        """Stop the renewals of `key`."""
        with self._changed:
            self._due.pop(key, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                if not self._due and not self._changed.wait(IDLE_SECONDS) and not self._due:
                    self._thread = None
                    return
                next_at = min((due.at for due in self._due.values()), default=now)
                if next_at > now:
                    self._changed.wait(next_at - now)
                    continue
                ready = [(key, due) for key, due in self._due.items() if due.at <= now]
            for key, due in ready:
                self._renew(key, due)

    def _renew(self, key: object, due: _Scheduled) -> None:
        try:
            holds = due.renew()
        except DatabaseError:
            holds = True  # the database may be back in time; if not, the fence refuses what the owner writes
        with self._changed:
            due.at = time.monotonic() + due.every
            # Race: `key` may have been removed, and added anew, while this renewed it without the lock.
            if not holds and self._due.get(key) is due:
                del self._due[key]


_all: "WeakSet[LeaseRenewer]" = WeakSet()


def _in_forked_child() -> None:
    LeaseRenewer._lock = threading.Lock()  # pyright: ignore[reportPrivateUsage]
    for renewals in list(_all):
        renewals._start()  # pyright: ignore[reportPrivateUsage] - a child owns nothing


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
