"""The page on Genie: its picture is the graph's own, its answer is the demo's, its agents are all there."""

from collections.abc import Iterator

import pytest

from bursar.genie import cli
from bursar.genie.app import Genie, open_genie
from bursar.genie.household.sample import END, sample_files
from bursar.genie.roster import AGENTS
from tests.docs.pages import ROOT, blocks, first_column

PAGE = (ROOT / "docs" / "genie.md").read_text()


@pytest.fixture
def sample() -> Iterator[Genie]:
    """Genie over the sample household, as `bursar demo` opens it."""
    genie = open_genie("sqlite://", as_of=END)
    genie.import_files(sample_files())
    yield genie
    genie.close()


def test_the_picture_is_the_graphs_own() -> None:
    """The Mermaid block is what `bursar graph` prints; when this fails, paste that into the page."""
    genie = open_genie("sqlite://")
    drawn = genie.app.get_graph().draw_mermaid()
    genie.close()
    ((_, picture),) = blocks(PAGE, "mermaid")
    assert picture.strip() == drawn.strip()


def test_the_demo_answers_what_the_page_shows(sample: Genie) -> None:
    """The excerpt is the beginning of the first answer."""
    answer = sample.ask(cli.DEMO_QUESTIONS[0], "s-1")["messages"][-1].text
    shown = next(text for _, text in blocks(PAGE, "text"))
    assert answer.startswith(shown.strip())


def test_every_agent_is_in_the_table() -> None:
    """The agents that a question can be routed to."""
    assert first_column(PAGE, "agent") == [agent.name for agent in AGENTS]
