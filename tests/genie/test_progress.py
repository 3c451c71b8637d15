"""The status line on a terminal: which agent waits for which model, and since when."""

import shutil
import threading
from pathlib import Path

import pytest

from bursar.genie.app import open_genie
from bursar.genie.household.sample import END
from bursar.genie.progress import Progress
from bursar.genie.render import status
from tests.support.provider import Provider, Reply


def test_a_line_says_who_waits_for_what_since_when() -> None:
    """From a paid call to the end of its run; of several agents each; otherwise the node that runs."""
    now = [100.0]
    progress = Progress(lambda: now[0])
    progress.starts("fraud_detection")
    assert progress.line() == "fraud detection …"
    progress.happens({"bursar": "turn", "specialist": "fraud_detection", "level": 0, "model": "gpt-4o-mini"})
    now[0] = 104.0
    progress.happens({"bursar": "turn", "specialist": "tax", "level": 0, "model": "gpt-4o"})
    now[0] = 112.0
    assert progress.line() == "fraud detection waits for gpt-4o-mini, 12 s; tax waits for gpt-4o, 8 s"
    progress.happens({"bursar": "turn", "specialist": "tax", "level": 0, "model": "gpt-4o"})
    progress.happens({"bursar": "terminal", "specialist": "fraud_detection", "level": 0, "outcome": "completed"})
    assert progress.line() == "tax waits for gpt-4o, 0 s"
    for other in ("a text", {"mine": 1}, {"bursar": "started", "specialist": "a", "level": 0}):
        progress.happens(other)
    assert progress.line() == "tax waits for gpt-4o, 0 s"


@pytest.mark.slow
def test_it_is_told_while_the_model_is_silent(provider: Provider, sample_file: Path, tmp_path: Path) -> None:
    """The model answers only after the line says who waits for it; at the end nobody waits."""
    answers, lines = threading.Event(), list[str]()
    provider.will(Reply(waits_for=answers))

    class Watched(Progress):
        """Lets the model answer once an agent waits for it."""

        def happens(self, event: object) -> None:
            super().happens(event)
            lines.append(self.line())
            if " waits for " in self.line():
                answers.set()

    genie = open_genie(
        f"sqlite:///{shutil.copy(sample_file, tmp_path / 'genie.db')}",
        as_of=END,
        environment={"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": provider.url},
    )
    genie.ask("How much did I spend on groceries in November 2025?", "s-1", progress=Watched())
    genie.close()
    assert "account analysis waits for gpt-4o-mini, 0 s" in lines
    assert " waits for " not in lines[-1]


def test_without_a_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """A pipe gets no line, whatever happens."""
    with status() as progress:
        progress.starts("tax")
    assert capfd.readouterr() == ("", "")
