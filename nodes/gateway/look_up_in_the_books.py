"""All unknown calls of a ledger are looked up at their providers, and what is found is booked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from bursar.checkpoints.ledger import postings
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.ledger.reconciliation.unknown_calls import LostCall
from bursar.nodes.gateway.chat_model import MeteredChatModel, MeteringTerms
from bursar.nodes.gateway.look_up.asking import BY, LOOK_UP_SECONDS, ask
from bursar.nodes.gateway.look_up.found_ends import FoundEnd, found_end, is_same_price
from bursar.nodes.gateway.prices import price_of
from bursar.nodes.gateway.providers.base import LookUp, finder_of
from bursar.nodes.gateway.providers.generic import asked_tier
from bursar.state.errors import LedgerError, UnknownPrice
from bursar.state.money import USD
from bursar.state.rules.pricing import PricedModel


@dataclass(frozen=True, slots=True)
class LookedUpCall:
    """What became of an unknown call: its `cost`, None if it is still unknown, and `why` that is.

    `kept` says that its answer was found too, so that a resumed run does not pay for it again.
    """

    call_id: str
    session_id: str
    model: str
    hold: USD
    cost: USD | None = None
    kept: bool = False
    why: str = ""


def look_up_in_books(
    ledger: Ledger, lost: Sequence[LostCall], models: Sequence[MeteredChatModel]
) -> Iterator[LookedUpCall]:
    """Ask for each lost call by the metered model that has its name, book what is found, and yield what became of it.

    A call that nobody finds stays charged at its hold. Each call takes at most `LOOK_UP_SECONDS` for each model that
    has its name.
    """
    terms = [each for model in models for each in (model.terms, *model.terms.cheaper)]
    for one in lost:
        yield _looked_up(ledger, one, [each for each in terms if each.client.name == one.model])


def _looked_up(ledger: Ledger, lost: LostCall, terms: Sequence[MeteringTerms]) -> LookedUpCall:
    plain = LookedUpCall(lost.call_id, lost.session_id, lost.model, USD.from_nanos(lost.amount))
    end, why = _found(lost, terms)
    if end is None:
        return _still_unknown(plain, why)
    try:
        ledger.run(
            postings.reconcile,
            lost.call_id,
            cost=end.cost,
            usage=end.usage,
            saved=end.saved,
            response=end.response,
            at=ledger.clock(),
            by=BY,
        )
    except LedgerError as error:  # race: a resumed run, or a person, has reconciled it since
        return _still_unknown(plain, str(error))
    cost = USD.from_nanos(end.cost)
    return LookedUpCall(plain.call_id, plain.session_id, plain.model, plain.hold, cost, end.response is not None)


def _still_unknown(plain: LookedUpCall, why: str) -> LookedUpCall:
    return LookedUpCall(plain.call_id, plain.session_id, plain.model, plain.hold, why=why)


def _found(lost: LostCall, terms: Sequence[MeteringTerms]) -> tuple[FoundEnd | None, str]:
    """Return the end of the call; if nobody found it, None and the reason."""
    if not terms:
        return None, f"no metered model is called {lost.model}"
    why = "its provider does not find it"
    for each in terms:
        finder = finder_of(each.provider)
        if finder is None:
            continue
        found = ask(finder, LookUp(lost.call_id, lost.model, each.client, lost.held_at, LOOK_UP_SECONDS))
        if found is None:
            continue
        price = _price(each, lost.held_at.date())
        if price is not None and is_same_price(price.version, lost.price_version):
            return found_end(found, price, hold=lost.amount, wanted=None), ""
        why = f"it was found, and was held at another price ({lost.price_version}) than the model has here"
    return None, why


def _price(terms: MeteringTerms, on: date) -> PricedModel | None:
    client = terms.client
    try:
        return price_of(
            client.name,
            client.seller,
            terms.price,
            base_url=client.base_url,
            service_tier=asked_tier(client, {}),
            on=on,
        )
    except UnknownPrice:
        return None
