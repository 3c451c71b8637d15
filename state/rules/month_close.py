"""The close of a month: what the books and an invoice say of each day and model, and where they differ.

Amounts are nano-dollars.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Lines = Mapping[tuple[str, str], int]  # by day, such as 2026-11-23, and model


@dataclass(frozen=True, slots=True)
class InvoiceDifference:
    """A day and a model of which the books and the invoice do not say the same."""

    day: str
    model: str
    booked: int
    invoiced: int


def compare_invoice(booked: Lines, invoiced: Lines, *, tolerance: int = 0) -> list[InvoiceDifference]:
    """Return each day and model whose amounts differ by more than `tolerance`, sorted. A missing line is zero."""
    pairs = [(key, booked.get(key, 0), invoiced.get(key, 0)) for key in sorted(booked.keys() | invoiced.keys())]
    return [InvoiceDifference(*key, ours, theirs) for key, ours, theirs in pairs if abs(ours - theirs) > tolerance]
