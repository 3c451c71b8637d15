"""What the span of a paid call says."""

from datetime import UTC, datetime

import pytest

from bursar.nodes.observers.base import CallContext, CallEnd, RunContext
from bursar.nodes.observers.opentelemetry_values import call_attributes
from bursar.state.money import USD

RUN = RunContext(request_id="r", session_id="s", specialist="a", step="a", handler="a", level=0, tenant="acme")
CALL = CallContext(
    call_id="c", kind="chat", agent="a", model="gpt-4o-mini", held=USD("0.01"), began=datetime(2026, 1, 1, tzinfo=UTC)
)


@pytest.mark.parametrize(("saved", "told"), [("0.001", 0.001), ("-0.0005", -0.0005), ("0", None)])
def test_what_the_cache_saved_is_told(saved: str, told: float | None) -> None:
    """Hits save, and writes that nobody reads cost; a call without either says nothing of it."""
    end = CallEnd(state="settled", cost=USD("0.002"), cache_saved=USD(saved))
    assert call_attributes(RUN, CALL, end).get("bursar.cache_saved_usd") == told
