"""The seam between Genie's agents and the user's data: the only way in is a named, read-only query."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Generic, Protocol, TypeVar

from bursar.genie.household.records import BankAccount, BankTransaction, ClosingPrice, Lot, Profile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueryRows(Generic[T]):
    """What a named query returned: `as_of` is the newest day in the data; `truncated` says a row limit cut it."""

    items: tuple[T, ...]
    as_of: date | None
    truncated: bool
    query: str

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Source(Protocol):
    """Named queries over one household. Implemented by the database connector; doubled in tests by tuples."""

    def accounts(self) -> QueryRows[BankAccount]: ...
    def transactions(
        self,
        *,
        start: date | None = None,
        end: date | None = None,
        account_id: str | None = None,
        payee: str | None = None,
        limit: int | None = None,
    ) -> QueryRows[BankTransaction]:
        """Oldest first; `start` and `end` inclusive; `payee` is a case-folded substring; `limit` keeps the newest."""
        ...

    def lots(self) -> QueryRows[Lot]: ...
    def prices(self, *, start: date | None = None, end: date | None = None) -> QueryRows[ClosingPrice]: ...
    def profile(self) -> Profile: ...
