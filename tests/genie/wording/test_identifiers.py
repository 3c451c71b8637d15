"""Identifiers are hidden in whatever form they are written; amounts, dates and references are left alone."""

import re
from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.us import rtn

from bursar.genie.wording.identifiers import MASK, find, mask

SEPARATORS = ("", " ", "-", "\u00a0", "\u202f", "\u2013", ".")
PROSE = st.sampled_from(["", "My card is ", "Paid 12.50 with ", "see: (", "IBAN/", "on 2024-02-29 from ", "*"])
TAIL = st.sampled_from(["", ".", ", thanks", " 2024", ")", " is mine", "\nnext line 12", "; 5,400.00"])
CARD_SHAPES = (("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("36", 14), ("3530", 16), ("62", 19))


def grouped(number: str, sizes: tuple[int, ...], separator: str) -> str:
    parts: list[str] = []
    for size in sizes:
        parts.append(number[:size])
        number = number[size:]
    return separator.join(part for part in (*parts, number) if part)


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix, length = draw(st.sampled_from(CARD_SHAPES))
    body = prefix + draw(st.text("0123456789", min_size=length - 1 - len(prefix), max_size=length - 1 - len(prefix)))
    number = body + luhn.calc_check_digit(body)
    sizes = {14: (4, 6, 4), 15: (4, 6, 5), 16: (4, 4, 4, 4), 19: (4, 4, 4, 4, 3)}[length]
    return grouped(number, sizes, draw(st.sampled_from(SEPARATORS)))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country, letters, digits = draw(
        st.sampled_from([("DE", 0, 18), ("GB", 4, 14), ("NL", 4, 10), ("AT", 0, 16), ("PL", 0, 24)])
    )
    bban = draw(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=letters, max_size=letters))
    bban += draw(st.text("0123456789", min_size=digits, max_size=digits))
    number = country + iban.calc_check_digits(f"{country}00{bban}") + bban
    written = grouped(number, (4,) * 8, draw(st.sampled_from(["", " ", "-", "\u00a0"])))
    return written.lower() if draw(st.booleans()) else written


amounts = st.builds(
    str.format,
    st.sampled_from(["{:,}", "{}", "${:,}", "{:,} EUR", "-{}", "€ {}", "({:,})"]),
    st.decimals(Decimal(0), Decimal("999999999999.99"), places=2),
)
dates = st.builds(
    date.strftime,
    st.dates(date(1900, 1, 1), date(2099, 12, 31)),
    st.sampled_from(["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%y", "%d %B %Y", "%Y%m%d", "%Y-%m-%d %Y-%m-%d"]),
)
references = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda u: u.hex),
    st.integers(0, 10**12 - 1).map(lambda n: f"{n:012d}"),
    st.integers(0, 10**9).map(lambda n: f"t-{n}"),
    st.sampled_from(["s-1", "AAPL", "BRK.B", "VTI 100", "866-216-1072", "INV-2024-000123", "2023 2024 2025"]),
)


@given(PROSE, cards(), TAIL)
def test_a_card_is_masked_with_any_separator(before: str, card: str, after: str) -> None:
    """Any valid card number in prose loses all but its last four digits, and the prose around it stays."""
    masked = mask(f"{before}{card}{after}")
    last = re.sub(r"\D", "", card)[-4:]
    assert masked == f"{before}{MASK}{last}{after}"


@given(PROSE, ibans(), TAIL)
def test_an_iban_is_masked_in_any_form(before: str, number: str, after: str) -> None:
    """Any valid IBAN in prose, grouped or not, in either case, keeps its last four characters alone."""
    masked = mask(f"{before}{number}{after}")
    bare = re.sub(r"[^0-9A-Za-z]", "", number)
    assert f"{MASK}{bare[-4:]}" in masked
    assert bare[:-4] not in re.sub(r"[^0-9A-Za-z]", "", masked)


@pytest.mark.slow
@given(
    st.lists(st.one_of(amounts, dates, references), min_size=1, max_size=4),
    st.sampled_from([", ", "; ", " and ", "\n"]),
)
@settings(max_examples=400)
def test_amounts_dates_and_references_stay(parts: list[str], glue: str) -> None:
    """No amount, date, UUID, short reference, session id or symbol is taken for an identifier."""
    text = glue.join(parts)
    assert mask(text) == text


@given(st.lists(st.one_of(cards(), ibans(), amounts, dates, references, st.text(max_size=12)), max_size=5))
def test_masking_is_complete_and_idempotent(parts: list[str]) -> None:
    """A masked text holds no identifier any more, and masking it again changes nothing."""
    masked = mask(" ".join(parts))
    assert find(masked) == ()
    assert mask(masked) == masked


@given(st.integers(0, 10**8 - 1), st.sampled_from(["routing number ", "ABA: ", "RTN ", "Routing no. "]))
def test_a_routing_number_needs_its_name(number: int, name: str) -> None:
    """Nine digits with a valid check digit are a routing number after its name, and an ordinary number without."""
    digits = f"{number:08d}"
    digits += rtn.calc_check_digit(digits)
    assert mask(name + digits) == f"{name}{MASK}{digits[-4:]}"
    assert mask(f"paid {digits} yen") == f"paid {digits} yen"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SSN 536-90-4399", "ssn"),
        ("it is 536-90-4399.", "ssn"),
        ("social security number: 536904399", "ssn"),
        ("ITIN 912-90-3456", "itin"),
        ("NI number AB123456C", "nino"),
        ("AB 12 34 56 C", "nino"),
        ("PAN ACUPA7085R", "pan"),
        ("2341 2341 2346", "aadhaar"),
        ("Aadhaar 234123412346", "aadhaar"),
        ("RCCMNL83S18D969H", "codice_fiscale"),
        ("Steuer-ID 36 574 261 809", "idnr"),
        ("IdNr 36574261809", "idnr"),
        ("write to jane.doe+x@example.co.uk", "email"),
    ],
)
def test_each_kind_is_found_and_masked(text: str, kind: str) -> None:
    """Every kind is found by its own name, and its mask shows no more than the last four characters."""
    (found,) = find(text)
    assert found.kind == kind
    said = text[found.start : found.end]
    assert mask(text) == text[: found.start] + found.masked + text[found.end :]
    assert said not in mask(text)
    shown = found.masked.removeprefix(MASK)
    assert shown.startswith("@") or (len(shown) == 4 and shown == re.sub(r"\W", "", said)[-4:])


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "DE89370400440532013001",
        "536904399 units",
        "36 574 261 809",
        "ratio 0.4111111111111111",
        "BG123456A",
        "000-12-3456",
        "f47ac10b-4111-4111-8111-411111111111",
        "routing\n021000021",
        "a @ b",
    ],
)
def test_near_misses_stay(text: str) -> None:
    """A wrong check digit, a number without its name, a decimal fraction or an unissued series is no identifier."""
    assert find(text) == ()
    assert mask(text) == text


def test_two_cards_without_a_space_are_both_masked() -> None:
    """A comma between two cards hides neither."""
    assert mask("5500000000000004,4111111111111111") == f"{MASK}0004,{MASK}1111"


def test_positions_are_those_of_the_text() -> None:
    """`start` and `end` cut out exactly what was written, in order."""
    text = "a 4111 1111 1111 1111 b GB82 WEST 1234 5698 7654 32 c"
    assert [text[i.start : i.end] for i in find(text)] == ["4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32"]


def test_a_uuid_of_digits_is_no_card() -> None:
    """A UUID stays whole even where its digits would pass as something else."""
    uuid = str(UUID(int=0x41111111111111111111111111111111))
    assert mask(uuid) == uuid
