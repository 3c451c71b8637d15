"""The page on the architecture names files that exist, and draws the states and outcomes that the code has."""

import re

from bursar.state.run import Limit, Outcome
from tests.docs.pages import ROOT, blocks, first_column

PAGE = (ROOT / "docs" / "architecture.md").read_text()
CALL_STATES = {"held", "sent", "settled", "void", "unknown"}  # as the comment on `state` of the calls' table says


def test_every_path_exists() -> None:
    """Each path in backticks, of a file or a folder, leads somewhere."""
    paths: list[str] = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]*(?:\.[a-z]+)?)`", PAGE)
    assert len(paths) > 50
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_twenty_questions_are_answered_by_a_file() -> None:
    """Each question has one file as its answer."""
    assert len(first_column(PAGE, "question")) == 20
    answers: list[str] = re.findall(r"\? \| `([\w/.]+)` \|$", PAGE, re.MULTILINE)
    assert len(answers) == 20
    assert all((ROOT / answer).is_file() for answer in answers)


def test_rooms_for_later_are_not_there_yet() -> None:
    """A room that exists is drawn with the others, not promised."""
    planned: list[str] = re.findall(r"^\| [^|]+ \| ((?:nodes|checkpoints|src)/[\w/.]+)", PAGE, re.MULTILINE)
    assert len(planned) >= 5
    assert [path for path in planned if (ROOT / path).exists()] == []


def test_the_states_are_those_of_the_code() -> None:
    """The first diagram has the states of a call, the last one the outcomes of a run."""
    diagrams = [text for _, text in blocks(PAGE, "mermaid") if "stateDiagram" in text]
    call, _, run = ({name for pair in re.findall(r"(\w+) --> (\w+)", text) for name in pair} for text in diagrams)
    assert call == CALL_STATES
    assert {outcome.value for outcome in Outcome} <= run
    limits = re.search(r"running --> exhausted: (.+)", diagrams[2])
    assert limits is not None
    named = set(re.split(r", | or ", limits.group(1)))
    assert named == {limit.value for limit in Limit if limit.value != "request_deadline"}
