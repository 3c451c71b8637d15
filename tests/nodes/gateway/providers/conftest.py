"""A seller of each protocol, or of those that a test names by an indirect parameter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes.gateway.providers.sellers import PROTOCOLS, Seller, make_seller


@pytest.fixture(params=PROTOCOLS)
def seller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Seller]:
    """A seller with its books. When the test ends, the log of its session must verify."""
    yield from make_seller(request.param, f"sqlite:///{tmp_path}/books.db")
