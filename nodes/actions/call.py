"""One call of an action in a run: its key, its intent, and its arguments and result as the ledger keeps them."""

import inspect
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any, Concatenate, ParamSpec, TypeVar

from langgraph.config import get_config
from pydantic_core import PydanticSerializationError, to_json

from bursar.checkpoints.ledger.actions import ActionIntent, ActionRecord
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.actions.attempts import new_attempt
from bursar.nodes.actions.registry import Action
from bursar.nodes.gateway.paid_calls.admission import seconds_left
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, do
from bursar.nodes.gateway.paid_calls.scope import Scope, current_scope
from bursar.nodes.isolation.captured import Captured
from bursar.nodes.observers.base import CallContext, CallEnd, CallState
from bursar.nodes.specialists.approval_policy import ActionContext
from bursar.state.action import ActionCall
from bursar.state.langgraph_private import CHECKPOINTER
from bursar.state.refusals import ActionRefused, LeaseLost, Refused

R = TypeVar("R")
P = ParamSpec("P")

KEY = "idempotency_key"  # a parameter of this name gets the action's key, and is no argument of the action
MAX_ARGUMENT_BYTES = 100_000
MAX_RESULT_BYTES = 1_000_000
GRACE_SECONDS = 60.0
NO_DEADLINE_SECONDS = 3600.0


class ActionCallState:
    """One call of an action in a run: its arguments, its attempt, and the key under which the ledger has the action.

    `takes_key` says whether the action's function has a parameter `idempotency_key`, which then gets the key.
    """

    def __init__(self, declared: Action, scope: Scope, bound: inspect.BoundArguments, *, takes_key: bool) -> None:
        assert scope.acting is not None
        self.declared = declared
        self.scope = scope
        self.bound = bound
        self.takes_key = takes_key
        self.acting: ActionContext = scope.acting
        self.acting.acted[declared.name] = declared
        self.arguments = _canonical(declared.name, bound.arguments)
        self.counted = sha256(json.dumps([_place(scope), declared.name]).encode() + self.arguments).hexdigest()
        self.occurrence = scope.next_occurrence(self.counted)
        self.key = self._key()
        self.attempt = new_attempt(scope.new_id)
        self.is_done_here = False  # by this attempt; otherwise the ledger may have its result

    def described(self) -> CallContext:
        """Return what observers are told of the action."""
        scope = self.scope
        return CallContext(
            call_id=self.key, kind="action", agent=scope.agent, model=self.declared.name, began=scope.clock()
        )

    def end_of(self, ended: Captured[Any]) -> CallEnd:
        """Return how the action ended, as observers are told."""
        state: CallState = "settled" if self.is_done_here else "replayed"
        if ended.error is not None:
            state = "refused" if isinstance(ended.error, Refused) else "unknown" if self.is_done_here else "refused"
        return CallEnd(state=state, at=self.scope.clock(), answer=ended.value, error=ended.error)

    def _key(self) -> str:
        if self.declared.key is None:
            parts = [self.scope.session_id, self.counted, self.occurrence]
        else:
            given = self.declared.key(*self.bound.args, **self.bound.kwargs)
            parts = ["given", self.scope.session_id, self.declared.name, str(given)]
        return sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def intent(self) -> ActionIntent:
        left = seconds_left(self.scope)
        seconds = (NO_DEADLINE_SECONDS if left is None else max(left, 0.0)) + GRACE_SECONDS
        return ActionIntent(
            key=self.key,
            session_id=self.scope.session_id,
            request_id=self.scope.request_id,
            agent=self.scope.agent,
            checkpoint_ns=self.scope.checkpoint_ns,
            name=self.declared.name,
            arguments=self.arguments,
            irreversible=self.declared.irreversible,
            attempt=self.attempt,
            until=self.scope.clock() + timedelta(seconds=seconds),
        )

    @property
    def call(self) -> ActionCall:
        return ActionCall(self.key, self.declared.name, json.loads(self.arguments))

    def transact(
        self, posting: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Flow[R]:
        ledger = self.scope.ledger
        return do(Commit(ledger.database, ledger.bind(posting, *args, **kwargs), outlast=True))

    def refuse(self, error: ActionRefused | LeaseLost) -> Refused:
        """Keep the refusal in the run, and return it for the caller to raise.

        The run then cannot complete, even if its handler swallows the exception.
        """
        return self.scope.latch(error)

    def invoke(self) -> Any:
        extra = {KEY: self.key} if self.takes_key else {}
        return self.declared.function(*self.bound.args, **self.bound.kwargs, **extra)


def called(deed: ActionRecord) -> ActionCall:
    """Return the call that an action record of the ledger describes, with its result if there is one."""
    arguments: dict[str, Any] = {} if deed.arguments is None else json.loads(deed.arguments)
    result = None if deed.result is None else json.loads(deed.result)
    return ActionCall(deed.key, deed.name, arguments, result)


def scope_of(declared: Action) -> Scope:
    """Return the scope of the run in which the action is called.

    Raises `ActionRefused` outside any run, and in a run that may do no action.
    """
    scope = current_scope()
    if scope is None:
        raise ActionRefused(f"{declared.short} is an action and was called outside any run; call it in a handler")
    if scope.acting is None:
        error = ActionRefused(f"{declared.short} was not done: {scope.agent} may not act")
        scope.latch(error)
        raise error
    return scope


def _place(scope: Scope) -> str:
    """Return the place in the graph at which this action is called, as part of the call's key.

    A crash, a retry and an interrupt repeat the call at the same place. If a handler runs a graph that keeps its own
    checkpoints, the place is the node of that graph in which the action is called.

    The key also has the number of equal calls before this call. A graph that keeps checkpoints does not repeat its
    earlier nodes when it is resumed, so a count over all nodes would then be too low. For this reason each place has
    its own count.
    """
    try:
        inner: Mapping[str, Any] = get_config().get("configurable", {})
    except RuntimeError:
        return scope.checkpoint_ns
    place = str(inner.get("checkpoint_ns", ""))
    nested = place.startswith(scope.checkpoint_ns) and bool(scope.checkpoint_ns) and inner.get(CHECKPOINTER)
    return place if nested else scope.checkpoint_ns


def _canonical(name: str, arguments: Mapping[str, Any]) -> bytes:
    try:
        written = json.dumps(json.loads(to_json(dict(arguments))), sort_keys=True, separators=(",", ":")).encode()
    except (PydanticSerializationError, UnicodeEncodeError, ValueError) as error:
        raise TypeError(f"the arguments of {name} must be plain values, for the books keep them: {error}") from None
    if len(written) > MAX_ARGUMENT_BYTES:
        raise ValueError(f"the arguments of {name} take {len(written)} bytes; {MAX_ARGUMENT_BYTES} is the limit")
    return written


def encode_result(result: object) -> bytes:
    """Return the result as JSON. If it has no JSON form or is too long, return `null`, so that a replay gives None."""
    try:
        written = to_json(result, fallback=repr, inf_nan_mode="constants")
        json.loads(written)
    except (PydanticSerializationError, UnicodeEncodeError, ValueError):
        return b"null"
    return written if len(written) <= MAX_RESULT_BYTES else b"null"
