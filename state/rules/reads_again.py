"""How often what was sent is sent again soon, as the beginning of a later prompt: what a cache write is worth."""

from dataclasses import dataclass

PRIOR_AGAIN, PRIOR_OF = 1, 2  # before anything is known, one prefix of two is read again
MOST_COUNTED = 64


@dataclass(frozen=True, slots=True)
class ReadsAgain:
    """How often a prefix was read again before a cache would have dropped it: `again` of `of` prefixes.

    A prefix that may still be read counts as not read again, so the share is rather too low than too high.
    """

    again: int = PRIOR_AGAIN
    of: int = PRIOR_OF

    def sent(self) -> "ReadsAgain":
        """Return the counts after one more prefix was sent. Old prefixes count less and less."""
        if self.of < MOST_COUNTED:
            return ReadsAgain(self.again, self.of + 1)
        return ReadsAgain(self.again // 2, self.of // 2 + 1)

    def read(self) -> "ReadsAgain":
        """Return the counts after one of the prefixes was read again."""
        return ReadsAgain(min(self.again + 1, self.of), self.of)
