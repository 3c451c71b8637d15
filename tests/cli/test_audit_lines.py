"""What a line of `bursar audit` says of an event."""

from typing import Any

from bursar.cli.common.render import event_line


def test_a_decision_is_shown_with_what_is_at_stake() -> None:
    """Stake, gain and segment of a cascade's decision are in the line; a decision without them has none."""
    plain: dict[str, Any] = {
        "by": "claims",
        "rule": "its check accepts the answer",
        "left": "0.010000000",
        "candidates": [],
    }
    weighed: dict[str, Any] = {**plain, "stake": "900.000000000", "gain": "0.300000", "segment": "roof"}
    assert event_line({"kind": "decided", "decision": weighed}).endswith("stake=$900  gain=0.300000  segment=roof")
    assert "stake" not in event_line({"kind": "decided", "decision": plain})
