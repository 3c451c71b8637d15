"""The events of paid calls in the audit log, and `LoggedEvent`, which every event of the log is.

If a kind gains a field, it gets a new version. Payloads of earlier versions stay readable, and `canonical` gives them
back as they were. A field is never renamed or removed.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bursar.state.money import USD, ZERO
from bursar.state.text import clean


def _clean_text(value: object) -> object:
    return clean(value) if isinstance(value, str) else value


Reason = Annotated[str, BeforeValidator(_clean_text)]


class LoggedEvent(BaseModel):
    """One entry of the audit log: facts and hashes, never content."""

    model_config = ConfigDict(frozen=True, defer_build=True)  # made on first use: importing is not using

    since: ClassVar[Mapping[str, int]] = {}  # fields that version 1 did not have, each with its first version

    version: int = Field(default=1, ge=1, le=1)

    def canonical(self) -> str:
        """Return the event's JSON text. A stored payload with any other text was forged, even if it means the same."""
        later = {name for name, version in self.since.items() if version > self.version}
        return self.model_dump_json(exclude=later)


class CallHeld(LoggedEvent):
    """A paid call may be sent: `amount`, its worst case, is reserved in every account of `scopes`."""

    kind: Literal["call_held"] = "call_held"
    call_id: str
    request_id: str
    agent: str
    model: str
    amount: USD
    scopes: tuple[str, ...]


class CallHoldRaised(LoggedEvent):
    """The hold of a stream in flight was raised to `amount` in all in every account, before more text was passed on."""

    kind: Literal["call_hold_raised"] = "call_hold_raised"
    call_id: str
    amount: USD


class CallSettled(LoggedEvent):
    """A call was charged its actual cost in place of its hold. `response_hash` is the SHA-256 of the kept answer.

    `cache_saved` is what the provider's prompt cache saved: negative if its writes cost more than its hits saved. The
    answer is `whole` if it is one answer with its usage, and no budget cut it short.
    """

    since: ClassVar[Mapping[str, int]] = {"cache_saved": 2, "whole": 2}

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["call_settled"] = "call_settled"
    call_id: str
    cost: USD
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    response_hash: str | None = None
    cache_saved: USD = ZERO
    whole: bool = False


class CallVoided(LoggedEvent):
    """A call's whole hold was freed, because the provider bills nothing for the call."""

    kind: Literal["call_voided"] = "call_voided"
    call_id: str
    reason: Reason


class CallUnknown(LoggedEvent):
    """A call became unknown: nobody saw its end. It stays charged at its hold, `amount`, until it is reconciled."""

    kind: Literal["call_unknown"] = "call_unknown"
    call_id: str
    amount: USD
    reason: Reason


class CallRefused(LoggedEvent):
    """A paid call was not sent, because the account `scope` had no room for `amount`, its worst case."""

    kind: Literal["call_refused"] = "call_refused"
    request_id: str
    agent: str
    model: str
    amount: USD
    scope: str
    reason: Reason


class Reconciled(LoggedEvent):
    """A call whose end nobody saw was charged its actual cost in place of its hold.

    `by` is who found out: a person's name, or `look-up` if the provider was asked. The tokens and `response_hash`, the
    SHA-256 of the kept answer, are those that were found; None if nobody found them.
    """

    since: ClassVar[Mapping[str, int]] = {
        **dict.fromkeys(("by", "response_hash", "input_tokens", "output_tokens"), 2),
        **dict.fromkeys(("cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cache_saved"), 2),
    }

    version: int = Field(default=2, ge=1, le=2)
    kind: Literal["reconciled"] = "reconciled"
    call_id: str
    cost: USD
    by: Reason = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_saved: USD | None = None
    response_hash: str | None = None
