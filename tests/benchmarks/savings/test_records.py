"""Reading the recorded runs, and the sample that stands for them."""

import csv
import gzip
import json
from pathlib import Path

from benchmarks.savings.records import AgentRun, Question, RecordedCall, is_there, read
from benchmarks.savings.sample import looping, sample

CALLS = [{"prompt_tokens": 900, "completion_tokens": 12, "tool_calls": [["find", "ab"]]}]


def write(folder: Path) -> None:
    """Write a question of each kind and a run, in the form of the recorded ones."""
    tables = {
        "gsm8k": {
            "prompt": "2 and 3?",
            "cheap_right": "1",
            "dear_right": "0",
            "cheap_answer": "#### 5",
            "cheap_tokens": "2",
            "dear_tokens": "4",
        },
        "mmlu": {"subject": "law", "prompt": "Which?", "cheap_right": "0", "dear_right": "1"},
    }
    for name, row in tables.items():
        with gzip.open(folder / f"{name}_other.csv.gz", "wt", newline="") as file:
            writer = csv.DictWriter(file, row)
            writer.writeheader()
            writer.writerow(row)
    with gzip.open(folder / "tau2_other.json.gz", "wt") as file:
        json.dump([{"id": "a:1", "src": "a", "llm": "azure/gpt-4o", "calls": CALLS, "success": True}], file)


def test_what_was_recorded_is_read(tmp_path: Path) -> None:
    """Any half, if its three files are there."""
    assert not is_there(tmp_path, "other")
    write(tmp_path)
    assert is_there(tmp_path, "other")
    recorded = read(tmp_path, "other")
    assert recorded.questions == (
        Question("gsm8k", "", "2 and 3?", True, False, "#### 5", 2, 4),
        Question("mmlu", "law", "Which?", False, True, "", 1, 1),
    )
    assert recorded.runs == (
        AgentRun("a:1", "a", "azure", "gpt-4o", (RecordedCall(900, 12, (("find", "ab"),)),), True),
    )


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    """And another one for another."""
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_looping_runs_go_on_until_they_are_ended_and_are_no_successes() -> None:
    """They begin as recorded runs, loop in three ways, and never shrink."""
    recorded = sample().runs
    made = looping(recorded, number=6, until=30)
    assert {len(run.calls) for run in made} == {30}
    assert not any(run.is_success for run in made)
    assert all(run.calls[0] in {one.calls[0] for one in recorded} for run in made)
    ends = [len({call.tool_calls for call in run.calls[-9:]}) for run in made]
    assert ends == [1, 2, 9, 1, 2, 9]
