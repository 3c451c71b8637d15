"""`@priced`: a function that costs money per call is held, run, settled, and not paid for twice."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest

from bursar import priced
from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.events import Incident
from bursar.state.refusals import BudgetExceeded, NoSession
from tests.support.bench import SESSION, Bench

QUOTE_NANOS = 2_000_000


class Api:
    """A paid service that counts what it was asked."""

    def __init__(self, *results: object) -> None:
        self.asked: list[object] = []
        self.results = list(results)

    def answer(self, question: object) -> object:
        """The next result, raised if it is an exception."""
        self.asked.append(question)
        result = self.results.pop(0) if self.results else {"for": question}
        if isinstance(result, BaseException):
            raise result
        return result


def test_a_call_is_held_run_and_settled(bench: Bench) -> None:
    """Sync and async functions are charged their price, with the function's name in the log."""
    api = Api()

    @priced("0.002")
    def quote(symbol: str) -> object:
        return api.answer(symbol)

    @priced("0.002")
    async def aquote(symbol: str) -> object:
        return api.answer(symbol)

    with bench.scope().enter():
        assert quote("ABC") == {"for": "ABC"}
        assert asyncio.run(aquote("DEF")) == {"for": "DEF"}
    assert bench.charged == 2 * QUOTE_NANOS
    assert bench.kinds() == ["call_held", "call_settled"] * 2
    assert any("quote" in name for name in bench.ledger.spend(SESSION).by_model)


def test_a_repeated_run_gets_the_result_again(bench: Bench) -> None:
    """Plain JSON is replayed, for equal arguments and in order; the function does not run."""
    api = Api(1, 2, [{"a": None}])

    @priced("0.002")
    def quote(symbol: str, *, day: int = 1) -> object:
        return api.answer((symbol, day))

    runs: list[list[object]] = []
    for _ in range(2):
        with bench.scope().enter():
            runs.append([quote("A"), quote("A"), quote("A", day=2)])
    assert runs == [[1, 2, [{"a": None}]]] * 2
    assert len(api.asked) == 3
    assert bench.charged == 3 * QUOTE_NANOS


@pytest.mark.parametrize("result", [(1, 2), {1: "a"}, Decimal(1), float("nan"), object()])
def test_a_result_that_json_would_change_is_not_replayed(bench: Bench, result: object) -> None:
    """What cannot be given back as it was is paid for again, rather than given back as something else."""
    api = Api(result, result)

    @priced("0.002")
    def quote() -> object:
        return api.answer("")

    for _ in range(2):
        with bench.scope().enter():
            assert quote() is result
    assert bench.charged == 2 * QUOTE_NANOS


def test_a_price_that_depends_on_the_result(bench: Bench) -> None:
    """`at_most` is held, the function of the result is charged; one above it is booked in full, as an incident."""
    api = Api({"pages": 3}, {"pages": 30})

    @priced(lambda result: Decimal(result["pages"]) / 1_000, at_most="0.01")
    def scan(name: str) -> object:
        return api.answer(name)

    with bench.scope("0.10").enter():
        scan("short")
        assert bench.charged == 3_000_000
        scan("long")
        with pytest.raises(BudgetExceeded, match="incident"):
            scan("another")
    assert bench.holds() == [10_000_000, 10_000_000]
    assert bench.charged == 33_000_000
    assert [row.kind for row in bench.ledger.audit(SESSION) if isinstance(row.event, Incident)] == ["incident"]


def test_a_price_function_that_fails_leaves_the_hold_charged(bench: Bench) -> None:
    """Its error is raised, the call stays charged at its hold, and the result is in the journal."""
    api = Api({"pages": 1})

    @priced(lambda result: result["sheets"], at_most="0.01")
    def scan() -> object:
        return api.answer("")

    with bench.scope().enter(), pytest.raises(KeyError):
        scan()
    assert bench.charged == 10_000_000
    with bench.scope().enter():
        assert scan() == {"pages": 1}
    assert len(api.asked) == 1


def test_a_call_that_raises_is_of_unknown_end_unless_it_is_free(bench: Bench) -> None:
    """Nobody knows what a failed call cost, so it stays at its hold; what is in `free_on` owes nothing."""
    api = Api(ConnectionError("reset"), LookupError("not found"), {"ok": True})

    @priced("0.002", free_on=(LookupError,))
    def quote() -> object:
        return api.answer("")

    with bench.scope().enter():
        with pytest.raises(ConnectionError):
            quote()
        with pytest.raises(LookupError):
            quote()
        assert quote() == {"ok": True}
    assert bench.kinds() == ["call_held", "call_unknown", "call_held", "call_voided", "call_held", "call_settled"]
    assert bench.charged == 2 * QUOTE_NANOS


def test_what_does_not_fit_does_not_run(bench: Bench) -> None:
    """Beyond the budget, in an unpaid scope and outside any session the function is not called."""
    api = Api()

    @priced("0.002")
    def quote() -> object:
        return api.answer("")

    with bench.scope("0.001").enter(), pytest.raises(BudgetExceeded, match=r"needs \$0\.002"):
        quote()
    with bench.scope(paid=False).enter(), pytest.raises(BudgetExceeded, match="deterministic"):
        quote()
    with pytest.raises(NoSession, match="priced"):
        quote()
    assert api.asked == []


def test_bad_prices_are_found_when_the_function_is_made() -> None:
    """A float, a negative price, a function without a bound and a generator are errors before anything runs."""
    for price in (0.002, "-1", "much"):
        with pytest.raises(ConfigurationError, match="price"):
            priced(price)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="at_most"):
        priced(lambda result: "0.1")  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(ConfigurationError, match="at_most"):
        priced("0.1", at_most="0.2")

    def stream() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="generator"):
        priced("0.1")(stream)


def test_a_negative_price_of_a_result_is_an_error(bench: Bench) -> None:
    """No result makes money."""

    @priced(lambda _: "-0.01", at_most="0.01")  # pyright: ignore[reportUnknownLambdaType]
    def refund() -> str:
        return "thanks"

    with bench.scope().enter(), pytest.raises(AmountError, match="negative"):
        refund()
    assert bench.charged == 10_000_000
