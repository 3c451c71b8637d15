"""How often prefixes are read again, as counts."""

from hypothesis import given
from hypothesis import strategies as st

from bursar.state.rules.reads_again import MOST_COUNTED, ReadsAgain


@given(st.lists(st.booleans(), max_size=400))
def test_the_counts_stay_a_share(reads: list[bool]) -> None:
    """Never more reads than prefixes, and never more prefixes than are counted, whatever happens."""
    counts = ReadsAgain()
    for read in reads:
        counts = counts.sent().read() if read else counts.sent()
        assert 0 <= counts.again <= counts.of <= MOST_COUNTED


def test_the_share_follows_what_happens() -> None:
    """Without any read it falls below a quarter after two prefixes; with reads it goes above nine in ten."""
    never, always = ReadsAgain(), ReadsAgain()
    for _ in range(2):
        never = never.sent()
    for _ in range(40):
        always = always.sent().read()
    assert 4 * never.again <= never.of
    assert 10 * always.again > 9 * always.of
