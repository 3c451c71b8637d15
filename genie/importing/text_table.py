"""Reads a delimited text file as a table: its encoding, delimiter, lines before the header, and rows by line number."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bursar.genie.importing.import_report import FileKind, ImportFailed
from bursar.genie.importing.parsing.columns import Columns, read_header

MAX_ROWS: Final = 500_000
_HEADER_WITHIN: Final = 60
_LINES_OF_A_RECORD: Final = 50
_ACCOUNT_LABEL: Final = re.compile(
    r"account(?: (?:number|no\.?|name))?|konto(?:nummer)?|iban|(?:n° de )?compte|cuenta|rekening(?:nummer)?",
    re.IGNORECASE,
)
_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True, slots=True)
class TextTable:
    """The rows under a header, each with the line that it starts on. `preamble` has the records above the header."""

    kind: FileKind
    columns: Columns
    preamble: tuple[tuple[str, ...], ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    delimiter: str
    encoding: str

    @property
    def inferred(self) -> dict[str, str]:
        """The file's encoding, delimiter and columns as the reader found them, in words for the import report."""
        return {
            "encoding": self.encoding,
            "delimiter": _DELIMITERS[self.delimiter],
            "columns": self.columns.describe(),
        }


def decode(content: bytes) -> tuple[str, str]:
    """Return the text and its encoding: UTF-16 after a byte order mark, UTF-8 if valid, otherwise Windows-1252.

    Raises `ImportFailed` if the content is binary.
    """
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return content.decode("utf-16", errors="replace"), "utf-16"
    if b"\x00" in content or content[:4] in {b"%PDF", b"PK\x03\x04"}:
        raise ImportFailed("is no text file; export the statement from your bank as CSV or OFX")
    try:
        return content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        # Five bytes are undefined in Windows-1252. They become the replacement sign; only a text field can have them.
        return content.decode("cp1252", errors="replace"), "windows-1252"


def read_table(content: bytes) -> TextTable:
    """Find the header and read the rows under it, with the delimiter by which the most columns are recognised.

    Raises `ImportFailed` if no line is recognised as a header, or if there are too many rows.
    """
    text, encoding = decode(content)
    lines = io.StringIO(text, newline=None).readlines()
    best: tuple[int, str, int, FileKind] | None = None
    for delimiter in _DELIMITERS:
        for index, (_, cells) in enumerate(_records(lines, delimiter, _HEADER_WITHIN)):
            kind = kind_of_header(read_header(cells))
            known = len(read_header(cells).at)
            if kind != "unknown" and (best is None or known > best[0]):
                best = (known, delimiter, index, kind)
    if best is None:
        raise ImportFailed(
            "has no header that was understood; make its first line name the columns, such as Date,Description,Amount"
        )
    _, delimiter, index, kind = best
    columns = read_header(_records(lines, delimiter, index + 1)[index][1])
    records = _records(lines, delimiter, MAX_ROWS + _HEADER_WITHIN, width=len(columns.header))
    if len(records) - index > MAX_ROWS:
        raise ImportFailed(f"has more than {MAX_ROWS} rows; split it")
    rows = tuple(record for record in records[index + 1 :] if any(cell.strip() for cell in record[1]))
    preamble = tuple(cells for _, cells in records[:index])
    return TextTable(kind, columns, preamble, rows, delimiter, encoding)


def kind_of_header(columns: Columns) -> FileKind:
    """Return the kind of a file with these columns, or "unknown" if they are the columns of no kind."""
    has = columns.at.keys()
    if "symbol" in has and "quantity" in has and ("unit_cost" in has or "cost" in has):
        return "holdings"
    if "symbol" in has and "booked" in has and "close" in has:
        return "prices"
    if "booked" in has and ("amount" in has or "debit" in has or "credit" in has):
        return "statement"
    return "unknown"


def overflow(columns: Columns, row: tuple[str, ...]) -> str | None:
    """If the row has non-empty cells beyond the header's columns, return the reason to reject it, otherwise None.

    An unquoted delimiter in a text shifts every cell after the text.
    """
    if any(cell.strip() for cell in row[len(columns.header) :]):
        return f"has {len(row)} cells under {len(columns.header)} columns; quote the text that holds the delimiter"
    return None


def account_in_preamble(preamble: tuple[tuple[str, ...], ...]) -> str | None:
    """Return the account number or name that a line before the header states ("Kontonummer;DE12…"), otherwise None."""
    for cells in preamble:
        filled = [cell.strip().strip(":") for cell in cells if cell.strip()]
        for index, cell in enumerate(filled):
            label, _, value = cell.partition(":")
            if _ACCOUNT_LABEL.fullmatch(label.strip()):
                found = value.strip() or (filled[index + 1] if index + 1 < len(filled) else "")
                if found:
                    return found
    return None


def _records(lines: Sequence[str], delimiter: str, limit: int, *, width: int = 0) -> list[tuple[int, tuple[str, ...]]]:
    """Return at most `limit` records, each with the line that it starts on; `width` is the expected number of cells."""
    records: list[tuple[int, tuple[str, ...]]] = []
    position = 0
    while position < len(lines) and len(records) < limit:
        cells, used = _record(lines, position, delimiter, width)
        records.append((position + 1, cells))
        position += used
    return records


def _record(lines: Sequence[str], position: int, delimiter: str, width: int) -> tuple[tuple[str, ...], int]:
    """Return the record that starts at the line `position`, and the number of lines that it takes.

    If a quote is not closed, the line is read by itself, because the record would take in the rows below.
    """
    line = lines[position]
    if '"' not in line:
        return tuple(cell.strip() for cell in line.rstrip("\r\n").split(delimiter)), 1
    reader = csv.reader(
        lines[position : position + _LINES_OF_A_RECORD], delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        return tuple(next(reader)), reader.line_num
    except csv.Error:
        pass
    try:
        cells = tuple(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True)))
    except csv.Error as error:
        raise ImportFailed(f"is broken in line {position + 1}: {error}") from error
    bare = tuple(cell.strip() for cell in line.rstrip("\r\n").split(delimiter))
    return (bare if len(bare) == width != len(cells) else cells), 1
