"""`RetryQueue`: tries transactions again that failed with a database error, in the background, for up to an hour."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bursar.checkpoints.database.job import Work
from bursar.state.errors import BursarError, DatabaseError

RETRY_SECONDS = 2.0
PATIENCE_SECONDS = 1.0  # how long one attempt waits for another program's lock, or for a silent server
MAX_ATTEMPTS = 1_800  # an hour of attempts; then the ledger stays as it is, as after a crash


@dataclass(slots=True)
class _Late:
    work: Work[Any]
    attempts: int = 0


class RetryQueue:
    """The work that one database could not commit. A daemon thread tries it again, and ends when no work is left.

    The work must be safe to do twice: the second time it changes nothing, or raises a `BursarError`.
    """

    def __init__(self, run: Callable[[Work[Any], float], object]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._late: deque[_Late] = deque()
        self._working = False

    def add(self, work: Work[Any]) -> None:
        """Try the work again in the background until it is committed, an hour has passed, or the process ends."""
        with self._lock:
            self._late.append(_Late(work))
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="bursar-again", daemon=True).start()

    def forget(self) -> None:
        """Drop all work that waits to be tried again."""
        with self._lock:
            self._late.clear()

    def _work(self) -> None:
        while True:  # each piece has a bound
            time.sleep(RETRY_SECONDS)
            for _ in range(len(self._late)):
                with self._lock:
                    if not self._late:  # race: `forget` has emptied it
                        break
                    late = self._late.popleft()
                if not self._is_over(late):
                    with self._lock:
                        self._late.append(late)
            with self._lock:
                if not self._late:
                    self._working = False
                    return

    def _is_over(self, late: _Late) -> bool:
        late.attempts += 1
        try:
            self._run(late.work, time.monotonic() + PATIENCE_SECONDS)
        except DatabaseError:
            return late.attempts == MAX_ATTEMPTS
        except BursarError:
            return True  # the work was done after all, or another process did something that makes it needless
        return True
