"""How a caller stands: what is left of its accounts, what of it is paused, which of its breakers saw faults lately.

One statement reads it all, because every paid call asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, text

from bursar.checkpoints.books.audit_chain import stamp
from bursar.checkpoints.breakers import read
from bursar.checkpoints.prepared import Prepared
from bursar.state.breaker import Breaker
from bursar.state.errors import Paused


@dataclass(frozen=True, slots=True)
class Standing:
    """`left` is in nano-dollars, None where no account has a cap. A breaker that is not there is closed.

    `paused` holds why, by what is paused.
    """

    left: int | None
    paused: Mapping[str, str] = field(default_factory=dict[str, str])
    breakers: Mapping[str, Breaker] = field(default_factory=dict[str, Breaker])

    def refusal(self, scopes: Sequence[str]) -> Paused | None:
        """The refusal to be raised where one of the scopes is paused, the first of them."""
        return next((paused(scope, self.paused[scope]) for scope in scopes if scope in self.paused), None)


def paused(scope: str, note: str) -> Paused:
    """The refusal for a scope that is paused."""
    what = "everything" if scope == "all" else scope.replace(":", " ", 1)
    why = f" ({note})" if note else ""
    return Paused(
        f"{what} is paused{why}; nothing was spent; `bursar unpause {scope.replace(':', ' ', 1)}` ends it", scope
    )


def standing(
    connection: Connection, accounts: Sequence[str], *, pauses: Sequence[str], breakers: Sequence[str], at: datetime
) -> Standing:
    """Read it, for these accounts, pauses and breakers."""
    values: dict[str, str] = {f"account_{place}": name for place, name in enumerate(accounts)}
    values |= {f"pause_{place}": name for place, name in enumerate(pauses)}
    values |= {f"breaker_{place}": name for place, name in enumerate(breakers)}
    if breakers:
        values["now"] = stamp(at)
    left: int | None = None
    stopped: dict[str, str] = {}
    faulty: dict[str, Breaker] = {}
    for kind, name, room, what in _standing(len(accounts), len(pauses), len(breakers))(connection, **values):
        if kind == "room":
            left = None if room is None else int(room)
        elif kind == "pause":
            stopped[name] = what
        else:
            faulty[name] = read(what)
    return Standing(left, stopped, faulty)


@cache
def _standing(accounts: int, pauses: int, breakers: int) -> Prepared:
    # As one text: the parts differ in nothing but how many names they have. The casts are for PostgreSQL.
    parts = [
        "SELECT 'room' AS kind, CAST(NULL AS TEXT) AS name, min(cap - spent - held) AS room, "  # noqa: S608 - our own words
        f"CAST(NULL AS TEXT) AS what FROM bursar_accounts WHERE scope IN ({_names('account', accounts)})",
        "SELECT 'pause', scope, CAST(NULL AS BIGINT), note "  # noqa: S608
        f"FROM bursar_pauses WHERE scope IN ({_names('pause', pauses)})",
    ]
    if breakers:
        parts.append(
            "SELECT 'breaker', name, CAST(NULL AS BIGINT), record "  # noqa: S608
            f"FROM bursar_breakers WHERE until > :now AND name IN ({_names('breaker', breakers)})"
        )
    return Prepared(text(" UNION ALL ".join(parts)))


def _names(kind: str, count: int) -> str:
    return ", ".join(f":{kind}_{place}" for place in range(count)) or "NULL"
