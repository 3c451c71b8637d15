"""Reads the numbers and dates that a text states: their places, their possible meanings, and their units.

Read as numbers: digits with any usual grouping ("1,234.56", "1.234,56", "1 234,56", "1'234.56", "1,23,456"), scales
("1.2k", "3 million"), number words ("three", "twenty-five thousand"), "twice", "doubled" and the like. "One" counts
only before a unit of money, percent or months; otherwise it is a pronoun. Read as dates: texts that name at least a
year with its month, or a month with its day.

Not numbers: ordinals, list numbers, step labels, names with digits in them ("401(k)", "S&P 500", "Q3", "W-2", "s-1"),
"charged twice", UUIDs, links, masked identifiers, a month's name without a day or a year.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

_DOLLARS = frozenset({"USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"})
_CURRENCIES: dict[str, frozenset[str]] = {
    "US$": frozenset({"USD"}),
    "C$": frozenset({"CAD"}),
    "A$": frozenset({"AUD"}),
    "$": _DOLLARS,
    "dollars": _DOLLARS,
    "dollar": _DOLLARS,
    "bucks": _DOLLARS,
    "€": frozenset({"EUR"}),
    "euros": frozenset({"EUR"}),
    "euro": frozenset({"EUR"}),
    "£": frozenset({"GBP"}),
    "pounds": frozenset({"GBP"}),
    "₹": frozenset({"INR"}),
    "Rs.": frozenset({"INR"}),
    "Rs": frozenset({"INR"}),
    "rupees": frozenset({"INR"}),
    "¥": frozenset({"JPY", "CNY"}),
    "kr": frozenset({"SEK", "NOK", "DKK"}),
    **{
        code: frozenset({code})
        for code in re.findall(
            "[A-Z]+",
            "USD EUR GBP CHF JPY CNY INR CAD AUD NZD SGD HKD MXN SEK NOK DKK PLN CZK HUF RON BGN TRY ZAR BRL ARS "
            "CLP COP KRW THB IDR MYR PHP VND AED SAR QAR ILS EGP NGN KES PKR BDT LKR TWD UAH RUB ISK "
            "BHD KWD OMR TND JOD MAD",
        )
    },
}
_SCALES: dict[str, Decimal] = {
    **dict.fromkeys(("k", "thousand"), Decimal(1000)),
    **dict.fromkeys(("m", "mn", "million"), Decimal(1_000_000)),
    **dict.fromkeys(("b", "bn", "billion"), Decimal(1_000_000_000)),
    "lakh": Decimal(100_000),
    "crore": Decimal(10_000_000),
}
_WORDS: dict[str, int] = {
    **{
        word: value
        for value, word in enumerate(
            re.findall(
                "[a-z]+",
                "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
                "seventeen eighteen nineteen",
            )
        )
    },
    **{
        word: 10 * value
        for value, word in enumerate(re.findall("[a-z]+", "twenty thirty forty fifty sixty seventy eighty ninety"), 2)
    },
}
_WORD_SCALES = {"thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
_FACTORS = {
    "twice": Decimal(2),
    "thrice": Decimal(3),
    "doubled": Decimal(2),
    "tripled": Decimal(3),
    "quadrupled": Decimal(4),
    "halved": Decimal("0.5"),
}
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january",
            "feb february",
            "mar march",
            "apr april",
            "may",
            "jun june",
            "jul july",
            "aug august",
            "sep sept september",
            "oct october",
            "nov november",
            "dec december",
        ),
        start=1,
    )
    for name in names.split()
}

_GAP = "[ \u00a0\u202f\u2009]"
_DIGITS = rf"(?:\d{{1,3}}(?:{_GAP}\d{{3}})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'’]\d+)*|(?<![\d.])\.\d+)"
_BEFORE = "|".join(re.escape(c) for c in sorted(_CURRENCIES, key=len, reverse=True) if not c.islower())
_AFTER = "|".join(re.escape(c) for c in sorted(_CURRENCIES, key=len, reverse=True))

_TENS = "|".join(word for word, value in _WORDS.items() if value >= 20)
_ONES = "|".join(sorted((word for word, value in _WORDS.items() if value < 20), key=len, reverse=True))
_SMALL = rf"(?:(?:{_TENS})(?:[ -](?:{_ONES})\b)?|(?:{_ONES}))\b"
_TRIPLE = rf"(?:(?:{_SMALL}[ ])?hundred\b(?:[ ](?:and[ ])?{_SMALL})?|{_SMALL})"
_POWER = rf"(?:{'|'.join(_WORD_SCALES)})\b"
_SPELLED = rf"(?:{_TRIPLE}(?:[ -]{_POWER}(?:[ ](?:and[ ])?{_TRIPLE})?)*|(?:{_SMALL}[ ])?dozen\b|{_POWER})"
_VAGUE = r"(?:dozens|hundreds|thousands|millions|billions)\b"

_NUMBER = re.compile(
    rf"""
    (?:(?P<before>{_BEFORE})\s?-?)?
    (?:(?P<digits>(?<!\d){_DIGITS})
         (?:(?P<scale>(?i:{_GAP}?-?(?:thousand|million|billion|lakh|crore|mn|bn)|[kmb]))(?![A-Za-z]))?
      |(?P<spelled>(?i:\b{_SPELLED}))|(?P<vague>(?i:\b{_VAGUE}))|(?P<factor>(?i:\b(?:{"|".join(_FACTORS)})\b)))
    (?:{_GAP}?-?(?P<after>
        (?P<percent>(?i:%|percentage[ ]points?\b|percent\b|per[ ]cent\b|pp\b))
      | (?P<points>(?i:bps\b|basis[ ]points?\b)) | (?P<cents>(?i:cents?\b|pence\b))
      | (?P<currency>(?:{_AFTER})(?![A-Za-z\d]))
      | (?P<months>(?i:months?\b)) | (?P<duration>(?i:(?:day|week|year|hour)s?\b)) | (?P<times>(?i:times\b|x\b))))?
    """,
    re.VERBOSE,
)

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_YEAR = r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"""(?<![\w$€£])(?<!\d\.)(?i:
      (?P<y1>{_YEAR})-(?P<m1>\d\d)-(?P<d1>\d\d)
    | (?P<y6>{_YEAR})[-/–](?P<e6>\d\d)
    | (?P<a2>[0-3]?\d)(?P<s2>[./-])(?P<b2>[0-3]?\d)(?P=s2)(?P<y2>{_YEAR}|\d\d)
    | (?P<d3>[0-3]?\d)(?:st|nd|rd|th)?[ ](?:of[ ])?(?P<m3>{_MONTH})\b\.?(?:,?[ ](?P<y3>{_YEAR}))?
    | (?P<m5>{_MONTH})\.?,?[ ](?:of[ ])?(?P<y5>{_YEAR}|['’]\d\d)
    | (?P<m4>{_MONTH})\.?[ ](?P<d4>[0-3]?\d)(?:st|nd|rd|th)?(?!\s?%)(?:,?[ ](?P<y4>{_YEAR}))?
    )(?!\w|-\d|/\d|[.,]\d)""",
    re.VERBOSE,
)

_NAMES = re.compile(
    rf"""
      https?://\S+
    | •{{4}}\w{{4}}\b
    | \b[0-9A-Fa-f]{{8}}-(?:[0-9A-Fa-f]{{4}}-){{3}}[0-9A-Fa-f]{{12}}\b
    | \b(?:401|403|457)\s?\(?[kKbB]\b\)? | \b529[ ](?:plans?|accounts?)\b | \b1099-[A-Z]+\b | \b24/7\b
    | \b(?i:forms?|schedule|publication|section|topic)[ ]\d+[\w-]*
    | \bS&P[ ]?\d+ | \b(?:Russell|FTSE|DAX|Nasdaq|NASDAQ|Nikkei|STOXX|CAC)[ -]?\d+
    | \b(?i:step|option|note|item|point|part|tier|level|phase|chapter)[ ]\d{{1,2}}\b
    | \b(?i:charged|billed|paid|booked|posted|made|appears?)[ ]twice\b(?![ ]as\b)
    | \b(?!(?:{_BEFORE})-)(?:[A-Za-z]|[A-Z]{{2,}})-\d[\w-]*
    | (?m:^[ \t>*-]*\(?\d{{1,2}}[.)](?=\s))
    | (?<![\w$])(?!(?:{_BEFORE})\d)[A-Za-z_]+\d[\w-]*
    """,
    re.VERBOSE,
)
_ORDINAL = re.compile(r"\b\d+(?:st|nd|rd|th)\b")
_RANGE = re.compile(r"\s*(?:-|–|—|/|to|and|or)\s*")


@dataclass(frozen=True, slots=True)
class Reading:
    """One meaning of a written number: its absolute value, and `quantum`, the value of its last place (2.5: 0.1)."""

    value: Decimal
    quantum: Decimal


@dataclass(frozen=True, slots=True)
class Mark:
    """The unit that a number is written with. `currencies` has the currencies that the written sign may mean.

    If `currencies` is empty, every currency fits.
    """

    kind: Literal["money", "percent", "months", "duration", "factor", "plain"]
    currencies: frozenset[str] = frozenset()


_PLAIN = Mark("plain")


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as it is written in `text[start:end]`.

    The number means one of its `readings` in one of its `marks`, or each of its `parts` is a number by itself: "5 100"
    may be two numbers. A numeral without a reading is so vague that no fact supports it ("thousands").
    """

    written: str
    start: int
    end: int
    readings: tuple[Reading, ...]
    marks: tuple[Mark, ...] = (_PLAIN,)
    parts: tuple["Numeral", ...] = ()


@dataclass(frozen=True, slots=True)
class PartialDate:
    """A date as it is written in a text. Each alternative is (year, month, day), with None for a missing part."""

    written: str
    start: int
    alternatives: tuple[tuple[int | None, int | None, int | None], ...]


def blank(text: str, pattern: re.Pattern[str]) -> str:
    """Return `text` with every match of `pattern` replaced by spaces, so that positions stay."""
    return pattern.sub(lambda match: " " * len(match.group()), text)


def scan(text: str) -> tuple[tuple[PartialDate, ...], tuple[Numeral, ...]]:
    """Return the dates and the numbers that `text` states, each in order of appearance."""
    text = blank(text, _NAMES)
    dates = tuple(PartialDate(m.group(), m.start(), tuple(_alternatives(m))) for m in _DATE.finditer(text))
    return dates, _with_range_marks(text, list(_numerals(blank(blank(text, _DATE), _ORDINAL))))


def _alternatives(match: re.Match[str]) -> Iterator[tuple[int | None, int | None, int | None]]:
    """Yield each (year, month, day) that the match may mean; nothing if no calendar has such a month or day."""
    said = match.groupdict()

    def number(name: str) -> int | None:
        digits = (said[name] or "").lstrip("'’")
        return (2000 + int(digits) if name[0] == "y" and len(digits) == 2 else int(digits)) if digits else None

    candidates: list[tuple[int | None, int | None, int | None]] = []
    if said["y1"]:
        candidates.append((number("y1"), number("m1"), number("d1")))
    elif said["y6"]:
        year, end = int(said["y6"]), int(said["e6"])
        candidates.append((year, end, None))
        if end == (year + 1) % 100:
            candidates.append((year, None, None))
    elif said["a2"]:
        year, first, second = number("y2"), number("a2"), number("b2")
        candidates += [(year, second, first), (year, first, second)]
    else:
        month = _MONTHS[(said["m3"] or said["m4"] or said["m5"]).lower()]
        candidates.append((number("y3") or number("y4") or number("y5"), month, number("d3") or number("d4")))
    for year, month, day in candidates:
        if (month is None or 1 <= month <= 12) and (day is None or 1 <= day <= 31):
            yield year, month, day


def _numerals(text: str) -> Iterator[Numeral]:
    for match in _NUMBER.finditer(text):
        mark, unit = _mark(match)
        parts: tuple[Numeral, ...] = ()
        if match["digits"]:
            scale = _SCALES[match["scale"].strip(" \u00a0\u202f\u2009-").lower()] if match["scale"] else Decimal(1)
            factor = scale * unit
            readings = tuple(
                Reading(r.value * factor, r.quantum * factor)
                for r in _readings(match["digits"], money=mark.kind == "money")
            )
            parts = tuple(_parts(match, mark))
        elif match["spelled"]:
            if match["spelled"].lower() == "one" and mark.kind in {"plain", "duration"}:
                continue
            readings = (Reading(_spelled(match["spelled"]) * unit, unit),)
        elif match["factor"]:
            value = _FACTORS[match["factor"].lower()]
            readings, mark = (Reading(value, Decimal("0.1") if value < 1 else Decimal(1)),), Mark("factor")
        else:
            readings = ()
        yield Numeral(match.group().strip(), match.start(), match.end(), readings, (mark,), parts)


def _mark(match: re.Match[str]) -> tuple[Mark, Decimal]:
    """Return the unit that a number is written with, and the factor that converts the number to the unit of facts.

    The factor is 0.01 for cents, because facts are in whole units of a currency.
    """
    before = _CURRENCIES[match["before"]] if match["before"] else None
    after = _CURRENCIES[match["currency"]] if match["currency"] else None
    if before is not None or after is not None:
        both = before & after if before is not None and after is not None else frozenset[str]()
        return Mark("money", both or after or before or frozenset()), Decimal(1)
    if match["cents"]:
        return Mark("money"), Decimal("0.01")
    if match["points"]:
        return Mark("percent"), Decimal("0.01")
    if match["percent"]:
        return Mark("percent"), Decimal(1)
    if match["months"]:
        return Mark("months"), Decimal(1)
    if match["duration"]:
        return Mark("duration"), Decimal(1)
    return (Mark("factor") if match["times"] else _PLAIN), Decimal(1)


def _readings(digits: str, *, money: bool) -> Iterator[Reading]:
    """Yield the numbers that `digits` with separators may mean; nothing if the separators group in no usual way.

    If `money`, a point before three digits may also group thousands.
    """
    bare = re.sub(r"[ \u00a0\u202f\u2009'’]", "", digits)
    if re.fullmatch(r"\d*\.?\d+", bare):
        yield _exact(bare)
        # "1.234 €" may be a European thousand. Without a sign of money, a point is a decimal point.
        if money and re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", bare):
            yield _exact(bare.replace(".", ""))
    elif re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[1-9]\d?(?:,\d\d)+,\d{3}(?:\.\d+)?", bare):
        yield _exact(bare.replace(",", ""))
    elif re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,}|\d+,\d+", bare):
        yield _exact(bare.replace(".", "").replace(",", "."))


def _exact(number: str) -> Reading:
    _, _, places = number.partition(".")
    return Reading(Decimal(number), Decimal(1).scaleb(-len(places)))


def _parts(match: re.Match[str], mark: Mark) -> Iterator[Numeral]:
    """Yield each piece of the match's digits as a number, if the digits may be several numbers.

    "5 100" and "1,2,3" may be several numbers, "1,234.56" may not.
    """
    digits = match["digits"]
    pattern = r"[^ ]+" if " " in digits else r"\d+"
    if " " not in digits and (any(_readings(digits, money=True)) or match["scale"]):
        return
    pieces = list(re.finditer(pattern, digits))
    for index, piece in enumerate(pieces):
        own = mark if index == len(pieces) - 1 else _PLAIN
        start = match.start("digits") + piece.start()
        readings = tuple(_readings(piece.group(), money=own.kind == "money"))
        yield Numeral(piece.group(), start, start + len(piece.group()), readings, (own,))


def _spelled(words: str) -> Decimal:
    total = current = 0
    for word in re.findall(r"[a-z]+", words.lower()):
        if word in _WORDS:
            current += _WORDS[word]
        elif word in {"hundred", "dozen"}:
            current = max(1, current) * (100 if word == "hundred" else 12)
        elif word in _WORD_SCALES:
            total, current = total + max(1, current) * _WORD_SCALES[word], 0
    return Decimal(total + current)


def _with_range_marks(text: str, numerals: list[Numeral]) -> tuple[Numeral, ...]:
    """Return the numerals; if one end of a range has no unit, it may also have the unit of the other end.

    Such ranges are "12 to 15 %" and "$1,200–1,500".
    """
    for left in range(len(numerals) - 1):
        first, second = numerals[left], numerals[left + 1]
        if not _RANGE.fullmatch(text, first.end, second.start):
            continue
        if first.marks == (_PLAIN,):
            numerals[left] = replace(first, marks=(_PLAIN, *second.marks))
        elif second.marks == (_PLAIN,):
            numerals[left + 1] = replace(second, marks=(_PLAIN, *first.marks))
    return tuple(numerals)
