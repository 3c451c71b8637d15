"""Reading the pages of the documentation: their blocks, tables, links and prose."""

import re
from collections.abc import Iterator
from pathlib import Path

from bursar.checkpoints.database.database import Database

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = tuple(sorted((ROOT / "docs").glob("*.md")))
OTHERS = (README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md")

_CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> Iterator[tuple[int, str]]:
    """Each fenced block of a language: the line it starts on, and its text."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        yield page.count("\n", 0, found.start(1)), found.group(1)


def first_column(page: str, heading: str) -> list[str]:
    """The first cells of the table under a header row that starts with `heading`."""
    return column(page, heading, 1)


def column(page: str, heading: str, number: int) -> list[str]:
    """The cells of one column, counted from 1, of the table under a header row that starts with `heading`."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table is not None, f"no table of {heading}"
    return [row.split("|")[number].strip().strip("`") for row in table.group(1).splitlines()]


def run_python(page: str, file: Path) -> dict[str, object]:
    """Run the Python blocks one after the other as one script; its names.

    The databases that it makes in the current directory are closed, however it ends.
    """
    script: dict[str, object] = {"__name__": file.stem}
    try:
        for line, source in blocks(page, "python"):
            exec(compile("\n" * line + source, str(file), "exec"), script)
    finally:
        for database in Path.cwd().glob("*.db"):
            Database.at(f"sqlite:///{database.name}").close()
    return script


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _CODE.sub("", page)


def links(page: str) -> list[tuple[str, str]]:
    """Each link that stays in the repository: its path, empty for the page itself, and its anchor without `#`."""
    found = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", prose(page))
    return [(str(path), str(anchor)) for path, anchor in found]


def anchors(page: str) -> set[str]:
    """The anchors of the page's headings, as repository hosts and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", str(heading).lower()).replace(" ", "-") for heading in headings}


def wide_lines(page: str) -> list[str]:
    """Lines of prose of more than 130 characters."""
    lines = re.sub(r"^\|.*?$", "", prose(page), flags=re.MULTILINE).splitlines()
    return [line for line in lines if len(line) > 130]
