"""What tests of whole graphs share, beside the fixtures of every test."""

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that is not set before the test ends."""
    event = threading.Event()
    yield event
    event.set()
