"""`bursar reconcile`: by a person, by asking providers, and by an export of usage."""

import json
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.calls import Hold
from bursar.cli.main import make_app
from bursar.state.errors import ConfigurationError, LedgerError
from bursar.state.events import Reconciled
from tests.support.bench import NOW, SECRET, SESSION, Bench, make_bench
from tests.support.look_up.lost_calls import QUESTION, lose
from tests.support.look_up.storing_provider import StoringProvider, storing
from tests.support.provider import MODEL, Reply

__all__ = ["storing"]

MODELS = """
from langchain_openai import ChatOpenAI
from bursar import meter

def models():
    return [meter(ChatOpenAI(model={model!r}, api_key={key!r}, base_url={url!r}))]

def unmetered():
    return [1]
"""
MILLION = 1_000_000


@pytest.fixture
def bench(
    storing: StoringProvider, tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A bench whose provider stores completions, and a module of metered models in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "my_models.py").write_text(MODELS.format(model=MODEL, key=SECRET, url=storing.url))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    yield from make_bench(storing, f"sqlite:///{shutil.copy(migrated_file, tmp_path)}")


def bursar(bench: Bench, *arguments: str) -> Result:
    """Run a command on the bench's database."""
    return CliRunner().invoke(make_app(), [*arguments, "--database", str(bench.ledger.database.url)])


BY_HAND = "given 0.15/0.60/0.15/0.15"


def unknown(bench: Bench, call_id: str, *, seconds: int = 0, amount: int = MILLION, price: str = BY_HAND) -> None:
    """Have an unknown call in the books, which was held at this price so many seconds after `NOW`."""
    scope = bench.scope()
    hold = Hold(
        call_id=call_id,
        session_id=SESSION,
        request_id="r-1",
        agent="spending",
        checkpoint_ns="ns",
        request_hash=call_id,
        occurrence=0,
        model=MODEL,
        price_version=price,
        amount=amount,
        scopes=scope.scopes,
        at=NOW + timedelta(seconds=seconds),
    )
    bench.ledger.run(postings.hold, hold)
    bench.ledger.run(postings.mark_unknown, call_id, reason="lost", at=NOW)


def by_whom(bench: Bench) -> list[str]:
    """Return who reconciled calls, in the order of the log."""
    return [row.event.by for row in bench.ledger.audit(SESSION) if isinstance(row.event, Reconciled)]


def test_look_up_asks_the_providers_of_all_unknown_calls(bench: Bench, storing: StoringProvider) -> None:
    """What is found is booked, its answer is kept for a resume, and the exit code says that nothing is left."""
    lose(bench, bench.model(store=True))
    ended = bursar(bench, "reconcile", "--look-up", "--app", "my_models:models", "--json")
    assert ended.exit_code == 0, ended.output
    (row,) = json.loads(ended.stdout)
    assert (row["call"], row["answer_kept"]) == ("c-1", True)
    assert bench.charged == storing.billed
    assert by_whom(bench) == ["look-up"]
    with bench.scope().enter():
        assert bench.model(store=True).invoke(QUESTION).text == "all is well"
    assert len(storing.requests) == 1
    assert bursar(bench, "reconcile", "--look-up").stdout == "No call is unknown.\n"


def test_look_up_leaves_what_it_does_not_find(bench: Bench, storing: StoringProvider) -> None:
    """The table says why, the call stays at its hold, another session is not asked, and the exit code is 1."""
    lose(bench, bench.model(store=True))
    hold = bench.charged
    storing.lags = True
    ended = bursar(bench, "reconcile", "--look-up", SESSION, "--app", "my_models:models")
    assert ended.exit_code == 1
    assert "its provider does not find it" in ended.stdout
    assert bursar(bench, "reconcile", "--look-up", "s-9").stdout == "No call is unknown.\n"
    assert bench.charged == hold


def test_a_call_that_was_held_at_another_price_is_not_booked(bench: Bench, storing: StoringProvider) -> None:
    """The model's price here is not that of the hold, so nobody knows what the tokens cost."""
    unknown(bench, "c-9")
    storing.stored.append({**_stored("c-9")})
    ended = bursar(bench, "reconcile", "--look-up", "--app", "my_models:models")
    assert ended.exit_code == 1
    assert "another price" in ended.stdout
    assert by_whom(bench) == []


def _stored(call_id: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "ok"}
    return {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        "metadata": {"bursar_call": call_id},
    }


def test_an_answer_at_the_cap_is_kept_as_cut_short(bench: Bench, storing: StoringProvider) -> None:
    """Nobody knows here whether the budget lowered the cap, so the answer is not for LangChain's cache."""
    storing.will(Reply(text="a b c"))
    lose(bench, bench.model(store=True))
    storing.stored[0]["choices"][0]["finish_reason"] = "length"
    assert bursar(bench, "reconcile", "--look-up", "--app", "my_models:models").exit_code == 0
    with bench.scope().enter():
        answer = bench.model(store=True).invoke(QUESTION)
    assert answer.response_metadata["cut_short_by_budget"] is True


