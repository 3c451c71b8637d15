"""The tables keep amounts exactly and can be created by several processes at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, insert, inspect, select
from sqlalchemy.exc import StatementError

from bursar.genie.household import schema

DAY = date(2025, 1, 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=6))
def test_a_decimal_comes_back_as_it_went_in(engine: Engine, amount: Decimal) -> None:
    """Digits and scale survive on both databases."""
    schema.prepare(engine)
    row = {"symbol": "X", "day": DAY, "close": amount, "currency": "USD"}
    with engine.begin() as connection:
        connection.execute(delete(schema.prices))
        connection.execute(insert(schema.prices).values(**row))
        found = connection.scalar(select(schema.prices.c.close))
    assert str(found) == format(amount, "f") or found == amount == 0


def test_an_amount_that_is_not_finite_is_refused(engine: Engine) -> None:
    """NaN and infinities never reach a table, though PostgreSQL could hold them."""
    schema.prepare(engine)
    for amount in (Decimal("NaN"), Decimal("Infinity")):
        row = {"symbol": "X", "day": DAY, "close": amount, "currency": "USD"}
        with pytest.raises(StatementError, match="must be finite"), engine.begin() as connection:
            connection.execute(insert(schema.prices).values(**row))


def test_preparing_at_once_and_again_is_safe(engine: Engine) -> None:
    """Eight connections that create the tables at the same time all succeed."""
    url = engine.url.render_as_string(hide_password=False)
    engines = [create_engine(url) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(schema.prepare, engines))
    schema.prepare(engine)
    assert set(inspect(engine).get_table_names()) == set(schema.metadata.tables)
    assert all(name.startswith("genie_") for name in schema.metadata.tables)
    for one in engines:
        one.dispose()
