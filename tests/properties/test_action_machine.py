"""Any order of attempts, crashes, answers and undoing keeps an action done or undone, and never done twice over."""

import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.checkpoints.database.database import Database
from bursar.checkpoints.ledger import actions, requests
from bursar.checkpoints.ledger.actions import ActionIntent, ActionRecord
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.refusals import ActionRefused

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
KEYS = ("a", "b", "c")
LAST = "c"  # the irreversible one
key = st.sampled_from(KEYS)


class Actions(RuleBasedStateMachine):
    """Three actions of one run, the world's own books beside the ledger's, and any number of attempts at each."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(Database("sqlite://"), clock=lambda: NOW)
        self.run = self.ledger.run
        self.run(requests.open_session, "s-1", "acme", at=NOW)
        self.numbers = itertools.count()
        self.mine: dict[str, str] = {}  # attempts that may do it: at most one for a key
        self.undoer: dict[str, str] = {}
        self.stale: list[tuple[str, str]] = []
        self.world: Counter[str] = Counter()
        self.ever: Counter[str] = Counter()

    def teardown(self) -> None:
        """The log must tell what the rows say."""
        found = self.ledger.verify()
        self.ledger.database.close()
        assert found, str(found)

    def _new(self) -> str:
        return f"host|1|1|{next(self.numbers)}"

    def _deed(self, key: str) -> ActionRecord | None:
        return self.run(actions.find, key)

    @rule(key=key)
    def intend(self, key: str) -> None:
        """Only the first to intend it may do it; what is out of order is refused."""
        before, attempt = self._deed(key), self._new()
        states = {deed.name: deed.state for deed in self.run(actions.of_run, "s-1", "ns")}
        intent = ActionIntent(key, "s-1", "r", "agent", "ns", key, b"{}", key == LAST, attempt, NOW)
        try:
            found = self.run(actions.intend, intent, at=NOW)
        except ActionRefused:
            others = {name: state for name, state in states.items() if name != key}
            open_ = {"intended", "in_doubt"}
            assert (
                not {"undoing", "undone"}.isdisjoint(others.values())
                or others.get(LAST) in {*open_, "done"}
                or (key == LAST and not open_.isdisjoint(others.values()))
            )
            assert self._deed(key) is None
            return
        assert (found is None) == (before is None)
        if found is None:
            self.mine[key] = attempt

    @rule(key=key, dies=st.booleans())
    def act(self, key: str, dies: bool) -> None:
        """Whoever has it acts; it may die before it tells."""
        if attempt := self.mine.pop(key, ""):
            self.world[key] += 1
            self.ever[key] += 1
            if dies:
                self.stale.append((key, attempt))
            else:
                assert self.run(actions.done, key, attempt=attempt, result=b"1", at=NOW)

    @rule(key=key)
    def lose(self, key: str) -> None:
        """Nobody hears of an attempt again."""
        deed = self._deed(key)
        if deed is not None and deed.state == "intended":
            self.mine.pop(key, None)
            assert self.run(actions.doubt, key, attempt=deed.attempt, reason="died", at=NOW)

    @rule(key=key)
    def check(self, key: str) -> None:
        """The outside says what became of it."""
        deed = self._deed(key)
        if deed is None or deed.state != "in_doubt":
            return
        if self.world[key]:
            assert self.run(actions.done, key, attempt=deed.attempt, result=json.dumps(1).encode(), at=NOW)
        else:
            assert self.run(actions.void, key, attempt=deed.attempt, reason="not done", at=NOW)

    @rule(key=key, others=st.integers(0, 2))
    def claim(self, key: str, others: int) -> None:
        """Of several that would do it again one may, and none where it is done."""
        deed = self._deed(key)
        if deed is None or (deed.state == "in_doubt" and self.world[key]):
            return  # a check forbids it
        attempts = [self._new() for _ in range(others + 1)]
        won = [a for a in attempts if self.run(actions.claim, deed, attempt=a, until=NOW, at=NOW)]
        assert len(won) == (deed.state in {"void", "in_doubt"})
        if won:
            self.mine[key] = won[0]

    @rule(key=key)
    def undo(self, key: str) -> None:
        """What is done is undone by one of those that would."""
        deed = self._deed(key)
        if deed is None or key == LAST:
            return
        attempts = [self._new() for _ in range(2)]
        until = NOW + timedelta(hours=1)
        won = [a for a in attempts if self.run(actions.undoing, deed, attempt=a, until=until, at=NOW)]
        assert len(won) == (deed.state in {"done", "undoing"})
        if won:
            self.world[key] = 0  # a refund under the key, however often
            self.undoer[key] = won[0]

    @rule(key=key)
    def tell_undone(self, key: str) -> None:
        """Only whoever undoes it says that it is undone."""
        if attempt := self.undoer.get(key):
            deed = self._deed(key)
            assert deed is not None
            told = self.run(actions.undone, key, attempt=attempt, at=NOW)
            assert told == (deed.state == "undoing" and deed.attempt == attempt)

    @precondition(lambda self: bool(self.stale))
    @rule(data=st.data())
    def come_back(self, data: Any) -> None:
        """An attempt that was given up speaks again: it counts only where nobody has dealt with its action."""
        key, attempt = data.draw(st.sampled_from(self.stale))
        deed = self._deed(key)
        assert deed is not None
        open_ = deed.attempt == attempt and deed.state in {"intended", "in_doubt", "void"}
        assert self.run(actions.done, key, attempt=attempt, result=b"1", at=NOW) == open_

    @invariant()
    def done_or_undone(self) -> None:
        """The world has each at most once, and not at all where the books say undone or void."""
        for key in KEYS:
            deed = self._deed(key)
            assert self.world[key] <= 1
            if deed is None or deed.state in {"void", "undone"}:
                assert self.world[key] == 0
            elif deed.state == "done":
                assert self.world[key] == 1


TestActions = Actions.TestCase
TestActions.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
