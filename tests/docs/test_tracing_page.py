"""What the page on traces says, tried: its program runs by itself against a receiver on loopback.

Its blocks are fenced as `py`, because they set the providers of a whole process: they run in one of their own.
"""

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, column
from tests.support.tracing.collector import Collector
from tests.support.tracing.seen_spans import SeenSpan

FILE = ROOT / "docs" / "tracing.md"
PAGE = FILE.read_text()
MOST_BYTES = 200_000
SCRAPED = """
from urllib.request import urlopen
print(urlopen(f"http://127.0.0.1:{server.server_port}/metrics").read().decode())
server.shutdown()
"""


def sources() -> list[str]:
    """The page's blocks of Python."""
    return [source for _, source in blocks(PAGE, "py")]


def run(source: str, folder: Path, **settings: str) -> str:
    """Run a program in a process of its own, and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LANGSMITH_"))}
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=folder,
        env={**kept, **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def seen() -> Iterator[Collector]:
    """A receiver on loopback, as the page's viewer is one."""
    collector = Collector()
    yield collector
    collector.close()


def lines_of(span: SeenSpan, spans: list[SeenSpan], depth: int = 0) -> list[str]:
    """The span and those in it, indented, in the order of their starts."""
    below = [line for one in spans if one.parent == span.id for line in lines_of(one, spans, depth + 1)]
    return [f"{'  ' * depth}{span.name.replace('__main__.', '')}", *below]


def test_the_program_shows_what_the_page_says(seen: Collector, tmp_path: Path) -> None:
    """Two requests, two trees; the costs of the second are the ledger's, which the program prints."""
    said = run("".join(sources()[:2]), tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=seen.url)
    [printed] = re.findall(r"^s-2 \$([\d.]+)", said, re.MULTILINE)
    assert f"The program prints `s-2 ${printed}`" in PAGE
    first, second = seen.roots()
    spans = [span for span in seen.spans() if span.trace == second.trace]
    assert sorted(lines_of(second, spans)) == sorted(
        [
            "invoke_workflow bursar",
            *["  invoke_agent spending", "    chat gpt-4o-mini"],
            *["  invoke_agent tax", "  invoke_agent tax"],
            *["  invoke_agent saving", "    execute_tool rent_index", "    chat gpt-4o"],
        ]
    ), seen.tree()
    paid = [span.attributes["bursar.cost_usd"] for span in spans if "bursar.call_id" in span.attributes]
    assert f"{sum(paid):.9f}" == f"{Decimal(printed):.9f}" == f"{second.attributes['bursar.spent_usd']:.9f}"
    assert f"`bursar.spent_usd` {printed}" in PAGE
    assert second.attributes["bursar.ending"] == "answered_with_gaps"
    assert first.trace != second.trace


def test_its_metrics_are_scraped(seen: Collector, tmp_path: Path) -> None:
    """With the page's lines for Prometheus, each metric of the page that the program can have is served."""
    start, asked, _, prometheus = sources()
    prometheus = prometheus.replace("9464", "0")  # any port that is free
    said = run("".join([start, prometheus, asked, SCRAPED]), tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=seen.url)
    served = {line.split()[2] for line in said.splitlines() if line.startswith("# HELP")}
    named = {part.strip(" `").replace(".", "_") for cell in column(PAGE, "metric", 1) for part in cell.split(",")}
    lacking = {name for name in named if not any(one.startswith(name) for one in served)}
    assert lacking == {"bursar_refusals", "bursar_cost_returned"}, served  # nothing was refused, and nothing ended late


def test_every_field_is_told(seen: Collector, tmp_path: Path) -> None:
    """Those of the table that a request without a pause, a refusal, a resume or a cache hit has are in its spans."""
    run("".join(sources()[:2]), tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=seen.url)
    told = {name for span in seen.spans() for name in span.attributes}
    told |= {name for span in seen.spans() for event in span.events for name in event.attributes}
    named = set(re.findall(r"`((?:bursar|gen_ai|error)\.\w+(?:\.\w+)*)`", "".join(_fields())))
    elsewhere = {"bursar.level", "bursar.resumed", "bursar.replayed", "bursar.instead_of", "bursar.cache_saved_usd"}
    assert named - told == elsewhere, sorted(told)


def _fields() -> list[str]:
    return [f"`{cell}`" for cell in column(PAGE, "field", 1)]


def test_its_mask_masks(tmp_path: Path) -> None:
    """The block asserts it, and the observer takes the mask."""
    assert "LangSmithObserver(mask=mask)" in sources()[2]
    run(sources()[2], tmp_path)


def test_its_pictures_are_small_and_sharp() -> None:
    """Both are shown, have a text for who cannot see them, are wide enough, and quick to load."""
    shown = re.findall(r"!\[([^\]]{30,})\]\((tracing[\w-]*\.png)\)", PAGE)
    assert [name for _, name in shown] == ["tracing.png", "tracing-call.png"]
    for _, name in shown:
        content = (FILE.parent / str(name)).read_bytes()
        width, _ = struct.unpack(">II", content[16:24])
        assert (width >= 1_000, len(content) <= MOST_BYTES) == (True, True)


def test_it_uses_public_names_alone() -> None:
    """Users import from `bursar` and from `bursar.testing`."""
    modules = re.findall(r"^\s*(?:from|import) (bursar[\w.]*)", "\n".join(sources()), re.MULTILINE)
    assert set(modules) == {"bursar", "bursar.testing"}
