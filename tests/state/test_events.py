"""Events: closed, versioned, readable for ever, with one text for each."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from bursar.checkpoints.ledger import postings, requests
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.state.decision import Considered, Decision
from bursar.state.errors import LedgerError
from bursar.state.events import EVENTS, Decided, Event, Incident, RequestOpened
from bursar.state.money import USD

FIRST_VERSIONS = (Path(__file__).parent / "events_v1.jsonl").read_text().splitlines()


@pytest.mark.parametrize("payload", FIRST_VERSIONS, ids=lambda payload: payload.split('"')[5])
def test_first_versions_stay_readable(payload: str) -> None:
    """A payload as the first version of its kind was written is read, and is still its event's one text."""
    event = EVENTS.validate_json(payload)
    assert event.version == 1
    assert event.canonical() == payload


def test_every_kind_has_a_first_version() -> None:
    """No kind of event is without a kept payload of its first version."""
    union = get_args(Event)[0]
    kinds = {model.model_fields["kind"].default for model in get_args(union)}
    assert {EVENTS.validate_json(payload).kind for payload in FIRST_VERSIONS} == kinds


@pytest.mark.parametrize(
    "payload",
    [
        '{"version":5,"kind":"request_opened","request_id":"r","text_hash":"t","budget":null,"caps":{}}',
        '{"version":0,"kind":"erased","answers":1,"note":""}',
        '{"version":1,"kind":"mystery"}',
        '{"version":1,"kind":"erased","answers":NaN,"note":""}',
    ],
)
def test_what_is_not_of_the_union_is_refused(payload: str) -> None:
    """A version or kind that this Bursar does not know, and a NaN, cannot be read."""
    with pytest.raises(ValidationError):
        EVENTS.validate_json(payload)


@pytest.mark.parametrize(
    "alias",
    [
        '{"version":1,"kind":"erased","answers":3,"note":"","answers":3}',
        '{"kind":"erased","answers":3}',
        '{"version":1,"kind":"erased","answers":3,"note":"","more":NaN}',
        '{"version":1,"kind":"erased","answers":3.0,"note":""}',
        '{"version":true,"kind":"erased","answers":"3","note":""}',
        '{"kind":"erased","version":1,"answers":3,"note":""}',
        ' {"version":1,"kind":"erased","answers":3,"note":""}',
    ],
)
def test_an_alias_has_another_text(alias: str) -> None:
    """Texts that read as the same event and are not the one that Bursar writes can be told from it."""
    event = EVENTS.validate_json(alias)
    assert event == EVENTS.validate_json('{"version":1,"kind":"erased","answers":3,"note":""}')
    assert event.canonical() != alias


def test_a_decision_of_version_2_keeps_its_text() -> None:
    """Before there were cascades, a decision had no stake and no step; its text is what it was."""
    payload = (
        '{"version":2,"kind":"decided","request_id":"r-1","decision":{"kind":"route","by":"router","rule":"best",'
        '"chosen":["tax"],"candidates":[],"left":"0.030000000","note":"","order":{},"done":false,"has_texts":false},'
        '"round":1,"place":"supervisor:1"}'
    )
    assert EVENTS.validate_json(payload).canonical() == payload


def test_new_events_are_of_the_newest_version() -> None:
    """What is written now has every field and says so."""
    opened = RequestOpened(request_id="r", text_hash="t").canonical()
    assert opened.endswith('"caps":{},"parent":null,"tenant":"","deadline":null}')
    assert Incident(what="x").canonical() == '{"version":2,"kind":"incident","call_id":null,"what":"x","closes":false}'


def test_a_nan_is_not_recorded(tmp_path: Path) -> None:
    """An event that holds a NaN behind its model's back is refused, and nothing is written."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    with pytest.raises(ValidationError):
        Considered(name="tax", score=float("nan"), expected_cost=USD(0), verdict="chosen")
    forged = Considered(name="tax", score=0.0, expected_cost=USD(0), verdict="chosen").model_copy(
        update={"score": float("nan")}
    )
    decision = Decision(kind="route", by="x", rule="x", left=USD(0)).model_copy(update={"candidates": (forged,)})
    ledger.run(requests.open_session, "s-1", "acme", at=ledger.clock())
    event = Decided.model_construct(request_id="r-1", decision=decision)
    with pytest.raises(LedgerError, match="a decided event could not be read back"):
        ledger.run(postings.record, "s-1", event, at=ledger.clock())
    assert ledger.audit("s-1") == []
