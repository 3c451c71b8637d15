"""`DatabaseError`s for the faults of a database, with messages that say what to do."""

from typing import Final

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from bursar.checkpoints.database.url import Settings
from bursar.state.errors import DatabaseError

# By SQLite's primary result codes and PostgreSQL's SQLSTATEs, because the server's texts come in its own language.
_SQLITE: Final = {
    5: "locked by another process for over {timeout:g} s; end that process or try again",
    6: "locked by another connection of this process; try again",
    8: "read-only; make the file and its folder writable",
    10: "the disk failed ({text}); check it, and that it is not full; nothing was written",
    11: "not an SQLite database, or damaged",
    13: "the disk is full; free some space, nothing was written",
    14: "cannot be opened; check that the folder exists and is writable",
    26: "not an SQLite database, or damaged",
}
_POSTGRES: Final = {
    "25006": "read-only ({text}); connect to the primary server, or lift default_transaction_read_only",
    "40P01": "a deadlock with another transaction; nothing was written, try again",
    "42501": "not permitted ({text}); grant it to the user of the URL",
    "53100": "the server's disk is full ({text}); free some space there, nothing was written",
    "53200": "the server is out of memory ({text}); nothing was written, try again",
    "53300": "the server takes no more connections ({text}); lower pool_size in the URL or raise max_connections",
    "55P03": "locked by another transaction ({text}); end that one or try again",
    "57014": (
        "given up ({text}): a statement may take {statement_timeout:g} s, waits for locks included; nothing was "
        "written, try again, end who holds the lock, or raise statement_timeout in the URL"
    ),
}
_LOST: Final = ("08", "57P", "25P03")  # beginnings of the SQLSTATEs after which the connection is gone


def to_database_error(url: URL, settings: Settings, error: Exception, *, committing: bool = False) -> Exception:
    """If `error` is a fault of the database, return a `DatabaseError` of one line for it; otherwise return `error`.

    If `committing`, the commit was under way. If the connection was then lost, the message says that the work may have
    been kept.
    """
    if isinstance(error, DBAPIError):
        cause, lost = error.orig, error.connection_invalidated
    elif isinstance(error, url.get_dialect().import_dbapi().Error):
        cause, lost = error, False
    else:
        return error
    text = _first_line(str(cause))
    reason = _reason(cause, settings, text)
    if reason is None and (lost or _is_lost(cause, text)):
        reason = f"no connection ({text})" + ("; whether the work was kept is not known" if committing else "")
    if reason is None and isinstance(error, DBAPIError):
        return error
    explained = DatabaseError(f"{url.render_as_string(hide_password=True)}: {reason or text}")
    explained.__cause__ = error
    return explained


def deadline_error(url: URL, error: Exception, *, unheard: bool, committing: bool) -> DatabaseError:
    """Return the error for work that was given up because its time was over.

    `unheard` is whether the server did not answer at all. If `committing`, the commit was under way, and the message
    says that the work may have been kept.
    """
    if unheard:
        why = "the server does not answer; it may be frozen, or cut off"
    else:
        why = "no answer in time; another program may hold a lock that the work needs, end that one"
    kept = "whether the work was kept is not known" if committing else "nothing was written, try again"
    explained = DatabaseError(f"{url.render_as_string(hide_password=True)}: given up: {why}; {kept}")
    explained.__cause__ = error
    return explained


def _reason(cause: object, settings: Settings, text: str) -> str | None:
    """Return in words what to do about the fault `cause`, an error of the driver whose message is `text`.

    Returns None if the code of `cause` is not in the tables above: the statement was wrong, or the connection is lost.
    The caller then finds out which of the two it was.
    """
    code: object = getattr(cause, "sqlite_errorcode", None)
    known = _SQLITE.get(code & 0xFF) if isinstance(code, int) else _POSTGRES.get(str(getattr(cause, "sqlstate", None)))
    if known is None:
        return None
    return known.format(text=text, timeout=settings.timeout, statement_timeout=settings.statement_timeout)


def _is_lost(cause: object, text: str) -> bool:
    state: object = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_LOST)
    return "connection" in text.lower()


def _first_line(text: str) -> str:
    return (text.strip() or "no reason given").splitlines()[0]
