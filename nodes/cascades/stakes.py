"""What is at risk in a decision, for which kind of task, and what the next rung is expected to gain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeAlias, cast

from bursar.checkpoints.ledger.gains import RungRecord
from bursar.nodes.cascades.failures import reason_of
from bursar.nodes.isolation.captured import capture_call
from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD, ZERO, Amount
from bursar.state.rules.value import shrunk
from bursar.state.run import Task
from bursar.state.text import clean

MAX_SEGMENT_CHARACTERS = 64

Share: TypeAlias = float | str | Decimal
Stake: TypeAlias = Amount | Callable[[Task], Amount]
Gain: TypeAlias = Share | Mapping[str, Share] | Callable[[str, str], Share]


def share_of(value: object, what: str) -> Decimal:
    """Return the number as an exact share from 0 to 1. Otherwise raises `ConfigurationError`, naming `what`."""
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        raise ConfigurationError(f"{what} is a number from 0 to 1, not {value!r}") from None
    if isinstance(value, bool) or not exact.is_finite() or not 0 <= exact <= 1:
        raise ConfigurationError(f"{what} is from 0 to 1, not {value!r}")
    return exact


def stake_of(stake: Stake, task: Task) -> tuple[USD, str]:
    """Return the stake of the task, and what is wrong with it, "" if nothing is.

    A stake that is no amount, is negative, or whose function raises counts as nothing, and the words say so.
    """
    asked = capture_call(stake, task) if callable(stake) else None
    if asked is not None and asked.error is not None:
        _raise_exit(asked.error)
        return ZERO, f"its stake counts as $0.00: {reason_of(asked.error)}"
    given = stake if asked is None else asked.value
    try:
        amount = USD(given)  # pyright: ignore[reportArgumentType] - a user's function may return anything
    except AmountError as error:
        return ZERO, f"its stake counts as $0.00: {error}"
    if amount < ZERO:
        return ZERO, f"its stake counts as $0.00: {amount} is negative"
    return amount, ""


def check_stake(stake: Stake, of: str) -> None:
    """Raise `ConfigurationError`, naming `of`, unless the stake is a function, or an amount of at least nothing."""
    if callable(stake):
        return
    try:
        amount = USD(stake)
    except AmountError as error:
        raise ConfigurationError(f"{of}: stake: {error}") from None
    if amount < ZERO:
        raise ConfigurationError(f"{of}: its stake {amount} is negative")


def segment_of(segment: Callable[[Task], str] | None, task: Task) -> tuple[str, str]:
    """Return the segment of the task, and what is wrong with it: a segment that raises or is no short text is ""."""
    if segment is None:
        return "", ""
    found = capture_call(segment, task)
    if found.error is not None:
        _raise_exit(found.error)
        return "", f"its segment is none: {reason_of(found.error)}"
    if not isinstance(found.value, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a user's function may return anything
        return "", f"its segment is none: it is a text, not {type(found.value).__name__}"
    name = clean(found.value)
    if len(name) > MAX_SEGMENT_CHARACTERS:
        return "", f"its segment is none: it has more than {MAX_SEGMENT_CHARACTERS} characters"
    return name, ""


@dataclass(frozen=True, slots=True)
class Gains:
    """What rungs are expected to gain: as `given`, otherwise learned from their records, shrunk to the `prior`."""

    given: Gain | None
    prior: Decimal

    def of(self, segment: str, rung: str, record: RungRecord) -> tuple[Decimal, str]:
        """Return the gain of a rung in a segment, and what is wrong with the given one, "" if nothing is."""
        learned = shrunk(record.accepted, record.asked, self.prior)
        given, why = self._given(segment, rung)
        if given is None:
            return learned, why
        try:
            return share_of(given, "a gain"), ""
        except ConfigurationError as error:
            return learned, f"the gain of {rung} is learned: {error}"

    def _given(self, segment: str, rung: str) -> tuple[object, str]:
        given: object = self.given
        if isinstance(given, Mapping):
            return cast("Mapping[str, object]", given).get(segment), ""
        if not callable(given):
            return given, ""
        found = capture_call(given, segment, rung)
        if found.error is None:
            return found.value, ""
        _raise_exit(found.error)
        return None, f"the gain of {rung} is learned: {reason_of(found.error)}"


def _raise_exit(error: BaseException) -> None:
    if not isinstance(error, Exception):
        raise error
