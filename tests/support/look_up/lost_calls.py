"""Calls whose end nobody saw: the provider has answered and billed them, and the process has booked nothing."""

import pytest

from bursar.checkpoints.ledger import postings
from bursar.nodes.gateway.chat_model import MeteredChatModel
from tests.support.bench import NOW, SESSION, Bench

QUESTION = "how much did I spend?"


class _Died(BaseException):
    """What a killed process cannot handle."""


def lose(bench: Bench, model: MeteredChatModel, *, question: str = QUESTION, budget: str = "0.03") -> None:
    """Send a call whose answer the provider bills and stores, and whose end is not booked, as if the process died.

    Afterwards the call is unknown, and a scope of a repeated run gives the same request the same key.
    """

    def die(*_: object, **__: object) -> None:
        raise _Died

    with pytest.MonkeyPatch.context() as patch, bench.scope(budget).enter():
        for posting in ("settle", "void", "mark_unknown"):
            patch.setattr(postings, posting, die)
        with pytest.raises(_Died):
            model.invoke(question)
    assert bench.ledger.run(postings.recover, SESSION, at=NOW) == 1
