"""The interface through which Genie's agents read the household's data: named, read-only queries."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Generic, Protocol, TypeVar

from bursar.genie.household.records import BankAccount, BankTransaction, ClosingPrice, Lot, Profile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueryRows(Generic[T]):
    """The rows of a named query. `as_of` is the newest day in the data.

    `truncated` is True if more rows matched than the row limit allows.
    """

    items: tuple[T, ...]
    as_of: date | None
    truncated: bool
    query: str

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Source(Protocol):
    """The named queries over one household's data.

    The database connector implements this protocol over the tables, and tests implement it over tuples.
    """

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
        """Return transactions, oldest first.

        `start` and `end` are inclusive. `payee` is a part of the payee's name, in any case. If more rows match than
        `limit`, the newest are returned.
        """
        ...

    def lots(self) -> QueryRows[Lot]: ...
    def prices(self, *, start: date | None = None, end: date | None = None) -> QueryRows[ClosingPrice]: ...
    def profile(self) -> Profile: ...
