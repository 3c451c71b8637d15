"""The same gateway on PostgreSQL, whose transactions do not queue as SQLite's do."""

import asyncio
import os
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from bursar.state.errors import BudgetExceeded
from tests.nodes.conftest import Bench, make_bench
from tests.nodes.provider import Provider, Reply

SERVER = os.environ.get("BURSAR_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
pytestmark = pytest.mark.postgres


@pytest.fixture
def postgres_bench(provider: Provider) -> Iterator[Bench]:
    """A bench on a PostgreSQL database of its own; skips where there is no server."""
    name = f"bursar_gateway_{uuid.uuid4().hex[:12]}"
    try:
        server = psycopg.connect(SERVER, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL server at {SERVER}: {str(error).splitlines()[0]}")
    with server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
        yield from make_bench(provider, SERVER.rpartition("/")[0] + f"/{name}")
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
    server.close()


def test_calls_are_held_settled_voided_and_replayed(postgres_bench: Bench) -> None:
    """Plain, streamed, refused and repeated calls leave the same books as on SQLite."""
    bench = postgres_bench
    bench.provider.will(Reply(status=429, headers={"retry-after": "0"}))
    for _ in range(2):
        with bench.scope().enter():
            assert bench.model().invoke("one").text == "all is well"
            assert "".join(chunk.text for chunk in bench.model().stream("two")) == "all is well"
    assert len(bench.provider.requests) == 3
    assert bench.charged == bench.provider.billed


def test_forty_calls_at_once_stay_within_the_budget(postgres_bench: Bench) -> None:
    """Holds that race for the last money are shaped anew or refused; nothing is overspent or left in flight."""
    bench = postgres_bench
    bench.provider.default = Reply(text="word " * 20_000)
    model = bench.model()

    async def one(number: int) -> bool:
        try:
            await model.ainvoke(f"question {number}")
        except BudgetExceeded:
            return False
        return True

    async def main() -> list[bool]:
        with bench.scope("0.004").enter():
            return list(await asyncio.gather(*(one(number) for number in range(40))))

    sent = asyncio.run(main())
    assert sum(sent) == len(bench.provider.bills) > 0
    assert bench.provider.billed <= bench.charged <= 4_000_000
    assert bench.held == 0
