"""The report of an import: what was added, what was rejected and why, and what was inferred."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from bursar import BursarError

FileKind = Literal["statement", "holdings", "prices", "profile", "unknown"]


class ImportFailed(BursarError, ValueError):
    """A file could not be read, and nothing of the file was stored. The message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One row that was not stored: its line in the file (or an OFX entry's number), the reason, and its text."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of one file's import. `added`, `updated`, `unchanged` and `removed` count records.

    `inferred` maps each thing that the reader decided (delimiter, decimal mark, columns, sign rule, date order,
    currency) to its text. If `error` is set, nothing of the file was stored.
    """

    file: Path
    kind: FileKind
    account_ids: tuple[str, ...] = ()
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: tuple[Rejected, ...] = ()
    currency: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    inferred: Mapping[str, str] = field(default_factory=dict[str, str])
    error: ImportFailed | None = None
