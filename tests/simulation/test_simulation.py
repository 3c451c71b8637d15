"""The money rules in 100,000 simulated interleavings, and what the simulator itself must be able to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bursar.state.rules import calls
from bursar.state.rules.calls import Declined, Movement, Refusal
from bursar.state.rules.pricing import Rates
from tests.simulation import books, gateway
from tests.simulation.books import MemoryBooks
from tests.simulation.run import SHOWN, play
from tests.simulation.world import LEAST_HOLDERS, LEAST_OPERATIONS, World

INTERLEAVINGS, SHARES = 100_000, 8
SEEDS = 14_500  # of a share: at least six of seven worlds are interleavings
ROOT = Path(__file__).parents[2]


def test_the_money_rules_hold_at_all() -> None:
    """A few hundred seeds, which take half a second."""
    assert play(range(600)).failed is None


@pytest.mark.parametrize("share", range(SHARES))
def test_the_money_rules_hold_in_every_interleaving(share: int) -> None:
    """Crashes, races, late, lost and doubled messages, nesting and people: every check of the world holds."""
    played = play(range(share * SEEDS, (share + 1) * SEEDS))
    assert played.failed is None, f'seed {played.failed}; make simulate ARGS="--seed …" shows how'
    assert played.interleavings >= INTERLEAVINGS / SHARES
    # A world in which nothing is allowed would hold as well: everything happens, and often.
    assert {name: played.seen[name] for name in SHOWN if played.seen[name] < SEEDS / 30} == {}
    assert played.seen["hold"] > played.seen["declined"]


def test_an_interleaving_is_worth_its_name() -> None:
    """What is counted has ten operations or more, by three holders or more, whose accounts are on several levels."""
    world = World(4, MemoryBooks()).play()
    assert world.is_interleaving
    assert world.operations >= LEAST_OPERATIONS == 10
    assert len(world.active) >= LEAST_HOLDERS == 3
    assert all(len(holder.scopes) >= 4 for holder in world.holders)


def test_a_seed_is_replayed_to_the_byte() -> None:
    """A second world of the same seed has the same trace, in this process and in another one."""
    assert World(17, MemoryBooks()).play().trace == World(17, MemoryBooks()).play().trace
    program = "from tests.simulation.run import play; print(play(range(40)).fingerprint)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    other = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert other.stdout.strip() == play(range(40)).fingerprint


def _frees(amount: int) -> Movement:
    return Movement(held=-amount, spent=0)


def _always(*_: object, **__: object) -> bool:
    return True


def _first_rate(rates: Rates, _: int) -> int:
    return rates.output[0][1]


def _never(*_: object, **__: object) -> Declined:
    return Declined(Refusal.TOO_DEAR)


BROKEN = {
    "an unknown call is free": (calls, "lose", _frees),
    "every hold fits": (calls, "fits", _always),
    "a call may end twice": (
        calls,
        "MAY_FOLLOW",
        dict.fromkeys(calls.MAY_FOLLOW, (*calls.IN_FLIGHT, "settled")),
    ),
    "reasoning costs no more than speech": (Rates, "dearest_output", _first_rate),
    "nothing is ever allowed": (calls, "choose", _never),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_rule_is_found(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The checks bite: with one rule broken, some seed of a few hundred does not hold, and is named."""
    place, name, broken = BROKEN[what]
    for user in (place, books, gateway):
        if hasattr(user, name):
            monkeypatch.setattr(user, name, broken)
    assert play(range(400)).failed is not None
