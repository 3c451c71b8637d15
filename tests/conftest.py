"""What holds for every test: no network beyond loopback, no key or setting of the developer's own, one PostgreSQL."""

import ipaddress
import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.databases import (
    REQUIRE,
    any_ledger,
    any_url,
    ledger,
    migrated_file,
    new_postgres,
    postgres,
    shared_postgres,
    url,
)
from tests.support.provider import provider

pytest_plugins = ["tests.support.tiers"]
__all__ = [
    "any_ledger",
    "any_url",
    "ledger",
    "migrated_file",
    "new_postgres",
    "no_network",
    "postgres",
    "shared_postgres",
    "provider",
    "url",
]

os.environ["LANGSMITH_TRACING"] = "false"
for name in list(os.environ):
    if name.startswith(("OPENAI_", "BURSAR_")) and not name.startswith("BURSAR_TEST_") and name != REQUIRE:
        del os.environ[name]

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


class NetworkUsed(AssertionError):
    """A test tried to reach beyond this machine."""


def _check(address: object) -> None:
    if not isinstance(address, tuple):
        return  # a Unix socket
    host = str(address[0])  # pyright: ignore[reportUnknownArgumentType]
    if host == "localhost" or ipaddress.ip_address(host.split("%", maxsplit=1)[0]).is_loopback:
        return
    raise NetworkUsed(f"a test tried to reach {host}")


def _guarded_connect(self: socket.socket, address: object) -> None:
    _check(address)
    return _connect(self, address)  # pyright: ignore[reportArgumentType]


def _guarded_connect_ex(self: socket.socket, address: object) -> int:
    _check(address)
    return _connect_ex(self, address)  # pyright: ignore[reportArgumentType]


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Sockets connect to loopback only; `tests/shape/test_house.py` proves that the switch bites."""
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guarded_connect)
    patch.setattr(socket.socket, "connect_ex", _guarded_connect_ex)
    yield
    patch.undo()
