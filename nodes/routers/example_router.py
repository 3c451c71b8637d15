"""A free, offline router: a linear model over the specialists' example questions and descriptions."""

import asyncio
import importlib.util
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

from bursar.nodes.routers.base import Candidate, Question, Scores, check_threshold, none_fit
from bursar.nodes.routers.follow_ups import asks_anew, leans, points_back, shares_subject, stay, subject_words
from bursar.state.errors import ConfigurationError
from bursar.state.text import excerpt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXT_LIMIT_CHARACTERS = 2_000
CLAUSES_LIMIT = 16
FITTED_LIMIT = 16
CLAUSE_WEIGHT = 0.9
"""A clause alone lacks its context, so that its scores count a little less than those of the whole question."""

_CLAUSE_ENDS = re.compile(r"[.;:!?\n]+(?=\s|$)|,\s|\s(?:and|also|then|plus|but)\s", re.IGNORECASE)
_TOPIC_ENDS = re.compile(r"[.,;:]|\band\b")


def has_scikit_learn() -> bool:
    """Whether the library that `ExampleRouter` needs is installed. The library is not imported."""
    return importlib.util.find_spec("sklearn") is not None


class ExampleRouter:
    """A router that chooses every candidate whose probability reaches `threshold`, and none if no probability does.

    A multinomial logistic regression over word and character n-grams (TF-IDF) learns the candidates' examples and
    descriptions against a background of everyday requests that no specialist serves. The background is English;
    `out_of_scope` adds the user's own requests to it, in any language that separates its words. A question that asks
    several things is also scored clause by clause. The same candidates get the same scores in whatever order they are
    given. One model is fitted for each set of candidates; at most 16 models are kept.

    A `Question` that leans on the turn before, such as "and in April?", goes to the specialists that answered last,
    unless its own words fit another one better (see `follow_ups`).

    Of a text at most 2,000 characters are read: the first and the last thousand. Raises `ConfigurationError` if
    scikit-learn is missing or the threshold is not in 0..1.
    """

    free = True

    def __init__(self, threshold: float = 0.3, *, out_of_scope: Sequence[str] = ()) -> None:
        check_threshold(threshold)
        if not has_scikit_learn():
            raise ConfigurationError("ExampleRouter needs scikit-learn: install bursar[router] or pass router=")
        self._threshold = threshold
        self._background = (*_everyday_requests(), *out_of_scope)
        self._fitted: dict[tuple[Candidate, ...], _Fitted] = {}
        self._fitting = threading.Lock()

    def fit(self, candidates: Sequence[Candidate]) -> None:
        """Fit the model for these candidates now, so that their first request does not wait for it."""
        self._model_for(tuple(candidates))

    def ready(self, candidates: Sequence[Candidate]) -> bool:
        """Whether the model for these candidates is fitted, so that `route` is brief and waits for nothing.

        The result is False for a subclass with its own `route`, which may hang.
        """
        return type(self).route is ExampleRouter.route and tuple(candidates) in self._fitted

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        if not candidates or not question.strip():
            return none_fit(candidates, confidence=1.0, rule="examples: nothing to route")
        key = tuple(candidates)
        model = self._fitted.get(key) or await asyncio.to_thread(self._model_for, key)
        scores = self._scores(model, excerpt(question, TEXT_LIMIT_CHARACTERS), candidates)
        if isinstance(question, Question) and self._goes_on(model, question, scores):
            return stay(scores, question)
        return scores

    def _scores(self, model: "_Fitted", text: str, candidates: Sequence[Candidate]) -> Scores:
        """Return the scores of the text by itself, whatever was said before."""
        best, known = model.probabilities(text)
        if not known:
            return none_fit(candidates, confidence=0.0, rule="examples: no word or part of a word is known")
        for clause in _clauses(text):
            part, _ = model.probabilities(clause)
            best = [max(a, CLAUSE_WEIGHT * b) for a, b in zip(best, part, strict=True)]
        found = dict(zip(model.names, best, strict=True))
        by_name = {c.name: found[c.name] for c in candidates}
        fit = [name for name, score in by_name.items() if score >= self._threshold]
        return Scores(
            by_name,
            tuple(sorted(fit, key=lambda name: (-by_name[name], name))),
            known * min(self._margin(score) for score in best),
            f"examples: {len(fit)} of {len(by_name)} above {self._threshold:.2f}",
            done=True,
        )

    def _goes_on(self, model: "_Fitted", question: Question, scores: Scores) -> bool:
        """Whether the question goes to the specialists that answered last, not to those that fit it by itself."""
        before = [name for name in question.previous if name in scores.by_name]
        if not before:
            return False
        if not leans(question):
            return not scores.chosen and shares_subject(question)
        subject = subject_words(question)
        if not subject:
            return True
        shares, known = model.subject_probabilities(" ".join(subject))
        by_subject = dict(zip(model.names, shares, strict=True))
        stays = max(by_subject[name] for name in before)
        leaves = max((by_subject[name] for name in scores.chosen if name not in before), default=0.0)
        if leaves > stays:
            return False
        if points_back(question) or shares_subject(question) or stays >= self._threshold:
            return True
        return not asks_anew(question) and (not known or sum(shares) > self._threshold)

    def _margin(self, score: float) -> float:
        """Return how far the score is from the threshold, as a share of the largest possible distance (0..1)."""
        room = 1.0 - self._threshold if score >= self._threshold else self._threshold
        return min(abs(score - self._threshold) / room, 1.0) if room else 0.0

    def _model_for(self, key: tuple[Candidate, ...]) -> "_Fitted":
        with self._fitting:  # race: two requests ask for one model at once; the second finds it fitted
            model = self._fitted.get(key)
            if model is None:
                # Sorted, so that the order of the candidates does not change the arithmetic.
                model = _fit(sorted(key, key=lambda c: (c.name, c.description, c.examples)), self._background)
                if len(self._fitted) >= FITTED_LIMIT:
                    del self._fitted[next(iter(self._fitted))]
                self._fitted[key] = model
            return model


