"""What holds for every page: its Python runs, uses public names alone, its links lead somewhere, its lines fit."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar import Candidate, ExampleRouter
from bursar.state.run import Fault, Limit
from tests.docs.pages import OTHERS, PAGES, README, ROOT, anchors, blocks, column, first_column, links, run_python
from tests.docs.pages import wide_lines as wide
from tests.support.provider import Provider

WITH_PYTHON = [page for page in (README, *PAGES) if "```python\n" in page.read_text()]
ALL = [*OTHERS, *PAGES]


def named(file: Path) -> str:
    """A test's name for a page."""
    return file.stem


@pytest.fixture(scope="module", autouse=True)
def fitted() -> None:
    """scikit-learn is imported before a request waits for it: a busy machine takes longer for that than a deadline."""
    ExampleRouter().fit([Candidate("spending", "Where the money goes")])


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of models on loopback."""
    provider = Provider()
    yield provider
    provider.close()


@pytest.mark.parametrize("file", WITH_PYTHON, ids=named)
def test_the_python_runs(file: Path, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other as one script, with a provider on loopback behind `ChatOpenAI`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    run_python(file.read_text(), file)


@pytest.mark.parametrize("file", WITH_PYTHON, ids=named)
def test_the_python_uses_public_names_alone(file: Path) -> None:
    """Users import from `bursar` and from `bursar.testing`."""
    sources = "\n".join(source for _, source in blocks(file.read_text(), "python"))
    modules = set(re.findall(r"^\s*(?:from|import) (bursar[\w.]*)", sources, re.MULTILINE))
    assert modules <= {"bursar", "bursar.testing"}


@pytest.mark.parametrize("file", ALL, ids=named)
def test_links_lead_somewhere(file: Path) -> None:
    """Files are there, and so are the headings that are linked to."""
    broken: list[str] = []
    for path, anchor in links(file.read_text()):
        target = file.parent / path if path else file
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(f"{path}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_a_page_links_to_pages_alone(file: Path) -> None:
    """The site holds nothing but the pages: what lies outside `docs/` is named, not linked."""
    assert [path for path, _ in links(file.read_text()) if "/" in path] == []


@pytest.mark.parametrize("file", ALL, ids=named)
def test_files_that_are_named_exist(file: Path) -> None:
    """The tests that stand behind what is promised are there."""
    paths: list[str] = re.findall(r"`(tests/[\w/.]+)`", file.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("file", ALL, ids=named)
def test_lines_fit(file: Path) -> None:
    """Prose is at most 130 characters wide, so that it reads well as text."""
    assert wide(file.read_text()) == []


def test_the_readme_names_every_page() -> None:
    """Whoever starts there finds them all; `index.md` is the README of the site."""
    linked = {path for path, _ in links(README.read_text())}
    assert {f"docs/{file.name}" for file in PAGES if file.stem != "index"} <= linked


def test_limits_and_faults_are_the_codes() -> None:
    """The tables on resilience have every value of the code, and no other."""
    page = (ROOT / "docs" / "resilience.md").read_text()
    assert set(column(page, "limit of a run", 3)) == {limit.value for limit in Limit}
    assert set(first_column(page, "fault")) == {fault.value for fault in Fault}
