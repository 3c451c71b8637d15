"""What a look-up has found, as the ledger books it: the bill of the call, and its answer as bytes."""

from dataclasses import dataclass

from langchain_core.outputs import ChatResult

from bursar.nodes.gateway.paid_calls.journal import encode, least_tokens, mark_cut_short, mark_replacement
from bursar.nodes.gateway.providers.base import FoundCall
from bursar.state.rules.pricing import PricedModel, Usage, bill_answer

LISTED = "genai-prices "  # how the versions of listed prices begin; the version of the list follows


@dataclass(frozen=True, slots=True)
class FoundEnd:
    """The end of a call: its `cost` in nano-dollars, its usage, and its answer; None if it cannot be replayed.

    `saved` is what the provider's prompt cache saved, in nano-dollars.
    """

    cost: int
    usage: Usage
    response: bytes | None
    saved: int = 0


def found_end(
    found: FoundCall, price: PricedModel, *, hold: int, wanted: int | None, instead_of: str | None = None
) -> FoundEnd:
    """Return the end of a call that a provider has found, billed as if its answer had arrived.

    `hold` is what is held for the call, in nano-dollars. `wanted` is the output cap that the call would have had
    without a budget, in tokens; None if that is not known. `instead_of` is the model that this call's model replaced.
    """
    answer, seen = found.answer, 0
    if answer is not None:
        seen = least_tokens(answer)
        is_cut = _is_at_cap(answer) and (wanted is None or found.usage.output_tokens < wanted)
        for generation in answer.generations:
            mark_replacement(generation.message, instead_of)
            if is_cut:
                mark_cut_short(generation.message)
    owed = bill_answer(price, found.usage, hold=hold, input_tokens=found.usage.input_tokens, seen=seen)
    usage = owed.usage
    plain = Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )
    return FoundEnd(owed.charge(hold), plain, None if answer is None else encode(answer), owed.saved)


def is_same_price(here: str, then: str) -> bool:
    """Whether two versions of a price are of one model and tier. A newer list has the older prices, by their days."""
    if here.startswith(LISTED) and then.startswith(LISTED):
        return here.split()[2:] == then.split()[2:]
    return here == then


def _is_at_cap(answer: ChatResult) -> bool:
    return any((generation.generation_info or {}).get("finish_reason") == "length" for generation in answer.generations)
