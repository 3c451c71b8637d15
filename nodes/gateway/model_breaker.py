"""The gateway's breakers: which one guards a model, and what the end of a call says about it."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from sqlalchemy import Connection

from bursar.checkpoints.database.database import Work
from bursar.checkpoints.ledger import circuit_breakers as breakers
from bursar.checkpoints.ledger.circuit_breakers import Caller
from bursar.nodes.gateway.scope import Scope
from bursar.state.circuit_breaker import Breaker
from bursar.state.refusals import BreakerOpen

BreakerVote = Literal["well", "at fault", "nothing"]


@dataclass(frozen=True, slots=True)
class BreakerPass:
    """A call that was let through by the breaker of this name; "" has none. `watched`: it saw faults lately."""

    name: str
    caller: Caller
    watched: bool

    def also(self, scope: Scope, work: Work[None], says: BreakerVote) -> Work[None]:
        """The work that ends a call and, in the same transaction, what its end says. Nothing more where all is well."""
        if not self.name or not (self.watched or says == "at fault"):
            return work
        at, key = scope.clock(), scope.ledger.books.key

        def both(connection: Connection) -> None:
            work(connection)
            match says:
                case "well":
                    breakers.succeeded(connection, key, self.name, self.caller, at)
                case "at fault":
                    breakers.failed(connection, key, self.name, self.caller, at)
                case "nothing":
                    breakers.released(connection, key, self.name, self.caller, at)

        return both


def model_breaker(name: str, provider: str | None, base_url: str | None) -> str:
    """The name of a model's breaker: one for each model of each provider, and of each server that one may run."""
    parts = urlsplit(base_url or "")
    port = f":{parts.port}" if parts.port else ""
    server = f"@{parts.hostname}{port}" if parts.hostname else ""  # never what stands before the host: credentials
    return f"model:{provider or 'unknown'}/{name}{server}"


def breaker_open(name: str, breaker: Breaker) -> BreakerOpen:
    """The refusal of a call that the breaker does not let through."""
    what = name.replace(":", " ", 1)
    until = breaker.open_until
    when = "" if until is None else f" until {until:%H:%M:%S} UTC, then one call tries it"
    return BreakerOpen(f"{what} has failed for several sessions; no call is sent to it{when}", name)
