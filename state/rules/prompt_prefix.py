"""Why the beginning of a prompt is not the beginning of the prompt before it, so that a provider's cache misses.

Providers' caches match a prompt by its first bytes. From the first byte that differs, nothing is read from the cache.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bursar.state.masking import mask_secrets

QUOTE_CHARACTERS = 40
AROUND_CHARACTERS = 200  # masked before it is cut to a quote, so that a secret keeps the name that gives it away
MOST_CHARACTERS = 100_000  # of a changed part that is looked at for an order
SEPARATORS = ",;{}[]()\n"  # between the items of what programs write

# Times and dates as people and programs write them. Repetitions are bounded, so that no text takes long.
CLOCK = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:\s?[AaPp]\.?[Mm]\b\.?)?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
    r"|(?:\d{1,2}\.?\s)?\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?(?:\s\d{1,2}(?:st|nd|rd|th)?,?)?"
    r"(?:\s\d{4})?"
    r"|\b(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b"
    r"|\b1\d{9}(?:\d{3})?(?:\.\d{1,9})?\b"  # seconds or milliseconds since 1970
)
_SEPARATED = re.compile(f"[{re.escape(SEPARATORS)}]")

Why = Literal["clock", "order", "other"]
_WORDS: dict[Why, str] = {
    "clock": "a clock or a date in it",
    "order": "the same parts in another order, as an unsorted dict or set gives them",
    "other": "something in it",
}


@dataclass(frozen=True, slots=True)
class BrokenPrefix:
    """Where a text stops to be the text before it: after `kept` characters, with quotes of both, and why.

    Known shapes of secrets are masked in the quotes, which have `QUOTE_CHARACTERS` characters at most.
    """

    why: Why
    kept: int
    before: str
    after: str

    def __str__(self) -> str:
        return f'{_WORDS[self.why]} changes: "{self.before}" became "{self.after}"'


def broken_prefix(before: str, after: str) -> BrokenPrefix | None:
    """Return where and why `after` stops to be `before`; None if they are equal, or one of them begins the other."""
    kept = _common(before, after)
    if kept == min(len(before), len(after)):
        return None
    return BrokenPrefix(_why(before, after, kept), kept, *(_quote(text, kept) for text in (before, after)))


def _why(before: str, after: str, kept: int) -> Why:
    if _in_clock(before, kept) and _in_clock(after, kept):
        return "clock"
    ends = _common(before[kept:][::-1], after[kept:][::-1])
    items = [_items(text, kept, len(text) - ends) for text in (before, after)]
    return "order" if items[0] == items[1] and items[0].total() > 1 else "other"


def _items(text: str, start: int, end: int) -> Counter[str]:
    """Return the items of lists and objects that a change from `start` to `end` is part of, in any order."""
    start = max(text.rfind(mark, 0, start) for mark in SEPARATORS) + 1
    end = min((place for mark in SEPARATORS if (place := text.find(mark, end)) >= 0), default=len(text))
    changed = text[start:end][:MOST_CHARACTERS]
    return Counter(item for part in _SEPARATED.split(changed) if (item := part.strip()))


def _in_clock(text: str, at: int) -> bool:
    """Whether a time or date in `text` has the character at `at` in it, or ends there."""
    start = max(0, at - QUOTE_CHARACTERS)
    return any(
        start + found.start() <= at <= start + found.end()
        for found in CLOCK.finditer(text[start : at + QUOTE_CHARACTERS])
    )


def _quote(text: str, at: int) -> str:
    """Return the part of `text` around `at` in one line, with known shapes of secrets masked."""
    start = max(0, at - AROUND_CHARACTERS)
    head = " ".join(mask_secrets(text[start : at + AROUND_CHARACTERS]).split())
    # What is masked may have another length, so the place is found again by what stands before it.
    place = len(" ".join(mask_secrets(text[start:at]).split()))
    first = max(0, min(place, len(head)) - QUOTE_CHARACTERS // 2)
    if first:  # a whole word first, if one begins before the break
        first = head.find(" ", first, place) + 1 or first
    return head[first : first + QUOTE_CHARACTERS]


def _common(one: str, other: str) -> int:
    """Return how many characters two texts share from their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # bounded: the distance is halved
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def differing(before: Sequence[str], after: Sequence[str]) -> tuple[int, BrokenPrefix] | None:
    """Return which of the parts of two prompts is the first that differs, by its place, and how; None if none does."""
    for place, (one, other) in enumerate(zip(before, after, strict=True)):
        if (broken := broken_prefix(one, other)) is not None:
            return place, broken
        if one != other:
            kept = min(len(one), len(other))
            return place, BrokenPrefix("other", kept, _quote(one, kept), _quote(other, kept))
    return None
