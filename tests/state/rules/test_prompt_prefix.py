"""Why a prompt does not begin as the one before: a clock, another order, or something else."""

import json
from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bursar.state.rules.prompt_prefix import QUOTE_CHARACTERS, Why, broken_prefix, differing

TEXTS = st.text(max_size=300)
WORDS = st.text(alphabet="abcdefgh ", min_size=1, max_size=60)
NAMES = st.text(alphabet="abcdefghijklmnop", min_size=1, max_size=8)
MOMENTS = st.datetimes(datetime.fromisoformat("2001-01-01"), datetime.fromisoformat("2099-01-01"))
FORMS = st.sampled_from(["%Y-%m-%d", "%H:%M", "%H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y", "%b %d, %Y", "%A"])


@given(TEXTS, TEXTS)
def test_nothing_is_broken_if_one_text_begins_with_the_other(text: str, more: str) -> None:
    """A text that goes on keeps the prefix, and so does a text that is cut."""
    assert broken_prefix(text, text + more) is None
    assert broken_prefix(text + more, text) is None


@given(TEXTS, TEXTS)
def test_the_first_difference_is_found(before: str, after: str) -> None:
    """Up to there the texts are equal, and there they are not; a quote has forty characters at most."""
    broken = broken_prefix(before, after)
    if broken is None:
        assert before.startswith(after) or after.startswith(before)
        return
    assert before[: broken.kept] == after[: broken.kept]
    assert before[broken.kept] != after[broken.kept]
    assert max(len(broken.before), len(broken.after)) <= QUOTE_CHARACTERS


@given(WORDS, WORDS, MOMENTS, FORMS, st.integers(1, 10**6))
def test_a_clock_is_named(head: str, tail: str, moment: datetime, form: str, later_minutes: int) -> None:
    """Whatever stands around it, two times or dates of one form are a clock."""
    texts = [f"{head} {at.strftime(form)} {tail}" for at in (moment, moment + timedelta(minutes=later_minutes))]
    assume(texts[0] != texts[1])
    broken = broken_prefix(*texts)
    assert broken is not None
    assert broken.why == "clock"


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_another_order_of_keys_is_named(values: dict[str, list[str]], random: Random) -> None:
    """The same object with its keys in another order is called that."""
    keys = [*values]
    random.shuffle(keys)
    texts = [json.dumps(values), json.dumps({key: values[key] for key in keys})]
    assume(texts[0] != texts[1])
    broken = broken_prefix(*texts)
    assert broken is not None
    assert broken.why == "order"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('[{"name": "f", "x": {"p": 1}}, {"name": "g"}]', '[{"name": "g"}, {"name": "f", "x": {"p": 1}}]', "order"),
        ("Tags: {'x', 'yy', 'z'} end", "Tags: {'z', 'x', 'yy'} end", "order"),
        ('{"a": 1, "b": 2}', '{"a": 2, "b": 1}', "other"),
        ("You help Alice.", "You help Bob.", "other"),
        ("Use 42 tools.", "Use 24 tools.", "other"),
        ("It is 9:59 am now", "It is 10:00 am now", "clock"),
        ("since 1700000000", "since 1700000060", "clock"),
    ],
)
def test_examples(before: str, after: str, why: Why) -> None:
    """Tools, sets and keys in another order; other values and names; a clock that gains a digit."""
    broken = broken_prefix(before, after)
    assert broken is not None
    assert broken.why == why


def test_a_secret_is_masked_in_the_quotes() -> None:
    """A key that stands at the break is not shown, and what stands around it is."""
    broken = broken_prefix("Ask the bank. api_key=abc123 now", "Ask the bank. api_key=xyz789 now")
    assert broken is not None
    assert "abc123" not in str(broken)
    assert "xyz789" not in str(broken)
    assert "the bank" in str(broken)


def test_the_first_part_that_differs_is_named() -> None:
    """Tools come before the system message; a part that only goes on differs too."""
    found = differing(("tools", "It is 12:03"), ("tools", "It is 12:04"))
    assert found is not None
    assert (found[0], found[1].why) == (1, "clock")
    longer = differing(("tools", "You help"), ("tools", "You help Bob"))
    assert longer is not None
    assert (longer[0], longer[1].kept) == (1, 8)
    assert differing(("a", "b"), ("a", "b")) is None
