"""The part of `verify` that checks that the rows of actions and approvals agree with their events."""

import hashlib
from collections.abc import Iterator

from sqlalchemy import select

from bursar.checkpoints.ledger.projection import ROWS_AT_ONCE, ActionProjection, SessionProjection
from bursar.checkpoints.schema.ledger_tables import actions, approvals

_FACTS = {
    "request": actions.c.request_id,
    "agent": actions.c.agent,
    "name": actions.c.name,
    "arguments hash": actions.c.arguments_hash,
    "irreversibility": actions.c.irreversible,
    "state": actions.c.state,
}


def check_actions(log: SessionProjection) -> Iterator[str]:
    """Yield a sentence for each action whose row disagrees with its events.

    Call this only after `log.rows` was read to its end: the log's `actions` are complete only then.
    """
    waiting = dict(log.actions)
    query = select(actions.c.key, actions.c.arguments, actions.c.result).add_columns(*_FACTS.values())
    rows = log.connection.execute(
        query.where(actions.c.session_id == log.session_id).execution_options(yield_per=ROWS_AT_ONCE)
    )
    for key, arguments, result, *facts in map(tuple[object, ...], rows):
        told = waiting.pop(str(key), None)
        if told is None:
            yield f"action {key}: it is in the books, and no event tells of it"
            continue
        said = (told.request_id, told.agent, told.name, told.arguments_hash, told.irreversible, told.state)
        for name, fact, one in zip(_FACTS, facts, said, strict=True):
            if fact != one:
                yield f"action {key}: its {name} is {fact!r}, its events say {one!r}"
        yield from _check_content(str(key), told, arguments, result)
    for key in waiting:
        yield f"action {key}: its events tell of it, and it is not in the books"


def _check_content(key: str, told: ActionProjection, arguments: object, result: object) -> Iterator[str]:
    if told.erased:
        if arguments is not None or result is not None:
            yield f"action {key}: what is kept of it was erased, and something is there"
        return
    if _hash(arguments) != told.arguments_hash:
        yield f"action {key}: its arguments are not those that it was intended with"
    if _hash(result) != told.result_hash:
        yield f"action {key}: its result is not the one that it had"


def _hash(content: object) -> str | None:
    if content is None:
        return None
    return hashlib.sha256(content if isinstance(content, bytes) else repr(content).encode()).hexdigest()


def check_approvals(log: SessionProjection) -> Iterator[str]:
    """Yield a sentence for each approval whose row disagrees with its events.

    Call this only after `log.rows` was read to its end: the log's `approvals` are complete only then.
    """
    waiting = dict(log.approvals)
    columns = (approvals.c.approval_id, approvals.c.state, approvals.c.subject_hash)
    query = select(*columns).where(approvals.c.session_id == log.session_id)
    for name, state, subject_hash in map(tuple[object, ...], log.connection.execute(query)):
        verdict, told_hash = waiting.pop(str(name), ("", ""))
        said = "waiting" if verdict == "asked" else verdict
        if not said:
            yield f"approval {name}: it is in the books, and no event tells of it"
        elif (state, subject_hash) != (said, told_hash):
            yield f"approval {name}: it is {state!r} for {subject_hash!r}, its events say {said!r} for {told_hash!r}"
    for name in waiting:
        yield f"approval {name}: its events tell of it, and it is not in the books"
