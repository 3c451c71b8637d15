"""What is learned, and that nothing is judged by what it taught."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.savings.learning import FOLDS, MOST_LOSS, Confidence, Gains, fold_of, learn, learn_apart, shrunk
from benchmarks.savings.prices import Prices
from benchmarks.savings.records import Question
from benchmarks.savings.sample import sample

PRICES = Prices.listed()
QUESTIONS = sample().questions
shares = st.fractions(0, 1)


@given(trials=st.integers(0, 500), data=st.data(), prior=shares)
def test_a_shrunk_share_lies_between_the_prior_and_what_was_counted(
    trials: int, data: st.DataObject, prior: Fraction
) -> None:
    """It is the prior before anything was counted."""
    successes = data.draw(st.integers(0, trials))
    counted = Fraction(successes, trials) if trials else prior
    assert min(prior, counted) <= shrunk(successes, trials, prior) <= max(prior, counted)


@given(text=st.text(max_size=50))
def test_a_text_has_one_fold(text: str) -> None:
    """The same at each call, and one of five."""
    assert fold_of(text) == fold_of(text)
    assert fold_of(text) in range(FOLDS)


@pytest.mark.parametrize("fold", range(FOLDS))
def test_what_is_played_on_a_fold_does_not_depend_on_it(fold: int) -> None:
    """Other answers, right or wrong, in a fold leave the policy of that fold as it was, and change another one."""
    changed = [turned(one) if fold_of(one.text) == fold else one for one in QUESTIONS]
    before, after = learn_apart(QUESTIONS, PRICES), learn_apart(changed, PRICES)
    assert after[fold] == before[fold]
    assert after != before


def turned(question: Question) -> Question:
    """The question with each model right where it was wrong."""
    return replace(question, cheap_right=not question.cheap_right, dear_right=not question.dear_right)


def test_a_segment_that_gains_nothing_gets_the_cheap_model_and_one_that_gains_the_dear_one() -> None:
    """If the cheap model is as good in one of two subjects, that subject alone is answered cheaply."""
    plain = [a_question(subject, number, gains=subject == "physics") for subject in SUBJECTS for number in range(200)]
    policy = learn(plain, PRICES)
    difference = PRICES.difference(plain[0])
    assert policy.is_worth("physics", policy.stake, difference)
    assert not policy.is_worth("history", policy.stake, difference)


SUBJECTS = ("history", "physics")


def a_question(subject: str, number: int, *, gains: bool) -> Question:
    """A question without a recorded answer, which the cheap model knows unless the dear one gains."""
    return Question("mmlu", subject, f"Question {number:03} of {subject[:7]}", not gains, True, "", 1, 1)


def test_the_dear_model_must_gain_more_where_it_costs_more() -> None:
    """The same gain is worth a short question's price, and not that of a very long one."""
    policy = learn(QUESTIONS, PRICES)
    worth = [difference for difference in (1, 10**15) if policy.is_worth("physics", policy.stake, difference)]
    assert worth == [1]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_learning_never_takes_more_than_a_point_from_what_it_saw_apart(answers: list[tuple[bool, bool]]) -> None:
    """If nothing tells good cheap answers from bad ones, they are all taken only if that loses a point at most."""
    alike = [replace(one, cheap_right=a, dear_right=b) for one, (a, b) in zip(WORKED, answers, strict=False)]
    policy = learn(alike, PRICES)
    lost = sum(one.dear_right - one.cheap_right for one in alike)
    if policy.accept_at == 0:
        assert lost <= MOST_LOSS * len(alike)


WORKED = [one for one in QUESTIONS if one.cheap_answer]


def test_confidence_tells_sound_answers_from_cut_ones() -> None:
    """In the sample a cut answer is always wrong."""
    confidence, sound = Confidence.of(WORKED), next(one for one in WORKED if one.cheap_right)
    assert confidence(sound.text, sound.cheap_answer) > confidence(sound.text, sound.cheap_answer[:20])


def test_a_segment_that_nobody_saw_has_the_gain_of_all() -> None:
    """The prior is what there is to go by."""
    gains = Gains.of(one for one in QUESTIONS if not one.cheap_answer)
    assert gains("astrology") == gains.prior
