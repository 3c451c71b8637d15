"""Lines of an export and unknown calls: what is proposed is never a guess, and never one line for two calls."""

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.rules.month_close import compare_invoice
from bursar.state.rules.usage_matching import (
    EARLY_SECONDS,
    MICROSECONDS,
    WINDOW_SECONDS,
    BookedCall,
    UsageLine,
    match_usage,
    plain_model,
)

MODELS = st.sampled_from(["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini"])
TIMES = st.integers(0, 40).map(lambda minutes: minutes * 60 * MICROSECONDS)
TOKENS = st.integers(0, 2)
LINES = st.lists(
    st.builds(
        UsageLine,
        row=st.just(0),
        id=st.sampled_from(["", "", "c-0", "c-1", "s-0", "other"]),
        start=TIMES,
        end=st.just(0),
        model=MODELS,
        input_tokens=st.none() | TOKENS,
        output_tokens=TOKENS,
        cost=st.none() | st.integers(0, 10),
        requests=st.integers(1, 2),
    ),
    max_size=6,
).map(lambda found: [_numbered(row, line) for row, line in enumerate(found, 1)])
CALLS = st.lists(st.tuples(TIMES, MODELS, st.integers(0, 8)), max_size=4).map(
    lambda found: [BookedCall(f"c-{n}", at, model, amount) for n, (at, model, amount) in enumerate(found)]
)
SETTLED = st.lists(st.tuples(TIMES, MODELS, TOKENS, TOKENS), max_size=3).map(
    lambda found: [BookedCall(f"s-{n}", at, model, 8, i, o) for n, (at, model, i, o) in enumerate(found)]
)


def _numbered(row: int, line: UsageLine) -> UsageLine:
    return UsageLine(
        row,
        line.id,
        line.start,
        line.start,
        line.model,
        line.input_tokens,
        line.output_tokens,
        line.cost,
        line.requests,
    )


def _told(call: BookedCall, line: UsageLine) -> int | None:
    return line.cost


@given(CALLS, SETTLED, LINES)
def test_no_line_is_proposed_for_two_calls(
    unknown: list[BookedCall], settled: list[BookedCall], lines: list[UsageLine]
) -> None:
    """Each unknown call is matched once or has a reason, each line is used once, and each match fits."""
    found = match_usage(unknown, settled, lines, _told)
    rows = [match.row for match in found.matches]
    assert len(rows) == len(set(rows))
    matched = [match.call_id for match in found.matches]
    assert sorted([*matched, *found.unmatched]) == sorted(call.call_id for call in unknown)
    assert all(found.unmatched.values())
    calls, by_row = {call.call_id: call for call in unknown}, {line.row: line for line in lines}
    for match in found.matches:
        call, line = calls[match.call_id], by_row[match.row]
        assert match.cost == line.cost
        if match.why == "its id":
            assert line.id == call.call_id
            continue
        assert line.id not in {*calls, *(one.call_id for one in settled)}
        assert plain_model(line.model) == plain_model(call.model)
        assert -EARLY_SECONDS <= (line.start - call.at) / MICROSECONDS <= WINDOW_SECONDS
        assert match.cost <= call.amount
        assert line.requests == 1


@given(CALLS, SETTLED, LINES)
def test_the_order_of_the_files_changes_nothing(
    unknown: list[BookedCall], settled: list[BookedCall], lines: list[UsageLine]
) -> None:
    """What is proposed does not depend on which line or call comes first."""
    one = match_usage(unknown, settled, lines, _told)
    other = match_usage(unknown[::-1], settled[::-1], lines[::-1], _told)
    assert set(one.matches) == set(other.matches)
    assert one.unmatched.keys() == other.unmatched.keys()


def test_the_only_line_that_fits_is_proposed() -> None:
    """Beside a line of another model, of another time, above the hold, of two requests, and a settled call's own."""
    call = BookedCall("c-1", 0, "gpt-4o", 8)
    settled = BookedCall("c-2", 0, "gpt-4o", 8, 5, 5)
    late = (WINDOW_SECONDS + 1) * MICROSECONDS
    lines = [
        UsageLine(1, "", 0, 0, "gpt-4o-2024-08-06", 5, 4, 7),
        UsageLine(2, "", 0, 0, "gpt-4o-mini", 5, 4, 7),
        UsageLine(3, "", late, late, "gpt-4o", 5, 4, 7),
        UsageLine(4, "", 0, 0, "gpt-4o", 5, 4, 9),
        UsageLine(5, "", 0, 0, "gpt-4o", 5, 4, 7, 2),
        UsageLine(6, "", 0, 0, "gpt-4o", 5, 5, 7),
    ]
    (match,) = match_usage([call], [settled], lines, _told).matches
    assert (match.call_id, match.row, match.cost) == ("c-1", 1, 7)


def test_two_lines_with_one_id_are_named() -> None:
    """Nobody knows which of them it is."""
    lines = [UsageLine(row, "c-1", 0, 0, "gpt-4o", 5, 4, 7) for row in (1, 2)]
    found = match_usage([BookedCall("c-1", 0, "gpt-4o", 8)], [], lines, _told)
    assert found.matches == ()
    assert found.unmatched == {"c-1": "several lines have its id: 1, 2"}


@given(
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), st.integers(-3, 3)),
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), st.integers(-3, 3)),
    st.integers(0, 2),
)
def test_every_difference_of_an_invoice_is_told(
    booked: dict[tuple[str, str], int], invoiced: dict[tuple[str, str], int], tolerance: int
) -> None:
    """A day and model is listed if and only if its amounts differ by more than the tolerance."""
    told = {
        (one.day, one.model): (one.booked, one.invoiced)
        for one in compare_invoice(booked, invoiced, tolerance=tolerance)
    }
    for key in booked.keys() | invoiced.keys():
        pair = booked.get(key, 0), invoiced.get(key, 0)
        assert (key in told) == (abs(pair[0] - pair[1]) > tolerance)
        assert told.get(key, pair) == pair
