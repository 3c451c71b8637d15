"""Files of providers: exports of usage, and invoices, as CSV or JSON lines, read row by row.

A column has one of the names in `COLUMNS`. A time is seconds since 1970, or ISO 8601, in UTC if it names no zone.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import cast

from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD
from bursar.state.rules.usage_matching import MICROSECONDS, UsageLine, plain_model

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "call_id", "bursar_call"),
    "start": ("time", "start_time", "start_time_iso", "created", "timestamp", "day", "date"),
    "end": ("end_time", "end_time_iso"),
    "model": ("model", "line_item"),
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "cost": ("cost", "amount_value", "amount"),
    "requests": ("requests", "num_model_requests"),
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, and why. Rows count from 1, without the line of a CSV file that names the columns."""

    row: int
    reason: str


def read_usage(file: Path) -> tuple[list[UsageLine], list[BadRow]]:
    """Return the lines of an export, and its bad rows. Raises `ConfigurationError` if the file cannot be read."""
    lines: list[UsageLine] = []
    bad: list[BadRow] = []
    for row, fields in _rows(file):
        if not isinstance(fields, Mapping):
            bad.append(BadRow(row, "it is no JSON object"))
            continue
        try:
            lines.append(_line(row, cast("Mapping[str, object]", fields)))
        except (ValueError, ArithmeticError, AmountError) as error:
            bad.append(BadRow(row, str(error)))
    return lines, bad


def read_invoice(file: Path) -> tuple[dict[tuple[str, str], int], list[BadRow]]:
    """Return the nano-dollars of an invoice by day and model, and its bad rows: those without a cost are bad, too."""
    lines, bad = read_usage(file)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        if line.cost is None:
            bad.append(BadRow(line.row, f"it has no cost ({', '.join(COLUMNS['cost'])})"))
        else:
            day = datetime.fromtimestamp(line.start // MICROSECONDS, UTC).date()
            sums[day.isoformat(), plain_model(line.model)] += line.cost
    return dict(sums), sorted(bad, key=lambda one: one.row)


def _rows(file: Path) -> Iterator[tuple[int, object]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not text.lstrip().startswith("{"):
        yield from enumerate(csv.DictReader(io.StringIO(text)), 1)
        return
    for row, line in enumerate(filter(str.strip, text.splitlines()), 1):
        yield row, _json(line)


def _json(line: str) -> object:
    try:
        return json.loads(line, parse_float=Decimal)
    except ValueError:
        return None


def _line(row: int, fields: Mapping[str, object]) -> UsageLine:
    given = {name: _given(fields, names) for name, names in COLUMNS.items()}
    for name in ("start", "model"):
        if not given[name]:
            raise ValueError(f"it has no {name} ({', '.join(COLUMNS[name])})")
    start = _time(given["start"])
    cost = given["cost"]
    return UsageLine(
        row=row,
        id=given["id"],
        start=start,
        end=_time(given["end"]) if given["end"] else start,
        model=given["model"],
        input_tokens=_count(given["input_tokens"], "input_tokens"),
        output_tokens=_count(given["output_tokens"], "output_tokens"),
        cost=USD(_decimal(cost)).nanos if cost else None,
        requests=_count(given["requests"], "requests") or 1,
    )


def _given(fields: Mapping[str, object], names: tuple[str, ...]) -> str:
    values = (fields.get(name) for name in names)
    return next((str(value).strip() for value in values if value not in (None, "")), "")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no amount in US dollars") from None


def _count(text: str, name: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r}, which is no number of tokens or requests")
    return int(text)


def _time(text: str) -> int:
    if text.isdecimal():
        return int(text) * MICROSECONDS
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time") from None
    zoned = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    since = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds
