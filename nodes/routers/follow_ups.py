"""Follow-ups: whether a question leans on the turn before, by its words alone.

English only: a question in another language leans on nothing here, and is routed by its own words.
"""

import re
from collections.abc import Iterable
from itertools import dropwhile

from bursar.nodes.routers.base import Question, Scores

LIMIT_CHARACTERS = 200  # of a question that can lean: a longer one says itself what it is about
TURNS_READ = 4  # of the conversation: the last two questions and their answers
TURN_CHARACTERS = 4_000
STEM_LETTERS = 5
FOLLOW_UP_SCORE = 0.6  # the confidence too: a cascade then asks no model

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COURTESIES = _words("thanks thank you ok okay great good nice fine perfect cool sorry hm hmm well please ah oh")
# A question that begins with one of these goes on with what was said.
_OPENERS = _words(
    "and or but so also plus then yes yeah really sure still now actually wait otherwise if why how's what's any"
)
# A piece of a sentence that begins with one of these needs what was said to make sense.
_PIECES = _words(
    "no nope not only just instead same again except without with for in on at until till since per by as than"
    " from before after compared versus vs besides alternatively something anything someone maybe perhaps"
)
# Words that stand for something said before.
_POINTERS = _words(
    "it it's that that's this those these them they they're one ones same both either neither other others"
    " another above earlier previous former latter else instead too he she him not only meant"
)
# Words that may stand for something said before, or for nothing.
_HINTS = _words("its their there his her such so more less further all none first second third rest each")
# A question in which one of these follows the opener is a whole question, with a subject of its own.
_ASKING = _words("how what who when where which is are was were can could do does did will would should give find")
# Words that say nothing about a subject.
_FILLERS = _words(
    "a an the of in on at for to from by with about into over under than as until till since per is isn't are"
    " aren't was wasn't were be been being am do does did don't doesn't didn't has have had can can't could"
    " couldn't will would should may might must shall i i'm i've me my mine myself we us our you your yourself"
    " please pls tell show give say says said make let let's lets get got go know mean meant want need think see"
    " look try put take what what's how how's when where who which why whose and or but so also if not no yes ok"
    " okay oh hm hmm well right thanks thank thx cheers great good nice fine cool perfect sorry wait actually"
    " really sure just only even very still already yet now much many some any anything something nothing few lot"
    " bit little kind sort way thing things part answer question happen happened happens come else instead again"
    " too exactly possible maybe perhaps someone somebody anybody anyone nobody everyone everybody everything"
    " enough often comes coming start end begin use used using work works working done keep help mind matter add"
    " remove include included there without except besides versus vs compared both either"
)
# Words that narrow, move or reshape what was asked: they have no subject of their own.
_SHAPES = _words(
    "january february march april may june july august september october november december jan feb mar apr jun"
    " jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday day days daily week"
    " weeks weekly weekend month months monthly quarter quarters quarterly year years yearly annual today"
    " yesterday tomorrow tonight morning afternoon evening noon last next previous current past recent recently"
    " ago before after earlier later latest soon sooner early late time times once twice first second third half"
    " double whole total totals average sum number numbers percent percentage amount figure figures euro euros"
    " dollar dollars usd eur pounds english german french spanish short shorter long longer brief briefly detail"
    " details detailed simple simpler simply plain clearer clear summary summarise summarize explain elaborate"
    " break down list table chart bullet points rewrite rephrase repeat translate compare comparison difference"
    " differ different differently changed change big bigger biggest large larger largest small smaller smallest"
    " high higher highest low lower lowest most least top bottom best better worst worse cheap cheaper cheapest"
    " expensive new newer newest old older oldest one two three four five six seven eight nine ten eleven twelve"
    " hundred thousand hour hours minute minutes fast faster fastest slow slower slowest more less fewer sorted"
    " order group split per each every round rounded exact approximately roughly example examples reason reasons"
    " correct wrong true source sources sure certain"
)


def stay(scores: Scores, question: Question) -> Scores:
    """Return the scores that choose the specialists that answered last, whatever the question says by itself."""
    before = tuple(name for name in question.previous if name in scores.by_name)
    best = max(scores.by_name.values(), default=0.0)
    by_name = {**scores.by_name, **dict.fromkeys(before, max(best, FOLLOW_UP_SCORE))}
    return Scores(by_name, before, FOLLOW_UP_SCORE, f"{scores.rule}; it goes on with the turn before")


def _opened(text: str) -> list[str]:
    """Return the words of the text after thanks and the like."""
    return [*dropwhile(_COURTESIES.__contains__, _tokens(text))]


def _tokens(text: str) -> list[str]:
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def points_back(question: Question) -> bool:
    """Whether the question is a piece of a sentence, or has a word that stands for something said before."""
    tokens = _opened(question)
    after = tokens[1:] if tokens[:1] in (["and"], ["but"], ["or"]) else tokens
    is_piece = after[:1] != [] and after[0] in _PIECES
    return is_piece or tokens[:2] == ["what", "if"] or not _POINTERS.isdisjoint(tokens)


def asks_anew(question: Question) -> bool:
    """Whether the question is whole after its opener, such as "and how deep is the sea": its words name its subject."""
    tokens = _opened(question)
    return len(tokens) > 1 and tokens[0] in _OPENERS and tokens[1] in _ASKING


def subject_words(text: str) -> list[str]:
    """Return the words of the text that may name a subject: no filler, no pointer, no word of time or form."""
    return [
        word
        for word in _tokens(text)
        if not any(word in words for words in (_FILLERS, _POINTERS, _HINTS, _SHAPES)) and not word[0].isdigit()
    ]


def leans(question: Question) -> bool:
    """Whether the question, by its own words, may go on with the turn before.

    It does if it is short and names no subject, begins in the middle of a thought, or has a word that stands for
    something said before.
    """
    if not question.previous or len(question) > LIMIT_CHARACTERS:
        return False
    tokens = _opened(question)
    if not tokens:
        return False  # thanks and the like ask for nothing
    if not subject_words(question):
        return True
    opens = tokens[0] in _OPENERS or tokens[:2] in (["what", "about"], ["how", "about"])
    return opens or points_back(question) or not _HINTS.isdisjoint(tokens)


def shares_subject(question: Question) -> bool:
    """Whether a subject word of the question stands in the last turns."""
    said = _stems(word for turn in question.history[-TURNS_READ:] for word in _tokens(turn.text[:TURN_CHARACTERS]))
    return not said.isdisjoint(_stems(subject_words(question)))


def _stems(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:STEM_LETTERS] for word in words)
