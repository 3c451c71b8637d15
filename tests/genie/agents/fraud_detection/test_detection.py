"""Fraud detection: what stands out is flagged once with its reasons; ordinary life is not."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.genie.agents.fraud_detection.detection import detect
from bursar.genie.agents.fraud_detection.rules import robust_z
from bursar.genie.household.records import BankTransaction
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis, Finding

Build = Callable[..., Source]
Post = Callable[..., BankTransaction]

TODAY = date(2025, 7, 1)


def ordinary(posting: Post, *, months: int = 6, seed: int = 3) -> list[BankTransaction]:
    """Months of salary, rent, a subscription, groceries on ten days a month and assorted shops: nothing to flag."""
    rng = random.Random(seed)
    rows: list[BankTransaction] = []
    for month in range(1, months + 1):
        rows += [
            posting(f"2025-{month:02}-01", "4000.00", "Acme Payroll"),
            posting(f"2025-{month:02}-02", "-1500.00", "City Apartments"),
            posting(f"2025-{month:02}-09", "-9.99", "Netflix"),
        ]
        rows += [
            posting(date(2025, month, 2 + 2 * turn), Decimal(-rng.randrange(3000, 9000)) / 100, "Whole Foods")
            for turn in range(10)
        ]
    return rows


def found(household: Build, rows: list[BankTransaction], text: str = "anything suspicious") -> dict[str, Finding]:
    """The findings by the id of the payment that each is about."""
    findings = detect(household(transactions=rows), text, today=TODAY).findings
    return {
        fact.key.removeprefix("flag.").removesuffix(".amount"): finding
        for finding in findings
        for fact in finding.facts
        if fact.key.startswith("flag.") and fact.key.count(".") == 2 and fact.key.endswith(".amount")
    }


def test_ordinary_months_have_no_flag(household: Build, posting: Post) -> None:
    """Salary, rent, subscription and groceries are not flagged, and the text says what was and was not checked."""
    analysis = detect(household(transactions=ordinary(posting)), "is anything odd", today=TODAY)

    assert analysis.findings == ()
    assert analysis.text.startswith("Nothing stands out among 72 payments from 1 January 2025 to 20 June 2025.")
    assert analysis.text.endswith(
        "Not checked: many payments in an hour, places and devices, as the bank's data do not have them."
    )
    assert analysis.gaps == ()


def test_a_charge_made_twice_is_flagged_once(household: Build, posting: Post) -> None:
    """The second of two equal charges is the flagged one, with the day of the first."""
    first, second = (posting(day, "-49.90", "Blue Shop") for day in ("2025-05-06", "2025-05-07"))

    flags = found(household, [*ordinary(posting), first, second])

    assert list(flags) == [second.id]
    assert "the same amount on 6 May 2025" in flags[second.id].reason


def test_a_subscription_charged_twice_is_still_a_duplicate(household: Build, posting: Post) -> None:
    """Being a known recurring payment explains one charge a month, not two on one day."""
    usual = ordinary(posting)
    again = posting("2025-05-09", "-9.99", "Netflix")

    assert list(found(household, [*usual, again])) == [again.id]


def test_a_duplicate_that_was_given_back_is_only_information(household: Build, posting: Post) -> None:
    """A refund of the same amount within days lowers the severity."""
    rows = [posting("2025-05-06", "-49.90", "Blue Shop"), posting("2025-05-06", "-49.90", "Blue Shop")]
    back = posting("2025-05-08", "49.90", "Blue Shop")

    (kept,) = found(household, [*ordinary(posting), *rows]).values()
    (lowered,) = found(household, [*ordinary(posting), *rows, back]).values()

    assert (kept.severity, lowered.severity) == ("warning", "info")


def test_a_daily_fare_is_a_habit(household: Build, posting: Post) -> None:
    """The same small amount at the same merchant on most days is no duplicate."""
    rows = [posting(date(2025, 5, 1) + timedelta(days=day), "-2.75", "Metro fare") for day in range(20)]

    assert found(household, [*ordinary(posting), *rows]) == {}


def test_a_large_first_payment_is_flagged(household: Build, posting: Post) -> None:
    """A payee never paid before and an amount above the household's own usual raise an alert with the limit."""
    row = posting("2025-06-03", "-2400.00", "Crypto Fast Desk")

    flags = found(household, [*ordinary(posting), row])

    assert flags[row.id].rule == "new-payee-large"
    assert flags[row.id].severity == "alert"
    assert "first payment to this payee" in flags[row.id].reason


def test_one_payment_has_one_finding_with_all_reasons(household: Build, posting: Post) -> None:
    """A payment on which two rules fire is told once, with both reasons and the gravest severity."""
    rows = [posting(date(2025, 4, day), f"-{20 + day}", "Books", category="Hobby") for day in range(1, 9)]
    row = posting("2025-06-03", "-2400.00", "Crypto Fast Desk", category="Hobby")

    flags = found(household, [*ordinary(posting), *rows, row])

    assert list(flags) == [row.id]
    assert "first payment" in flags[row.id].reason
    assert "unusually large for this category" in flags[row.id].reason