def test_an_export_is_proposed_and_booked_by_a_person(bench: Bench, tmp_path: Path) -> None:
    """By id, by time and model and what the hold covers; nothing is booked without a name."""
    unknown(bench, "c-8")
    unknown(bench, "c-9", seconds=7_200)
    hold = bench.charged
    file = tmp_path / "usage.csv"
    file.write_text(
        "id,time,model,input_tokens,output_tokens,cost\n"
        f"c-8,2026-11-23T12:00:00Z,{MODEL}-2024-07-18,100,50,0.0001\n"
        f",2026-11-23T11:30:05Z,{MODEL},1000,1000,\n"
        f",2026-11-23T11:30:06Z,gpt-4o,100,50,0.0001\n"
        ",not a time,x,1,1,1\n"
    )
    proposed = bursar(bench, "reconcile", "--from", str(file))
    assert proposed.exit_code == 1  # a row cannot be read
    assert "2 proposed" in proposed.stdout
    assert "row 4 is left out: 'not a time' is no time" in proposed.output
    assert bench.charged == hold
    booked = json.loads(bursar(bench, "reconcile", "--from", str(file), "--by", "ann", "--json").stdout)
    assert {row["call"]: row["cost"] for row in booked["matches"]} == {"c-8": "0.000100000", "c-9": "0.000750000"}
    assert by_whom(bench) == ["ann", "ann"]
    assert bench.charged == 100_000 + 750_000


def test_tokens_are_priced_at_the_tier_of_the_hold(bench: Bench, tmp_path: Path) -> None:
    """A call that was held at the priority tier costs what that tier costs; one at the standard tier costs less."""
    unknown(bench, "c-8", price="genai-prices 0.1 openai/gpt-4o-mini priority")
    unknown(bench, "c-9", price="genai-prices 0.1 openai/gpt-4o-mini")
    file = tmp_path / "usage.csv"
    lines = [f"{name},2026-11-23T09:30:00Z,{MODEL},1000,1000" for name in ("c-8", "c-9")]
    file.write_text("\n".join(["id,time,model,input_tokens,output_tokens", *lines]))
    booked = json.loads(bursar(bench, "reconcile", "--from", str(file), "--by", "ann", "--json").stdout)
    expected = {"c-8": "0.001250000", "c-9": "0.000750000"}
    assert {row["call"]: row["cost"] for row in booked["matches"]} == expected


def test_a_credit_is_no_cost_of_a_call(bench: Bench, tmp_path: Path) -> None:
    """A line below zero is not booked, and the other lines of the file are."""
    unknown(bench, "c-8")
    unknown(bench, "c-9")
    file = tmp_path / "usage.csv"
    lines = [f"{name},2026-11-23T09:30:00Z,{MODEL},{cost}" for name, cost in (("c-8", "-0.5"), ("c-9", "0.0001"))]
    file.write_text("\n".join(["id,time,model,cost", *lines]))
    result = bursar(bench, "reconcile", "--from", str(file), "--by", "ann", "--json")
    assert result.exit_code == 1
    booked = json.loads(result.stdout)
    assert [row["call"] for row in booked["matches"]] == ["c-9"]
    assert list(booked["unmatched"]) == ["c-8"]
    assert bench.charged == MILLION + 100_000


def test_an_ambiguous_line_is_not_matched_and_named(bench: Bench, tmp_path: Path) -> None:
    """Two calls of one time and one line: neither gets it, and the reason names the row."""
    unknown(bench, "c-8")
    unknown(bench, "c-9")
    file = tmp_path / "usage.jsonl"
    line = {
        "start_time": int(NOW.timestamp()),
        "model": MODEL,
        "input_tokens": 10,
        "output_tokens": 5,
        "cost": "0.0001",
    }
    file.write_text(json.dumps(line) + "\n[1]\n")
    ended = bursar(bench, "reconcile", "--from", str(file), "--by", "ann", "--json")
    assert ended.exit_code == 1
    found = json.loads(ended.stdout)
    assert found["matches"] == []
    assert set(found["unmatched"]) == {"c-8", "c-9"}
    assert all(why.endswith("another call: 1") for why in found["unmatched"].values())
    assert found["bad_rows"] == [{"row": 2, "why": "it is no JSON object"}]
    assert by_whom(bench) == []


def test_a_person_books_one_call_by_name(bench: Bench) -> None:
    """The log has who it was."""
    unknown(bench, "c-9")
    assert bursar(bench, "reconcile", "c-9", "0.0002", "--by", "ann").stdout == "c-9 is settled at $0.0002.\n"
    assert by_whom(bench) == ["ann"]
    assert isinstance(bursar(bench, "reconcile", "c-9", "0.1").exception, LedgerError)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["c-1"],
        ["c-1", "1", "--app", "x:y"],
        ["--look-up", "--from", "f"],
        ["--look-up", "s-1", "0.1"],
        ["--from", "none.csv"],
    ],
)
def test_wrong_use_is_told(bench: Bench, arguments: list[str]) -> None:
    """One way at a time, and a file that is there."""
    assert isinstance(bursar(bench, "reconcile", *arguments).exception, ConfigurationError)


@pytest.mark.parametrize("app", ["no_such:models", "my_models:nothing", "my_models:unmetered"])
def test_an_application_without_metered_models_is_told(bench: Bench, app: str) -> None:
    """No module, no such name, or something else than a metered model."""
    unknown(bench, "c-9")
    assert isinstance(bursar(bench, "reconcile", "--look-up", "--app", app).exception, ConfigurationError)
