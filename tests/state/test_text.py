"""Texts of others: in one line, within a length, as both databases can keep them."""

from bursar.state.text import MAX_REASON_CHARACTERS, clean, cut, excerpt, one_line


def test_an_excerpt_keeps_both_ends() -> None:
    """A text over the limit keeps its first and last halves; a shorter one is unchanged."""
    assert excerpt("short", 10) == "short"
    assert excerpt("question" + "x" * 1000 + "question", 16) == "question … question"


def test_a_cut_text_says_that_it_was_cut() -> None:
    """A text at the limit is unchanged; a longer one ends in an ellipsis at the limit."""
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 11, 10) == "x" * 9 + "…"


def test_one_line_is_one_line_and_bounded() -> None:
    """White space is folded, and a long text is cut where there is a limit."""
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 500, 10) == "x" * 9 + "…"
    assert one_line("x" * 500) == "x" * 500


def test_a_clean_text_can_be_kept() -> None:
    """NUL and half characters are replaced, and a long text is cut."""
    assert clean("a\x00b\ud800c") == "a�b?c"
    assert len(clean("x" * 5_000)) == MAX_REASON_CHARACTERS
