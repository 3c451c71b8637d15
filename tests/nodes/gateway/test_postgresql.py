"""The same gateway on PostgreSQL, whose transactions do not queue as SQLite's do."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from bursar.state.refusals import BudgetExceeded
from tests.support.bench import Bench, make_bench
from tests.support.provider import Provider, Reply

pytestmark = pytest.mark.postgres


@pytest.fixture
def postgres_bench(provider: Provider, new_postgres: Callable[[], AbstractContextManager[str]]) -> Iterator[Bench]:
    """A bench on a PostgreSQL database of its own."""
    with new_postgres() as url:
        yield from make_bench(provider, url)


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
