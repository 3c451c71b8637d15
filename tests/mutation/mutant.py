"""A fault to plant, and the tests that must catch it."""

from collections.abc import Sequence
from dataclasses import dataclass

WITHOUT = "not postgres"
WITH = "postgres"


@dataclass(frozen=True)
class Mutant:
    """A fault: in this file this text becomes that, and the tests that must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: Sequence[str]
    on: str = WITHOUT  # which of the tests, by their mark
