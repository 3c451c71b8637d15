"""What holds for every test: no network beyond loopback, no key or setting of the developer's own, one PostgreSQL."""

import ipaddress
import os
import socket
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

REQUIRE, SERVER = "BURSAR_REQUIRE_POSTGRES", "BURSAR_TEST_POSTGRES"
DEFAULT_SERVER = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
CONNECT_SECONDS = 3

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


@pytest.fixture(scope="session")
def new_postgres() -> Callable[[], AbstractContextManager[str]]:
    """`with new_postgres() as url`: an empty PostgreSQL database, dropped afterwards.

    `BURSAR_TEST_POSTGRES` names the server. Where none answers the test is skipped, or fails where
    `BURSAR_REQUIRE_POSTGRES` is set.
    """
    return _new_postgres


@contextmanager
def _new_postgres() -> Generator[str]:
    server = os.environ.get(SERVER, DEFAULT_SERVER)
    try:
        admin = psycopg.connect(server.replace("+psycopg", "", 1), autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        reason = f"no PostgreSQL server at {server}: {str(error).splitlines()[0]}"
        if os.environ.get(REQUIRE):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    name = f"bursar_test_{uuid.uuid4().hex[:12]}"
    with admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
        yield f"{server.rpartition('/')[0]}/{name}"
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
