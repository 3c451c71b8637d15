"""What these tests use of the product before anything else: LangSmith's observer, with a mask or without."""

from collections.abc import Callable
from typing import Any

import bursar


def langsmith_observer(mask: Callable[[str], str] | None = None) -> Any:
    """Return LangSmith's observer; with `mask`, all texts that go to LangSmith pass through it."""
    observer: Any = vars(bursar).get("LangSmithObserver") or getattr(bursar, "LangSmithObserver")  # noqa: B009
    return observer() if mask is None else observer(mask=mask)
