"""The same worlds on the real ledger: 1,000 seeds on each database agree with the money rules to the byte."""

import pytest

from bursar import Ledger
from tests.simulation.books import MemoryBooks
from tests.simulation.ledger_books import LedgerBooks
from tests.simulation.world import World

SEEDS, SHARES = 1_000, 5


@pytest.mark.parametrize("share", range(SHARES))
def test_the_ledger_agrees_with_the_rules(any_ledger: Ledger, share: int) -> None:
    """Every posting has the same result as in memory, every account the same balance, and the log verifies."""
    for seed in range(share, SEEDS, SHARES):
        by_rules = World(seed, MemoryBooks()).play().trace
        by_ledger = World(seed, LedgerBooks(any_ledger)).play().trace
        assert by_ledger == by_rules, f'seed {seed}; make simulate ARGS="--seed {seed}" shows what the rules say'
    assert len(any_ledger.sessions()) >= SEEDS / SHARES
