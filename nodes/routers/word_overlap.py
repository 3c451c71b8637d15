"""A router that counts the words that a request shares with each candidate. It needs no model and no library."""

import re
from collections import Counter
from collections.abc import Sequence

from bursar.nodes.routers.base import Candidate, Question, Scores, none_fit
from bursar.nodes.routers.follow_ups import leans, stay
from bursar.state.text import excerpt

TEXT_LIMIT_CHARACTERS = 2_000
LEAST_LETTERS = 3
STEM_LETTERS = 5
SHARE_OF_BEST = 0.5

_WORD = re.compile(r"[^\W_]+")


class WordOverlapRouter:
    """A router that chooses the candidates that share words with the request, and none if no candidate does.

    A candidate is chosen if its score is at least half the best score. A word that fewer candidates have counts more.
    Two words count as the same if their first five letters are the same. The confidence is always 0, so that a
    `CascadeRouter` asks the model. A question that shares no word with any candidate, and leans on the turn before,
    goes to the specialists that answered last.
    """

    free = True

    def ready(self, candidates: Sequence[Candidate]) -> bool:
        """Return True, because `route` returns at once; for a subclass with its own `route`, return False."""
        return type(self).route is WordOverlapRouter.route

    async def route(self, question: str, candidates: Sequence[Candidate], /) -> Scores:
        """Return a score for each candidate, by the words that it shares with the question (see `by_words`)."""
        scores = by_words(question, candidates)
        if isinstance(question, Question) and not scores.chosen and leans(question):
            return stay(scores, question)
        return scores


def by_words(text: str, candidates: Sequence[Candidate]) -> Scores:
    """Return a score (0..1) for each candidate: the share of the text's words that the candidate has too.

    Only words that some candidate has are counted. A word that fewer candidates have counts more.
    """
    known = {c.name: _stems(" ".join((c.name, c.description, *c.examples))) for c in candidates}
    owners = Counter(stem for stems in known.values() for stem in stems)
    asked = _stems(excerpt(text, TEXT_LIMIT_CHARACTERS)) & owners.keys()
    if not asked:
        return none_fit(candidates, confidence=0.0, rule="words: none is known")
    whole = sum(1 / owners[stem] for stem in asked)
    scores = {name: sum(1 / owners[stem] for stem in asked & stems) / whole for name, stems in known.items()}
    best = max(scores.values())
    fit = [name for name, score in scores.items() if score >= SHARE_OF_BEST * best]
    chosen = sorted(fit, key=lambda name: (-scores[name], name))
    return Scores(
        scores, tuple(chosen), 0.0, f"words: {len(chosen)} of {len(scores)} share the request's words", done=True
    )


def _stems(text: str) -> frozenset[str]:
    words = _WORD.findall(text.casefold())
    return frozenset(word[:STEM_LETTERS] for word in words if len(word) >= LEAST_LETTERS)