def test_dates_without_times_are_no_burst(household: Build, posting: Post) -> None:
    """Five purchases on one day without times are not five purchases at midnight."""
    rows = [posting("2025-05-10", f"-{20 + turn}.10", f"Shop {name}") for turn, name in enumerate("ABCDE")]

    assert found(household, [*ordinary(posting), *rows]) == {}


def test_many_payments_in_an_hour_are_a_burst(household: Build, posting: Post) -> None:
    """Five timed payments in an hour fire once, also across midnight; times with and without zone are not mixed."""
    start = datetime(2025, 5, 10, 23, 40, tzinfo=UTC)
    rows = [
        posting(
            (start + timedelta(minutes=9 * turn)).date(),
            f"-{20 + turn}.10",
            name,
            at=start + timedelta(minutes=9 * turn),
        )
        for turn, name in enumerate(("Alpha", "Beta", "Gamma", "Delta", "Epsilon"))
    ]
    naive = [
        posting("2025-05-10", f"-{30 + turn}", name, at=start.replace(tzinfo=None)) for turn, name in enumerate("VW")
    ]

    (finding,) = found(household, [*ordinary(posting), *rows, *naive]).values()

    assert finding.rule == "velocity"
    assert "one of 5 payments within 60 minutes" in finding.reason
    assert found(household, [*ordinary(posting), *rows[:4], *naive]) == {}


def test_a_giant_among_four_is_seen(household: Build, posting: Post) -> None:
    """Ten million among hundreds is flagged with only four debits: leaving it out, it cannot hide itself."""
    rows = [posting(f"2025-05-{day:02}", "-100.00", "Hardware") for day in (1, 9, 20)]
    giant = posting("2025-05-26", "-10000000.00", "Hardware")

    assert found(household, [*rows, giant])[giant.id].rule == "amount-outlier"


def test_two_giants_do_not_mask_each_other(household: Build, posting: Post) -> None:
    """Two outliers at one merchant are both flagged."""
    rows = [posting(date(2025, 3, 1) + timedelta(days=5 * turn), f"-{90 + turn}", "Hardware") for turn in range(14)]
    giants = [posting("2025-06-07", "-5000", "Hardware"), posting("2025-06-17", "-5100", "Hardware")]

    assert set(found(household, [*rows, *giants])) == {giant.id for giant in giants}


def test_robust_z_survives_equal_values() -> None:
    """With MAD = 0 the mean absolute deviation, then a share of the median, takes its place."""
    same = [Decimal(100)] * 6

    assert robust_z(Decimal(100), same) == (Decimal(0), Decimal(100))
    assert robust_z(Decimal(200), same) == (Decimal(20), Decimal(100))
    assert robust_z(Decimal(13), [Decimal(x) for x in (8, 9, 10, 11, 12)]) == (Decimal("2.02"), Decimal(10))


def test_a_rent_rise_is_not_fraud(household: Build, posting: Post) -> None:
    """A recurring payment that went up somewhat stays explained by its stream."""
    rows = [*ordinary(posting, months=5), posting("2025-06-02", "-1600.00", "City Apartments")]

    assert found(household, rows) == {}


def test_the_question_narrows_the_flags(household: Build, posting: Post) -> None:
    """A period keeps flags inside it; a question about double charges gets those alone."""
    twice = [posting("2025-03-06", "-49.90", "Blue Shop"), posting("2025-03-07", "-49.90", "Blue Shop")]
    large = posting("2025-06-03", "-2400.00", "Crypto Fast Desk")
    rows = [*ordinary(posting), *twice, large]

    assert list(found(household, rows)) == [large.id, twice[1].id]
    assert list(found(household, rows, "anything odd in March?")) == [twice[1].id]
    assert list(found(household, rows, "was I charged twice?")) == [twice[1].id]


def test_transfers_are_not_judged(household: Build, posting: Post) -> None:
    """Two equal moves to savings in two days are own money, not a duplicate, however large."""
    rows = [
        posting("2025-06-03", "-9000", "Transfer to savings"),
        posting("2025-06-03", "9000", "Transfer", account="savings"),
        posting("2025-06-04", "-9000", "Transfer to savings"),
        posting("2025-06-04", "9000", "Transfer", account="savings"),
    ]

    assert found(household, [*ordinary(posting), *rows]) == {}


@given(
    day=st.dates(date(2025, 1, 1), date(2025, 6, 25)),
    later=st.integers(0, 3),
    cents=st.integers(100, 200_000),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_an_injected_duplicate_is_found_in_any_order(
    household: Build,
    posting: Post,
    ungrounded: Callable[[Analysis], str],
    day: date,
    later: int,
    cents: int,
    seed: int,
) -> None:
    """Any payment repeated within three days is flagged; row order changes nothing; numbers are facts."""
    amount = Decimal(-cents) / 100
    pair = [posting(day, amount, "Blue Shop"), posting(day + timedelta(days=later), amount, "BLUE SHOP 0017")]
    rows = [*ordinary(posting, seed=seed), *pair]
    shuffled = random.Random(seed).sample(rows, len(rows))

    analysis = detect(household(transactions=rows), "check my payments", today=TODAY)

    assert "the same payee charged the same amount" in found(household, rows)[pair[1].id].reason
    assert analysis == detect(household(transactions=shuffled), "check my payments", today=TODAY)
    assert ungrounded(analysis) == ""
