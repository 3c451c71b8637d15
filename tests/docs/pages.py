"""Reading the pages of the documentation: their blocks, tables, links and prose."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> Iterator[tuple[int, str]]:
    """Each fenced block of a language: the line it starts on, and its text."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        yield page.count("\n", 0, found.start(1)), found.group(1)


def first_column(page: str, heading: str) -> list[str]:
    """The first cells of the table under a header row that starts with `heading`."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table is not None, f"no table of {heading}"
    return [row.split("|")[1].strip().strip("`") for row in table.group(1).splitlines()]


def run_python(page: str, file: Path) -> dict[str, object]:
    """Run the Python blocks one after the other as one script; its names."""
    script: dict[str, object] = {"__name__": file.stem}
    for line, source in blocks(page, "python"):
        exec(compile("\n" * line + source, str(file), "exec"), script)
    return script


def wide_lines(page: str) -> list[str]:
    """Lines of prose of more than 130 characters."""
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", page, flags=re.DOTALL | re.MULTILINE)
    return [line for line in prose.splitlines() if len(line) > 130]
