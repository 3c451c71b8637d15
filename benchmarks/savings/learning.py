"""What is learned from recorded questions: when a cheap answer is taken, and when the dear model is worth its price.

All is learned by cross-validation: the questions are divided into folds by a hash of their text, and what is played on
a fold was learned on the others. Within those, what is counted for one fold and judged on it is kept apart again, or
the counts would flatter themselves.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby
from typing import TypeVar

from benchmarks.savings.answer_check import grade
from benchmarks.savings.prices import Prices
from benchmarks.savings.records import Question
from bursar import USD

A = TypeVar("A")

FOLDS = 5
PSEUDO_COUNTS = 20  # a share of few counts is drawn to the share of all, as a Beta prior does it
MOST_LOSS = Fraction(1, 100)  # of the questions may be lost: one point
LEAST_GAIN = Fraction(1, 10**6)  # below it the dear model is worth nothing
MOST_STAKE = Fraction(10**12)  # nano-dollars


@cache
def fold_of(text: str) -> int:
    """Return the fold of a question: the same on every machine, and for each text that is the same."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % FOLDS


def shrunk(successes: int, trials: int, prior: Fraction) -> Fraction:
    """Return the share of successes, drawn to the prior: `(successes + k · prior) / (trials + k)`."""
    return (successes + PSEUDO_COUNTS * prior) / (trials + PSEUDO_COUNTS)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How likely a cheap answer is right by the words of its check, each word for itself (naive Bayes).

    `prior` is the share of right answers. `shares` has the shrunk share for each word at its place.
    """

    prior: Fraction
    shares: Mapping[tuple[int, str], Fraction]

    @classmethod
    def of(cls, questions: Iterable[Question]) -> "Confidence":
        """Count the questions' cheap answers."""
        seen, right, total, good = Counter[tuple[int, str]](), Counter[tuple[int, str]](), 0, 0
        for question in questions:
            total, good = total + 1, good + question.cheap_right
            for word in enumerate(grade(question.text, question.cheap_answer)):
                seen[word] += 1
                right[word] += question.cheap_right
        prior = shrunk(good, total, Fraction(1, 2))
        return cls(prior, {word: shrunk(right[word], seen[word], prior) for word in seen})

    def __call__(self, question: str, answer: str) -> Fraction:
        """Return the confidence in the answer, from 0 to 1."""
        base = odds = self.prior / (1 - self.prior)
        for word in enumerate(grade(question, answer)):
            share = self.shares.get(word, self.prior)
            odds *= share / (1 - share) / base
        return odds / (1 + odds)


@dataclass(frozen=True, slots=True)
class Gains:
    """How much more often the dear model is right than the cheap one: in all, and shrunk for each segment."""

    prior: Fraction
    by_segment: Mapping[str, Fraction]

    @classmethod
    def of(cls, questions: Iterable[Question]) -> "Gains":
        """Count the questions of each segment."""
        seen, gained = Counter[str](), Counter[str]()
        for question in questions:
            seen[question.segment] += 1
            gained[question.segment] += question.dear_right - question.cheap_right
        prior = Fraction(gained.total(), max(1, seen.total()))
        return cls(prior, {name: shrunk(gained[name], seen[name], prior) for name in seen})

    def __call__(self, segment: str) -> Fraction:
        """Return the gain of a segment; that of all for a segment that was not seen."""
        return self.by_segment.get(segment, self.prior)


@dataclass(frozen=True, slots=True)
class Policy:
    """What was learned: how sure a cheap answer must be, and what a right answer is worth, in nano-dollars."""

    confidence: Confidence
    accept_at: Fraction
    gains: Gains
    stake: int

    def accepts(self, question: str, answer: str) -> bool:
        """Whether the cheap answer is taken."""
        return self.confidence(question, answer) >= self.accept_at

    def is_worth(self, segment: str, stake: int, difference: int) -> bool:
        """Whether the dear model's gain times the stake is above the difference of the prices, both in nano-dollars."""
        return self.gains(segment) * stake > difference

    @property
    def stake_dollars(self) -> USD:
        """The stake as an amount."""
        return USD.from_nanos(self.stake)


def learn(questions: Sequence[Question], prices: Prices) -> Policy:
    """Return what these questions teach. At most one point of them is lost by it, as far as they can tell."""
    worked = [question for question in questions if question.cheap_answer]
    plain = [question for question in questions if not question.cheap_answer]
    return Policy(Confidence.of(worked), _accept_at(worked), Gains.of(plain), _stake(plain, prices))


def learn_apart(questions: Sequence[Question], prices: Prices) -> list[Policy]:
    """Return a policy for each fold, learned on the other folds."""
    return [learn([one for one in questions if fold_of(one.text) != fold], prices) for fold in range(FOLDS)]


def _accept_at(questions: Sequence[Question]) -> Fraction:
    """Return the lowest confidence at which a cheap answer is taken."""
    judged = [
        (-confidence(question.text, question.cheap_answer), question)
        for confidence, question in _with(Confidence.of, questions)
    ]
    return -_farthest(judged, otherwise=Fraction(-2))


def _stake(questions: Sequence[Question], prices: Prices) -> int:
    """Return the lowest stake, in nano-dollars, with which the dear model is asked seldom enough."""
    judged = [
        (-prices.difference(question) / max(gains(question.segment), LEAST_GAIN), question)
        for gains, question in _with(Gains.of, questions)
    ]
    return int(-_farthest(judged, otherwise=-MOST_STAKE))


def _farthest(judged: Iterable[tuple[Fraction, Question]], *, otherwise: Fraction) -> Fraction:
    """Return the farthest mark up to which the cheap model may answer without losing more than is bearable.

    The questions up to a mark are answered by the cheap model, the others by the dear one.
    """
    ordered = sorted(judged, key=lambda one: one[0])
    most, lost, farthest = MOST_LOSS * len(ordered), 0, otherwise
    for mark, alike in groupby(ordered, key=lambda one: one[0]):
        lost += sum(question.dear_right - question.cheap_right for _, question in alike)
        farthest = mark if lost <= most else farthest
    return farthest


def _with(count: Callable[[Iterable[Question]], A], questions: Sequence[Question]) -> Iterator[tuple[A, Question]]:
    """Yield each question with what the questions of the other folds teach."""
    for fold in range(FOLDS):
        counted = count(question for question in questions if fold_of(question.text) != fold)
        for question in questions:
            if fold_of(question.text) == fold:
                yield counted, question
