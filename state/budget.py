"""`Budget`: the most that may be spent per request, per session, per tenant and day, and in total."""

from dataclasses import dataclass

from bursar.state.errors import AmountError, ConfigurationError
from bursar.state.money import USD, ZERO, Amount


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """Caps in US dollars on what is charged: per request, per session, per tenant and day, and in total.

    None means no such cap; only `per_request` is never None. `total` caps the charges of one whole ledger, counted from
    the first request that is opened with a `total`; earlier charges do not count. If a cap is changed, the new cap
    applies from the next request on; a request keeps the budget that it was opened with.

    Raises `ConfigurationError` if a cap is no amount or is negative, or if another cap is below `per_request`.
    """

    per_request: USD
    per_session: USD | None
    per_tenant_day: USD | None
    total: USD | None

    def __init__(
        self,
        per_request: Amount,
        per_session: Amount | None = None,
        per_tenant_day: Amount | None = None,
        *,
        total: Amount | None = None,
    ) -> None:
        request = _cap("per_request", per_request)
        if request is None:
            raise ConfigurationError("per_request must be an amount; a request without a budget is not served")
        object.__setattr__(self, "per_request", request)
        for name, amount in (("per_session", per_session), ("per_tenant_day", per_tenant_day), ("total", total)):
            cap = _cap(name, amount)
            if cap is not None and cap < request:
                raise ConfigurationError(
                    f"{name} {cap} is below per_request {request}; no request could use its budget"
                )
            object.__setattr__(self, name, cap)


def _cap(name: str, amount: Amount | None) -> USD | None:
    if amount is None:
        return None
    try:
        cap = USD(amount)
    except AmountError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if cap < ZERO:
        raise ConfigurationError(f"{name} {cap} is negative")
    return cap
