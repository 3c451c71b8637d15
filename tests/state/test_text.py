"""Texts of others: in one line, within a length, as both databases can keep them."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from bursar.state.errors import ConfigurationError
from bursar.state.text import MAX_REASON_CHARACTERS, check_storable, clean, cut, excerpt, mended, one_line


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


def test_half_characters_are_replaced_wherever_they_are() -> None:
    """In lists, tuples, dicts, their keys and messages; two halves that belong together become their character."""
    message = HumanMessage([{"type": "text", "text": "a\ud83d"}], id="m\ud800")
    fresh = mended({"messages": [message, ("user", "b\udc00c")], "k\ud800": "\ud83d\ude00"})
    assert fresh == {
        "messages": [HumanMessage([{"type": "text", "text": "a�"}], id="m�"), ("user", "b�c")],
        "k�": "\U0001f600",
    }
    assert message.id == "m\ud800"


def test_what_has_no_half_character_is_not_copied() -> None:
    """The very same object is returned, so nothing is lost and nothing is paid for."""
    value = {"messages": [HumanMessage("é \x00"), AIMessage("x", tool_calls=[])], "n": (1, None, object())}
    assert mended(value) is value


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "é\udfff"])
def test_what_no_database_keeps_is_refused(text: str) -> None:
    """The error names what it is, in one line that can itself be printed."""
    with pytest.raises(ConfigurationError, match=r"thread_id .* holds a NUL or half a character") as error:
        check_storable("thread_id", text)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["", "s-1", "é 👩\u200d👧 \u202e"])
def test_other_names_are_kept(text: str) -> None:
    """Any other text may be a name."""
    check_storable("thread_id", text)
