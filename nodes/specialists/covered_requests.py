"""The requests on other ledgers that the price of one run pays for."""

import threading

from bursar.state.errors import ConfigurationError
from bursar.state.money import USD, ZERO


class CoveredRequests:
    """The requests that supervisors on other ledgers open inside one run of `agent`, and the `price` of that run.

    The budgets of these requests together are at most the price.
    """

    def __init__(self, agent: str, price: USD) -> None:
        self._agent = agent
        self._price = price
        self._budgets: dict[str, USD] = {}
        self._lock = threading.Lock()  # race: the run may open requests in several threads

    def cover(self, request_id: str, budget: USD) -> None:
        """Count the request, once, with its budget.

        Raises `ConfigurationError`, and does not count it, if the price has no room for it.
        """
        with self._lock:
            others = sum((given for name, given in self._budgets.items() if name != request_id), ZERO)
            if others + budget > self._price:
                beside = f" beside the {others} of its other requests" if others else ""
                raise ConfigurationError(
                    f"{self._agent} runs a supervisor on another ledger, whose budget of {budget} a request{beside} is "
                    f"above the price {self._price} of the run; lower its budget, or raise the price"
                )
            self._budgets[request_id] = budget

    def budget_of(self, request_id: str) -> int:
        """Return the most, in nano-dollars, that the price covers of the request; 0 if it does not cover it."""
        with self._lock:
            return self._budgets.get(request_id, ZERO).nanos
