"""Printed dates become days; the order of day and month is decided once, or not at all."""

from datetime import date, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.genie.importing.parsing.dates import DateOrder, infer_order, parse_date, parse_time

DAYS = st.dates(date(1971, 1, 1), date(2099, 12, 31))


@given(DAYS, st.sampled_from(["dmy", "mdy"]), st.sampled_from(["/", "-", ".", " "]))
def test_every_day_is_read_back_in_its_order(day: date, order: DateOrder, separator: str) -> None:
    """Printing a day in either order and reading it in that order gives the day."""
    form = separator.join(("%d", "%m", "%Y") if order == "dmy" else ("%m", "%d", "%Y"))
    assert parse_date(day.strftime(form), order) == (day, None)


@given(DAYS)
def test_iso_days_need_no_order(day: date) -> None:
    """Year-first dates read the same whatever the order, as they stand or packed."""
    for text in (day.isoformat(), day.strftime("%Y%m%d"), day.strftime("%Y/%m/%d")):
        assert parse_date(text, None) == (day, None)
        assert parse_date(text, "mdy") == (day, None)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("3 Mar 2025", date(2025, 3, 3)),
        ("03-MAR-25", date(2025, 3, 3)),
        ("3. März 2025", date(2025, 3, 3)),
        ("Mar 3, 2025", date(2025, 3, 3)),
        ("1er août 2025", None),
        ("14 août 2025", date(2025, 8, 14)),
        ("14 de enero de 2025", date(2025, 1, 14)),
        ("14 mei 2025", date(2025, 5, 14)),
        ("14 juin 2025", date(2025, 6, 14)),
        ("14 juillet 2025", date(2025, 7, 14)),
        ("31.02.2025", None),
        ("2025-13-01", None),
        ("99999999", None),
        ("yesterday", None),
        ("", None),
        ("01/01/0025", None),
    ],
)
def test_printed_forms(text: str, day: date | None) -> None:
    """Month names of five languages are read; impossible days are refused."""
    if day is None:
        with pytest.raises(ValueError, match="no date"):
            parse_date(text, "dmy")
    else:
        assert parse_date(text, "dmy") == (day, None)


def test_a_time_is_read_where_it_is_printed() -> None:
    """The time behind a date is kept, in 24 or 12 hours."""
    assert parse_date("2025-03-04T14:05:33", None) == (date(2025, 3, 4), time(14, 5, 33))
    assert parse_date("03/04/2025 2:05 PM", "mdy") == (date(2025, 3, 4), time(14, 5))
    assert parse_time("12:10 am") == time(0, 10)


def test_an_unknown_order_refuses_only_what_needs_it() -> None:
    """Without an order 03/03 is a day, 03/04 is not."""
    assert parse_date("03/03/2025", None) == (date(2025, 3, 3), None)
    with pytest.raises(ValueError, match="no date"):
        parse_date("03/04/2025", None)


def test_the_order_comes_from_the_whole_column() -> None:
    """One date beyond the twelfth decides for all; dots are day-first; nothing decisive stays ambiguous."""
    assert infer_order(["01/02/2025", "13/02/2025"]) == "dmy"
    assert infer_order(["01/02/2025", "02/13/2025"]) == "mdy"
    assert infer_order(["01.02.2025"]) == "dmy"
    assert infer_order(["01/02/2025", "03/04/2025"]) == "ambiguous"
    assert infer_order(["2025-02-01", "03/03/2025"]) is None
