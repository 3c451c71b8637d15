"""US dollars as nano-dollars."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from bursar.state.errors import AmountError
from bursar.state.money import MAX_NANOS, USD, ZERO

NANOS = st.integers(-MAX_NANOS, MAX_NANOS)


@pytest.mark.parametrize(
    ("amount", "nanos"),
    [("0.03", 30_000_000), (5, 5_000_000_000), (Decimal("0.018"), 18_000_000), ("1e-9", 1), (" 1 ", 1_000_000_000)],
)
def test_dollars_become_nano_dollars(amount: str | int | Decimal, nanos: int) -> None:
    """A str, an int and a Decimal are dollars."""
    assert USD(amount).nanos == nanos


@pytest.mark.parametrize("amount", ["0.0000000001", Decimal("0.0000000019"), "1.0000000001"])
def test_what_is_finer_is_rounded_up(amount: str | Decimal) -> None:
    """A bound stays a bound: a fraction of a nano-dollar counts as a whole one."""
    exact = Decimal(amount).scaleb(9)
    assert exact < USD(amount).nanos < exact + 1


@pytest.mark.parametrize(
    "amount", [0.03, True, None, "NaN", "Infinity", "-inf", "three", "", "1e30", Decimal("sNaN"), b"1"]
)
def test_what_is_no_amount_is_refused(amount: object) -> None:
    """Floats, bools, NaN, infinities, words and sums beyond a BIGINT are refused with an error that shows them."""
    with pytest.raises(AmountError):
        USD(amount)  # type: ignore[arg-type]


@given(NANOS)
def test_text_and_dollars_round_trip(nanos: int) -> None:
    """The exact amount survives its decimal and its printed form."""
    amount = USD.from_nanos(nanos)
    assert USD(amount.dollars) == amount
    assert USD(str(amount).replace("$", "").replace(",", "")) == amount
    assert eval(repr(amount), {"USD": USD}) == amount


@given(st.integers(0, MAX_NANOS // 2), st.integers(0, MAX_NANOS // 2))
def test_sums_are_exact_and_ordered(first: int, second: int) -> None:
    """Adding and subtracting lose nothing, and amounts compare as their nano-dollars do."""
    a, b = USD.from_nanos(first), USD.from_nanos(second)
    assert (a + b).nanos == first + second
    assert a + b - b == a
    assert (a < b) == (first < second)


def test_printing_shows_at_least_cents() -> None:
    """`$0.03`, not `$0.030000000`."""
    shown = [str(USD(x)) for x in ("0.03", "0.00015", "-1.2", 0, "1234567.891")]
    assert shown == ["$0.03", "$0.00015", "-$1.20", "$0.00", "$1,234,567.891"]
    assert not ZERO


class Bill(BaseModel):
    """A model with money in it."""

    amount: USD


@given(NANOS)
def test_a_model_with_money_round_trips_as_text(nanos: int) -> None:
    """JSON holds a decimal string, so that no reader makes a float of it."""
    bill = Bill(amount=USD.from_nanos(nanos))
    assert isinstance(bill.model_dump()["amount"], str)
    assert Bill.model_validate_json(bill.model_dump_json()) == bill
