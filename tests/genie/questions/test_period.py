"""Periods: read from the question, seen from the newest day in the data."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.genie.questions.period import Period, month_of, parse_period, parse_periods

NEWEST = date(2025, 6, 17)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("Where did my money go in March?", "2025-03-01", "2025-03-31"),
        ("in march 2024", "2024-03-01", "2024-03-31"),
        ("spent in sep", "2024-09-01", "2024-09-30"),
        ("december spending", "2024-12-01", "2024-12-31"),
        ("how was May", "2025-05-01", "2025-05-31"),
        ("last month", "2025-05-01", "2025-05-31"),
        ("how does this month compare", "2025-06-01", "2025-06-30"),
        ("in 2025", "2025-01-01", "2025-12-31"),
        ("last year", "2024-01-01", "2024-12-31"),
        ("the last 3 months", "2025-03-01", "2025-05-31"),
        ("past three months", "2025-03-01", "2025-05-31"),
        ("last 90 days", "2025-03-20", "2025-06-17"),
        ("since January", "2025-01-01", "2025-06-17"),
        ("since 2024-05-01", "2024-05-01", "2025-06-17"),
        ("from November to February", "2024-11-01", "2025-02-28"),
        ("between Jan and Mar 2025", "2025-01-01", "2025-03-31"),
        ("on 14 March 2025", "2025-03-14", "2025-03-14"),
        ("on March 3rd", "2025-03-03", "2025-03-03"),
        ("on the 20th of June", "2024-06-20", "2024-06-20"),
        ("2025-06-01 to 2025-06-10", "2025-06-01", "2025-06-10"),
        ("in Q1", "2025-01-01", "2025-03-31"),
        ("Q3 2024", "2024-07-01", "2024-09-30"),
        ("last week", "2025-06-09", "2025-06-15"),
        ("year to date", "2025-01-01", "2025-06-17"),
        ("on 31 February", "2025-02-01", "2025-02-28"),
    ],
)
def test_the_period_of_a_question(text: str, start: str, end: str) -> None:
    """Months, years, quarters, spans and days are read; a month without a year is the newest that has begun."""
    assert parse_period(text, newest=NEWEST) == Period(date.fromisoformat(start), date.fromisoformat(end))


@pytest.mark.parametrize(
    "text", ["what may I spend", "May I see food", "a rent of $2000", "march on", "since forever", ""]
)
def test_no_period_is_read_from_other_words(text: str) -> None:
    """Verbs, amounts and open words name no period."""
    assert parse_period(text, newest=NEWEST) is None


def test_whole_months_end_today_when_the_data_do() -> None:
    """On the last day of a month that month is whole and counts among the last ones."""
    assert parse_period("last 2 months", newest=date(2025, 3, 31)) == Period(date(2025, 2, 1), date(2025, 3, 31))


def test_two_periods_are_both_read() -> None:
    """A comparison names two periods; each is read once."""
    assert set(parse_periods("Compare May with April", newest=NEWEST)) == {
        month_of(date(2025, 5, 1)),
        month_of(date(2025, 4, 1)),
    }


@pytest.mark.parametrize(
    ("period", "before"),
    [
        (Period(date(2025, 3, 1), date(2025, 3, 31)), Period(date(2025, 2, 1), date(2025, 2, 28))),
        (Period(date(2025, 1, 1), date(2025, 12, 31)), Period(date(2024, 1, 1), date(2024, 12, 31))),
        (Period(date(2025, 6, 9), date(2025, 6, 15)), Period(date(2025, 6, 2), date(2025, 6, 8))),
    ],
)
def test_the_period_before_is_as_long(period: Period, before: Period) -> None:
    """Months are followed back by months, years by years, days by days."""
    assert period.before() == before


@given(text=st.text(max_size=60), newest=st.dates(date(1990, 1, 1), date(2090, 1, 1)))
def test_any_text_is_read_without_error(text: str, newest: date) -> None:
    """Whatever the text, the answer is None or a period that does not end before it begins."""
    period = parse_period(text, newest=newest)

    assert period is None or period.start <= period.end
