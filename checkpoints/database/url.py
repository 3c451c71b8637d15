"""`parse` a database URL: where the database is, and Bursar's own settings for it.

The settings are in the URL, because ledger, checkpointer and command line share one database by its URL.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from bursar.state.errors import ConfigurationError

MAX_POOL_SIZE = 1000
MAX_SECONDS = 3600
_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in a URL such as `postgresql://host/db?pool_size=20&statement_timeout=10`. Times are in seconds.

    `timeout` is SQLite's only setting. All others are PostgreSQL's only.
    """

    pool_size: int = 8  # connections of this process, opened when they are needed
    pool_timeout: float = 30  # for how long work waits for a free connection
    connect_timeout: int = 10  # within which a connection must be open
    statement_timeout: float = (
        30  # of one statement, waits for locks included; a pause between two statements may take ten times as long
    )
    prepared_statements: bool = True  # turned off by itself if a pooler such as PgBouncer is in between
    timeout: float = 10  # for how long SQLite waits for another process that writes


DEFAULTS = Settings()


def parse(url: str | URL) -> tuple[URL, Settings]:
    """Return the URL without Bursar's settings, as the database's driver takes it, and the settings.

    Raises `ConfigurationError`, of one line and without the password, if the URL or a setting cannot be used.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise ConfigurationError(
            f"not a database URL: {_mask(str(url))!r}; write sqlite:///file.db or postgresql+psycopg://user@host/database"
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise ConfigurationError(
            f"{parsed.drivername} is not supported; write sqlite:///file.db or postgresql+psycopg://user@host/database"
        )
    try:
        parsed.get_dialect().import_dbapi()
    except ImportError as error:
        raise ConfigurationError(f"{parsed.drivername} needs its driver ({error}); install bursar[postgres]") from None
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and not (parsed.database or ":memory:").startswith((":memory:", "file:")):
        parsed = parsed.set(database=os.path.abspath(parsed.database or ""))  # the same file after a change of folder
    return parsed.difference_update_query(list(_READERS)), _settings(parsed.query, sqlite=sqlite)


def _settings(query: Mapping[str, object], *, sqlite: bool) -> Settings:
    given = {name: query[name] for name in _READERS if name in query}
    for name in given:
        if (name == "timeout") is not sqlite:
            known = "timeout" if sqlite else ", ".join(other for other in _READERS if other != "timeout")
            raise ConfigurationError(
                f"{name} is no setting of {'SQLite' if sqlite else 'PostgreSQL'}, which has {known}"
            )
    return Settings(**{name: _READERS[name](name, value) for name, value in given.items()})  # pyright: ignore[reportArgumentType]


def _seconds(least: Decimal) -> Callable[[str, object], float]:
    def read(name: str, value: object) -> float:
        try:
            found = Decimal(str(value))
            if least <= found <= MAX_SECONDS:
                return round(found * 1000) / 1000
        except InvalidOperation:
            pass
        raise ConfigurationError(f"{name} must be from {least} to {MAX_SECONDS} seconds, not {value!r}")

    return read


def _whole(least: int, most: int, unit: str) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) and least <= int(value) <= most:
            return int(value)
        raise ConfigurationError(f"{name} must be a whole number of {unit} from {least} to {most}, not {value!r}")

    return read


def _switch(name: str, value: object) -> bool:
    found = _SWITCH.get(str(value).lower())
    if found is None:
        raise ConfigurationError(f"{name} must be on or off, not {value!r}")
    return found


_READERS: dict[str, Callable[[str, object], object]] = {
    "pool_size": _whole(1, MAX_POOL_SIZE, "connections"),
    "pool_timeout": _seconds(Decimal(0)),
    "connect_timeout": _whole(2, MAX_SECONDS, "seconds"),  # libpq takes 1 for 2
    "statement_timeout": _seconds(Decimal("0.001")),
    "prepared_statements": _switch,
    "timeout": _seconds(Decimal(0)),
}


def _mask(url: str) -> str:
    return re.sub(r"(//[^:@/]*):[^@]*@", r"\1:***@", url)
