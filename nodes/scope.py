"""Who is spending: the scope of one run of one handler, carried by a context variable."""

import heapq
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from bursar.checkpoints.ledger import Ledger
from bursar.state.errors import Refused

_current: ContextVar["Scope | None"] = ContextVar("bursar_scope", default=None)


@dataclass(slots=True, kw_only=True)
class Scope:
    """One run of one handler: whom its paid calls are charged to, and what they may not exceed.

    `scopes` are the accounts that a call touches, outermost first. `paid=False` refuses every paid call.
    `max_turns` caps the paid calls of this run, replayed ones included. `deadline` is in seconds of `time.monotonic`.
    `refusal` is the first refusal of this run; it stays, also where the handler swallows the exception.
    """

    ledger: Ledger
    session_id: str
    request_id: str
    agent: str
    checkpoint_ns: str
    scopes: tuple[str, ...]
    new_id: Callable[[], str]
    clock: Callable[[], datetime]
    paid: bool = True
    max_turns: int | None = None
    deadline: float | None = None
    refusal: Refused | None = None
    turns: int = 0
    closed: bool = False
    _occurrences: Counter[str] = field(default_factory=Counter[str], repr=False)
    _given_back: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list[int]), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def enter(self) -> Generator[None]:
        """Make this the current scope of the block and of every task and executor call started in it."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def close(self) -> None:
        """End the run: whatever still runs of it can no longer spend."""
        self.closed = True

    def latch(self, refusal: Refused) -> Refused:
        """Keep the first refusal of the run and return the one given, to be raised."""
        with self._lock:
            if self.refusal is None:
                self.refusal = refusal
        return refusal

    def take_turn(self) -> bool:
        """Count one paid call; False when the run has none left."""
        with self._lock:
            if self.max_turns is not None and self.turns >= self.max_turns:
                return False
            self.turns += 1
            return True

    def next_occurrence(self, request_hash: str) -> int:
        """How often this request was answered before in this run: 0 at first. The same when the run is repeated."""
        with self._lock:
            if given_back := self._given_back[request_hash]:
                return heapq.heappop(given_back)
            occurrence = self._occurrences[request_hash]
            self._occurrences[request_hash] += 1
            return occurrence

    def give_back(self, request_hash: str, occurrence: int) -> None:
        """Let the next such request have this occurrence: it got no answer, so the journal must not count it."""
        with self._lock:
            heapq.heappush(self._given_back[request_hash], occurrence)


def current_scope() -> Scope | None:
    """The scope that a paid call made here would be charged to, None outside any session."""
    return _current.get()
