"""Play worlds from seeds, in several processes: `make simulate`, or `make simulate ARGS="--seed 17"` for one of them.

The same seeds give the same fingerprint: the SHA-256 of all their traces. A seed whose world does not hold is printed
with its trace and the error, and the exit code is 1.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.simulation.books import MemoryBooks
from tests.simulation.world import World

SEEDS_AT_ONCE, CHUNKS = 2_000, 8
SHOWN = ("hold", "settle", "void", "lose", "declined", "replayed", "killed", "recovered", "twice", "reconcile")


@dataclass
class Played:
    """What became of some seeds. `failed` has the first seed whose world did not hold, and its error."""

    interleavings: int = 0
    operations: int = 0
    seen: Counter[str] = field(default_factory=Counter[str])
    fingerprint: str = ""
    failed: tuple[int, str] | None = None


def play(seeds: Sequence[int]) -> Played:
    """Play a world in memory from each seed. Stop at the first that does not hold."""
    played, digests = Played(), sha256()
    for seed in seeds:
        world = World(seed, MemoryBooks())
        try:
            world.play()
        except AssertionError as error:
            played.failed = (seed, str(error) or repr(error))
            break
        played.interleavings += world.is_interleaving
        played.operations += world.operations
        played.seen.update(world.seen)
        digests.update(world.digest.encode())
    played.fingerprint = digests.hexdigest()
    return played


def play_until(wanted: int, *, first: int = 0, processes: int = 1, is_shown: bool = False) -> Played:
    """Play seeds from `first` up, in this many processes, until `wanted` of them were interleavings."""
    total, began, digests, following = Played(), time.monotonic(), sha256(), first
    with ProcessPoolExecutor(processes) as pool:
        while total.interleavings < wanted and total.failed is None:
            starts = range(following, following + CHUNKS * SEEDS_AT_ONCE, SEEDS_AT_ONCE)
            chunks = [range(at, at + SEEDS_AT_ONCE) for at in starts]
            following = chunks[-1].stop
            for played in pool.map(play, chunks):
                total.interleavings += played.interleavings
                total.operations += played.operations
                total.seen.update(played.seen)
                total.failed = total.failed or played.failed
                digests.update(played.fingerprint.encode())
            if is_shown:
                print(f"{total.interleavings:>9,} interleavings, {time.monotonic() - began:.0f} s", flush=True)
    total.fingerprint = digests.hexdigest()
    return total


def show(seed: int) -> int:
    """Print the trace of one seed. Return 1 if its world does not hold, otherwise 0."""
    world, error = World(seed, MemoryBooks()), ""
    try:
        world.play()
    except AssertionError as broken:
        error = str(broken) or repr(broken)
    print("\n".join(world.trace))
    print(f"seed {seed}: {error or 'everything holds'}; trace {world.digest}")
    return 1 if error else 0


def main() -> int:
    """Play what the command line asks for. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--interleavings", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed")
    parser.add_argument("--seed", type=int, metavar="SEED", help="play this one, and print its trace")
    asked = parser.parse_args()
    if asked.seed is not None:
        return show(asked.seed)
    began = time.monotonic()
    total = play_until(asked.interleavings, first=asked.first, processes=os.cpu_count() or 1, is_shown=True)
    print(", ".join(f"{total.seen[name]:,} {name}" for name in SHOWN))
    print(f"{total.interleavings:,} interleavings, {total.operations:,} operations, {time.monotonic() - began:.0f} s")
    print(f"fingerprint {total.fingerprint}")
    if total.failed is None:
        return 0
    seed, error = total.failed
    print(f'seed {seed}: {error}; make simulate ARGS="--seed {seed}" shows how')
    return 1


if __name__ == "__main__":
    sys.exit(main())
