"""Reads files and stores what they hold: statements (CSV, OFX), holdings and prices (CSV), a profile (TOML)."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from bursar.genie.household.schema import prepare
from bursar.genie.importing.file_facts import is_currency
from bursar.genie.importing.holdings_csv import read_holdings, read_prices
from bursar.genie.importing.import_options import Content, Options
from bursar.genie.importing.import_report import ImportFailed, ImportReport
from bursar.genie.importing.parsing.amounts import DecimalMark
from bursar.genie.importing.parsing.dates import DateOrder
from bursar.genie.importing.profile_toml import looks_like_profile, read_profile
from bursar.genie.importing.statement_csv import read_statement
from bursar.genie.importing.statement_ofx import looks_like_ofx, read_ofx
from bursar.genie.importing.store import FileRecord, household_currency, store
from bursar.genie.importing.text_table import decode, read_table

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
_SUFFIXES: Final = frozenset({".csv", ".ofx", ".qfx", ".tsv", ".txt", ".toml"})


def import_files(
    engine: Engine,
    paths: Iterable[Path | str],
    *,
    now: datetime,
    currency: str | None = None,
    account: str | None = None,
    date_order: DateOrder | None = None,
    decimal_mark: DecimalMark | None = None,
    progress: Callable[[ImportReport], None] | None = None,
) -> tuple[ImportReport, ...]:
    """Import every file (a folder stands for its files), and return a report on each, in the order of `paths`.

    The tables are created if they are missing. If a file cannot be read, nothing of the file is stored, its report has
    an `error`, and the other files are still imported. A second import of a file changes nothing. `currency`,
    `account`, `date_order` and `decimal_mark` override what the files say. `progress` is called with each report.
    Raises `ImportFailed` if `currency` is no currency code.
    """
    if currency is not None and not is_currency(currency):
        raise ImportFailed(f"{currency!r} is no currency code; write three capital letters such as USD")
    prepare(engine)
    options = Options(currency, account, date_order, decimal_mark)
    files = _expand(paths)
    reports: dict[Path, ImportReport] = {}
    # Profiles come first, because a statement that names no currency gets the profile's currency.
    for file in sorted(files, key=lambda file: file.suffix.lower() != ".toml"):
        try:
            report = import_file(engine, file, now=now, options=options)
        except ImportFailed as error:
            report = ImportReport(file, "unknown", error=error)
        reports[file] = report
        if progress is not None:
            progress(report)
    return tuple(reports[file] for file in files)


def import_file(engine: Engine, path: Path, *, now: datetime, options: Options) -> ImportReport:
    """Import one file into tables that exist, and return its report.

    Raises `ImportFailed`, which names the file and says what to do.
    """
    try:
        content = _load(path)
        # Race: another process may store a profile after this read. The result is as if this file had come first.
        known = replace(options, household_currency=household_currency(engine))
        read = read_content(content, path, known)
    except ImportFailed as error:
        raise ImportFailed(f"{path.name} {error}") from error
    record = FileRecord(sha256(content).hexdigest(), path.name, now.date())
    stored = store(engine, read, record)
    days, currencies = read.days(), read.currencies()
    return ImportReport(
        file=path,
        kind=read.kind,
        account_ids=tuple(account.id for account in read.accounts),
        added=stored.added,
        updated=stored.updated,
        unchanged=stored.unchanged,
        removed=stored.removed,
        rejected=read.rejected,
        currency=currencies.pop() if len(currencies) == 1 else None,
        first_day=min(days, default=None),
        last_day=max(days, default=None),
        inferred=read.inferred,
    )


def read_content(content: bytes, path: Path, options: Options) -> Content:
    """Find the kind of a file by its `content`, read its records, and return them; store nothing.

    Raises `ImportFailed` if the content cannot be read.
    """
    if not content.strip():
        raise ImportFailed("is empty")
    if looks_like_ofx(content):
        return read_ofx(content, path, options)
    text, _ = decode(content)
    if path.suffix.lower() == ".toml" or looks_like_profile(text):
        return read_profile(text, options)
    table = read_table(content)
    if not table.rows:
        raise ImportFailed("has a header but no rows")
    if table.kind == "holdings":
        return read_holdings(table, path, options)
    return read_prices(table, options) if table.kind == "prices" else read_statement(table, path, options)


def _load(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImportFailed(f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB; split it")
        return path.read_bytes()
    except OSError as error:
        raise ImportFailed(f"cannot be read: {error.strerror}") from error


def _expand(paths: Iterable[Path | str]) -> list[Path]:
    """Return each file once: the paths that are files, and the files in the paths that are folders."""
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        inside = (
            sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
        )
        files.update(dict.fromkeys(inside))
    return list(files)
