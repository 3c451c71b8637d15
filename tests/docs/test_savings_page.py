"""The page about savings shows the totals that the repository keeps."""

from benchmarks.savings.page import markdown
from benchmarks.savings.plot import draw
from benchmarks.savings.totals import kept
from tests.docs.pages import ROOT

HOW = "print them anew: python -m benchmarks.savings --kept --markdown --plot docs/savings.svg"


def test_the_tables_are_those_of_the_kept_totals() -> None:
    """Every figure of the tables is in `benchmarks/savings/results.json`."""
    totals = kept("development")
    assert totals is not None
    assert markdown(totals) in (ROOT / "docs/savings.md").read_text(), HOW


def test_the_picture_is_that_of_the_kept_totals() -> None:
    """It is drawn by the benchmark, and by nothing else."""
    totals = kept("development")
    assert totals is not None
    assert (ROOT / "docs/savings.svg").read_text() == draw(totals), HOW
