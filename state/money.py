"""`USD`: an amount of US dollars as whole nano-dollars. It is exact, ordered, and rounded up if it must be rounded."""

from decimal import ROUND_CEILING, Decimal, InvalidOperation, localcontext
from functools import total_ordering
from typing import TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from bursar.state.errors import AmountError

NANOS_PER_DOLLAR = 1_000_000_000
MAX_NANOS = 2**63 - 1  # what a BIGINT column holds: 9.2 billion dollars


@total_ordering
class USD:
    """An amount of US dollars, kept as an integer of nano-dollars.

    `USD("0.03")`, `USD(5)` and `USD(Decimal("0.018"))` are dollars. A fraction of a nano-dollar is rounded up, so that
    a bound stays a bound. Raises `AmountError` for a float, a bool, a NaN, an infinity, text that is no number, or an
    amount that is too large.
    """

    __slots__ = ("nanos",)
    nanos: int

    def __init__(self, amount: "Amount") -> None:
        self.nanos = amount.nanos if isinstance(amount, USD) else _nanos_of(amount)

    @classmethod
    def from_nanos(cls, nanos: int) -> "USD":
        """Return the amount of `nanos` billionths of a dollar."""
        _check_range(nanos)
        made = cls.__new__(cls)
        made.nanos = nanos
        return made

    @property
    def dollars(self) -> Decimal:
        """The exact amount in dollars."""
        return Decimal(self.nanos).scaleb(-9)

    def __add__(self, other: "USD") -> "USD":
        return USD.from_nanos(self.nanos + other.nanos)

    def __sub__(self, other: "USD") -> "USD":
        return USD.from_nanos(self.nanos - other.nanos)

    def __mul__(self, factor: int) -> "USD":
        return USD.from_nanos(self.nanos * factor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, USD) and self.nanos == other.nanos

    def __lt__(self, other: "USD") -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash((USD, self.nanos))

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __str__(self) -> str:
        """Return dollars with at least two and at most nine decimals: `$0.03`, `$0.000150`, `-$1.20`."""
        sign = "-" if self.nanos < 0 else ""
        whole, rest = divmod(abs(self.nanos), NANOS_PER_DOLLAR)
        decimals = f"{rest:09}".rstrip("0")
        return f"{sign}${whole:,}.{decimals.ljust(2, '0')}"

    def __repr__(self) -> str:
        return f"USD('{self.dollars:f}')"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a schema that accepts any `Amount` and serialises to a decimal string, so no reader gets a float."""
        return core_schema.no_info_plain_validator_function(
            _validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _serialise, return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """Return the JSON schema: a decimal string of US dollars."""
        return {"type": "string", "description": "US dollars, a decimal number"}


Amount: TypeAlias = str | int | Decimal | USD


def _nanos_of(amount: object) -> int:
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        hint = f'; write "{amount}"' if isinstance(amount, float) else ""
        kind = type(amount).__name__
        raise AmountError(f"an amount is a str, int or Decimal of US dollars, not {kind}: {amount!r}{hint}")
    try:
        with localcontext() as context:
            context.prec = 60
            exact = Decimal(amount)
            if not exact.is_finite():
                raise AmountError(f"an amount must be finite: {amount!r}")
            if abs(exact) > Decimal(MAX_NANOS).scaleb(-9):
                raise AmountError(f"an amount of this size cannot be kept: {amount!r}")
            nanos = int(exact.scaleb(9).to_integral_value(rounding=ROUND_CEILING))
    except InvalidOperation:
        raise AmountError(f"not an amount of US dollars: {amount!r}") from None
    _check_range(nanos)
    return nanos


def _check_range(nanos: int) -> None:
    if not -MAX_NANOS <= nanos <= MAX_NANOS:
        raise AmountError(f"an amount of {nanos} nano-dollars cannot be kept")


def _validate(value: object) -> USD:
    return value if isinstance(value, USD) else USD.from_nanos(_nanos_of(value))


def _serialise(value: USD) -> str:
    return f"{value.dollars:f}"


ZERO = USD.from_nanos(0)