@dataclass(frozen=True, slots=True)
class _Block:
    """The part of a fitted model for one kind of n-gram, word or character: `cut` cuts a text into such n-grams.

    `columns` has the number of each learned n-gram. At this number `idf` has the n-gram's inverse document frequency,
    and `weights` one weight for each class.
    """

    cut: Callable[[str], list[str]]
    columns: dict[str, int]
    idf: "NDArray[np.float64]"
    weights: "NDArray[np.float64]"

    def logits(self, text: str) -> "tuple[NDArray[np.float64] | float, float]":
        """Return what this block adds to each class's logit for the text, and the share of the n-grams that it knows.

        If the model learned none of the text's n-grams, both are 0.0.
        """
        import numpy as np

        grams = self.cut(text)
        counts = Counter(column for gram in grams if (column := self.columns.get(gram)) is not None)
        if not counts:
            return 0.0, 0.0
        at = np.fromiter(counts, dtype=np.intp, count=len(counts))
        tf = 1.0 + np.log(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))
        values = tf * self.idf[at]
        return (values / math.sqrt(values @ values)) @ self.weights[at], counts.total() / len(grams)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A fitted model as plain arrays: scikit-learn's own prediction, with its checks, would take ten times as long."""

    names: tuple[str, ...]
    words: _Block
    characters: _Block
    intercept: "NDArray[np.float64]"

    def probabilities(self, text: str) -> tuple[list[float], float]:
        """Return each candidate's probability, and the share of the text's character n-grams that the model learned.

        1 minus the sum of these probabilities is the probability that none of the candidates fits.
        """
        by_words, _ = self.words.logits(text)
        by_characters, known = self.characters.logits(text)
        return self._shares(by_words + by_characters), known

    def subject_probabilities(self, text: str) -> tuple[list[float], float]:
        """Return each candidate's probability, and the share of the text's words that the model learned."""
        by_words, known = self.words.logits(text)
        by_characters, _ = self.characters.logits(text)
        return self._shares(by_words + by_characters), known

    def _shares(self, added: "NDArray[np.float64] | float") -> list[float]:
        import numpy as np

        logits = self.intercept + added
        odds = np.exp(logits - logits.max())
        shares: list[float] = (odds / odds.sum()).tolist()
        return shares[: len(self.names)]


def _fit(candidates: Sequence[Candidate], background: Sequence[str]) -> _Fitted:
    import numpy as np
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    names = tuple(dict.fromkeys(c.name for c in candidates))
    rows = [(text, names.index(c.name)) for c in candidates for text in _lessons(c)]
    rows += [(text, len(names)) for text in background]
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    # Cast, because scikit-learn and scipy carry no types.
    cut = re.compile(r"\w+").findall
    vectoriser = cast(Any, TfidfVectorizer)
    words = vectoriser(ngram_range=(1, 2), sublinear_tf=True, tokenizer=cut, token_pattern=None)
    characters = vectoriser(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    table = cast(Any, sparse).hstack([words.fit_transform(texts), characters.fit_transform(texts)], format="csr")
    model = cast(Any, LogisticRegression(C=50.0, class_weight="balanced", max_iter=1_000, random_state=0))
    with threadpool_limits(1):  # the table is small: more threads take five times as long
        model.fit(table, labels)
    weights = np.asarray(model.coef_, dtype=np.float64).T
    intercept = np.asarray(model.intercept_, dtype=np.float64)
    if len(names) == 1:  # scikit-learn gives two classes one column: the odds of the second over the first
        weights, intercept = np.hstack([np.zeros_like(weights), weights]), np.array([0.0, intercept[0]])
    split = len(words.vocabulary_)
    return _Fitted(
        names,
        _block(words, weights[:split]),
        _block(characters, weights[split:]),
        intercept,
    )


def _block(vectoriser: Any, weights: "NDArray[np.float64]") -> _Block:
    import numpy as np

    columns = {str(gram): int(column) for gram, column in vectoriser.vocabulary_.items()}
    return _Block(vectoriser.build_analyzer(), columns, np.asarray(vectoriser.idf_), np.ascontiguousarray(weights))


def _lessons(candidate: Candidate) -> Iterator[str]:
    """Yield the texts from which the model learns a candidate: its examples, its description, and the topics in that.

    A topic is a part of the description between punctuation marks or "and". If all these texts are blank, yield the
    candidate's name.
    """
    topics = [topic for topic in _TOPIC_ENDS.split(candidate.description) if len(topic.strip()) > 2]
    lessons = [text for text in (*candidate.examples, candidate.description, *topics) if text.strip()]
    yield from lessons or [candidate.name.replace("_", " ")]


def _clauses(text: str) -> list[str]:
    """Return the clauses of a text that has several, `CLAUSES_LIMIT` at most; an empty list if it has only one."""
    parts = [part for piece in _CLAUSE_ENDS.split(text) if (part := piece.strip())]
    return parts[:CLAUSES_LIMIT] if len(parts) > 1 else []


@cache
def _everyday_requests() -> tuple[str, ...]:
    lines = resources.files("bursar.nodes.routers").joinpath("out_of_scope.txt").read_text("utf-8").splitlines()
    return tuple(line for line in lines if line)
