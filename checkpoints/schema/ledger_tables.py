"""The tables of the ledger: sessions, requests, accounts, calls, actions, approvals, events, breakers and pauses.

Money is whole nano-dollars in a BIGINT. A time is UTC text of fixed width, so that it is exact and sorts alike on
SQLite and PostgreSQL.
"""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, LargeBinary, String, Table, Text

from bursar.checkpoints.schema.metadata import metadata, partial_index

OPEN_STATES = "state IN ('held', 'sent', 'unknown')"
OPEN_ACTIONS = "state IN ('intended', 'in_doubt', 'undoing')"
WAITING = "state = 'waiting'"

sessions = Table(
    "bursar_sessions",
    metadata,
    Column("session_id", String(200), primary_key=True),
    Column("tenant", String(200), nullable=False),
    Column("opened_at", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),  # of the last event
    Column("head", String(64), nullable=False),  # hash of the last event
    Column("incident", Text),  # what closed the session to paid calls; NULL: it is open
)

requests = Table(
    "bursar_requests",
    metadata,
    Column("request_id", String(200), primary_key=True),
    Column("session_id", String(200), nullable=False),
    Column("text_hash", String(64), nullable=False),
    Column("opened_at", String(32), nullable=False),
    Column("closed_at", String(32)),
    Column("outcome", Text),
    Column("parent", String(200)),  # the request whose run made this one
    Index("bursar_requests_session", "session_id"),
    Index("bursar_requests_parent", "parent"),
)

accounts = Table(
    "bursar_accounts",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("cap", BigInteger),  # NULL: no cap; top-ups included
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("granted", BigInteger, nullable=False, server_default="0"),  # the sum of its top-ups
    CheckConstraint("spent >= 0 AND held >= 0", name="bursar_accounts_not_negative"),
)

calls = Table(
    "bursar_calls",
    metadata,
    Column("call_id", String(200), primary_key=True),
    Column("session_id", String(200), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("agent", Text, nullable=False),
    Column("checkpoint_ns", Text, nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("occurrence", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("state", String(8), nullable=False),  # held, sent, settled, void, unknown
    Column("amount", BigInteger, nullable=False),  # the hold
    Column("cost", BigInteger),  # NULL until settled
    Column("scopes", Text, nullable=False),  # JSON array, outermost first
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cache_saved", BigInteger),  # nano-dollars; below zero: writes cost more than hits saved
    Column("whole", Boolean),  # one answer with its usage, not cut short by a budget; NULL until settled
    Column("held_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("reason", Text),
    Column("response", LargeBinary),
    CheckConstraint("amount >= 0 AND cost >= 0", name="bursar_calls_not_negative"),
    Index("bursar_calls_journal", "session_id", "request_hash", "occurrence"),
    Index("bursar_calls_request", "request_id", "agent"),
    Index("bursar_calls_open", "session_id"),  # only calls that are open
    # Only whole answers. SQLite reads the row if a column of the condition is not in the index, so `whole` is.
    Index("bursar_calls_answers", "agent", "model", "ended_at", "output_tokens", "whole"),
)

partial_index(calls, "bursar_calls_open", OPEN_STATES)
partial_index(calls, "bursar_calls_answers", "whole IS TRUE")

actions = Table(
    "bursar_actions",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("session_id", String(200), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("agent", Text, nullable=False),
    Column("checkpoint_ns", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("irreversible", Boolean, nullable=False),
    Column("arguments_hash", String(64), nullable=False),
    Column("state", String(8), nullable=False),  # intended, done, void, in_doubt, undoing, undone
    Column("attempt", Text, nullable=False),  # the try that may do the action: host, process, number
    Column("until", String(32), nullable=False),  # when an attempt of another host counts as dead
    Column("ordinal", BigInteger, nullable=False),  # sequence of the action's first event
    Column("intended_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("reason", Text),
    Column("arguments", LargeBinary),  # canonical JSON; NULL: erased
    Column("result", LargeBinary),  # JSON; NULL: there is none yet, or it was erased
    Index("bursar_actions_run", "session_id", "checkpoint_ns"),
    Index("bursar_actions_open", "session_id"),  # only actions that have not ended
)

partial_index(actions, "bursar_actions_open", OPEN_ACTIONS)

approvals = Table(
    "bursar_approvals",
    metadata,
    Column("approval_id", String(64), primary_key=True),
    Column("subject", String(64), nullable=False),  # the same for every attempt
    Column("attempt", Integer, nullable=False),
    Column("session_id", String(200), nullable=False),
    Column("request_id", String(200), nullable=False),
    Column("checkpoint_ns", Text, nullable=False),
    Column("specialist", Text, nullable=False),
    Column("action", Text),
    Column("subject_hash", String(64), nullable=False),
    Column("state", String(8), nullable=False),  # waiting, approved, used, denied, expired, refused
    Column("asked_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("answered_at", String(32)),
    Column("answered_by", Text),
    Column("reason", Text),
    Column("shown", Text),  # JSON of what a person is shown; NULL: erased
    Index("bursar_approvals_run", "session_id", "checkpoint_ns"),
    Index("bursar_approvals_waiting", "session_id"),  # only approvals that wait
)

partial_index(approvals, "bursar_approvals_waiting", WAITING)

events = Table(
    "bursar_events",
    metadata,
    Column("session_id", String(200), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("payload", Text, nullable=False),  # JSON, kept as it was hashed
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("run_of", Text),  # handler of the completed run that it ends, or rung that it judges; NULL: any other
    Column("run_cost", BigInteger),  # of that run or rung, in nano-dollars
    Index("bursar_events_run", "run_of", "at", "run_cost"),  # only what is learned from
)

partial_index(events, "bursar_events_run", "run_of IS NOT NULL")

breakers = Table(
    "bursar_breakers",
    metadata,
    Column("name", Text, primary_key=True),  # model:openai/gpt-4o-mini, agent:tax
    Column("until", String(32), nullable=False),  # from then on the row counts as absent: the breaker is closed
    Column("record", Text, nullable=False),  # JSON of `state.circuit_breaker.Breaker`
)

pauses = Table(
    "bursar_pauses",
    metadata,
    Column("scope", Text, primary_key=True),  # all, tenant:acme, agent:tax
    Column("at", String(32), nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
)
