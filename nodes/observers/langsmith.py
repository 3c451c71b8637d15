"""LangSmith: tells its trace what the ledger knows, so that the trace's costs are the ledger's."""

# The fields of LangSmith's `RunTree` have no types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackManager, Callbacks
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.context import tracing_v2_callback_var
from langgraph.errors import GraphBubbleUp
from langsmith.run_helpers import get_current_run_tree
from langsmith.run_trees import RunTree
from langsmith.utils import tracing_is_enabled  # pyright: ignore[reportUnknownVariableType]

from bursar.checkpoints.ledger.anchors import Head
from bursar.checkpoints.ledger.spend import ChargedCall
from bursar.nodes.gates.base import Verdict
from bursar.nodes.observers import langsmith_feedback
from bursar.nodes.observers.base import CallContext, CallEnd, RequestContext, RequestEnd, RunContext, anchor_attributes
from bursar.nodes.observers.langsmith_feedback import Feedback
from bursar.nodes.observers.langsmith_leftovers import Leftovers
from bursar.nodes.observers.langsmith_tracer import (
    GovernedTracer,
    Mask,
    TracedRequest,
    add_metadata,
    dollars,
    hide_keys_in_logs,
    masked,
)
from bursar.nodes.observers.summaries import shortened
from bursar.state.decision import Decision
from bursar.state.langgraph_private import AMBIENT_CONFIG, tracer_defaults
from bursar.state.money import ZERO
from bursar.state.refusals import Refused
from bursar.state.run import Outcome, Run
from bursar.state.session import Request

DECIDERS = {"route": "route", "admit": "guardian", "answer": "composer", "cascade": "cascade", "choose": "choose"}
ITS_OWN = ("bursar.", "ls_", "usage_metadata")  # metadata of a run that the runs below it do not have
Told = Mapping[str, object]


class LangSmithObserver:
    """An observer that tells LangSmith's trace who ran, why, how it ended, and what the ledger charged for it.

    It is built in; give one in `observers` to set it up. Each text that is sent, of prompts and answers too, passes
    through `mask`. With `feedback`, confidence, gaps and verdicts of gates are sent as feedback. The head of the
    session's log in the trace is an anchor: by it a log that was cut or rewritten is found.
    """

    def __init__(self, mask: Mask | None = None, *, feedback: bool = True) -> None:
        self._mask = mask
        self._feedback = feedback

    def for_request(self, request: RequestContext) -> "_LangSmithRequest | None":
        """Return the observer of one request; None if LangSmith does not trace the request."""
        found = _tracer_in(request.callbacks)
        if found is None and not _is_on():
            return None
        hide_keys_in_logs()
        traced = TracedRequest(self._mask)
        if isinstance(found, GovernedTracer):  # a request inside another
            traced = found.traced.inside(self._mask)
        return _LangSmithRequest(request, traced, feedback=self._feedback)


class _LangSmithRequest:
    """The observer of one request."""

    def __init__(self, context: RequestContext, traced: TracedRequest, *, feedback: bool) -> None:
        self._context = context
        self._traced = traced
        self._tracer: GovernedTracer | None = None
        self._has_feedback = feedback
        # Race: handlers pay from several threads at once; each step on a dict or a set is one step.
        self._agents: dict[RunContext, RunTree] = {}
        self._begun: dict[str, RunTree] = {}
        self._unended: set[UUID] = set()
        self._scores: dict[str, float] = {}

    def request_started(self, request: RequestContext) -> None:
        """Hide the callbacks around from LangGraph, which would add them to those that `callbacks` returns."""
        around = AMBIENT_CONFIG.get()
        if around is not None and around.get("callbacks"):
            AMBIENT_CONFIG.set({**around, "callbacks": None})

    def callbacks(self, given: Callbacks) -> Callbacks:
        """Return the callbacks with this request's tracer in the place of LangChain's, or beside them."""
        plain = (
            _tracer_in(given)
            or tracing_v2_callback_var.get()
            or LangChainTracer(**cast("dict[str, Any]", tracer_defaults()))
        )
        self._tracer = GovernedTracer.in_place_of(plain, self._traced)
        return _with(given, self._tracer)

    def trace(self) -> Mapping[str, str]:
        """Return the ids of the request's run, and of its trace."""
        root = self._traced.root
        return {} if root is None else {"langsmith": str(root.id), "langsmith_trace": str(root.trace_id)}

    def request_opened(self, request: Request, resumed: bool) -> None:
        """Tell the request's run which request it is."""
        if (root := self._traced.root) is None:
            return
        told: dict[str, object] = {"bursar.request_id": request.id, "bursar.tenant": request.tenant}
        told |= {"bursar.budget_usd": dollars(request.budget)}
        if resumed:
            told |= {"bursar.resumed": True, "bursar.resumes": request.trace.get("langsmith", "")}
        add_metadata(root, told)
        if resumed and self._context.recovers and self._context.ledger is not None:
            Leftovers(root, request, self._context.ledger, self._traced.paid, partial(_recovered, root)).clear()

    def decided(self, decision: Decision) -> None:
        """Add a run for the decision, below the node that decided."""
        self._scores |= {one.name: one.score for one in decision.candidates if decision.kind == "route"}
        if (node := self._current()) is None:
            return
        told: dict[str, object] = {"bursar.chosen": list(decision.chosen), "bursar.left_usd": dollars(decision.left)}
        add_metadata(node, told | ({"bursar.rule": decision.rule} if decision.kind == "route" else {}))
        if decision.kind in DECIDERS:
            told |= {"bursar.rule": decision.rule, "bursar.by": decision.by}
            said = {"chosen": list(decision.chosen), "note": decision.note, "candidates": decision.candidates}
            self._post(_child(node, DECIDERS[decision.kind], "chain", told), said)

    def reviewed(self, gate: str, verdict: Verdict) -> None:
        """Add a run for the verdict, below the node whose plan or answer the gate has reviewed."""
        if (node := self._current()) is None:
            return
        told: dict[str, object] = {
            "bursar.policy_rules": list(verdict.rules),
            "bursar.policy_hash": verdict.policy_hash,
        }
        run = _child(node, gate, "chain", told)
        self._post(run, {"action": verdict.action, "reason": verdict.reason, "denied": dict(verdict.denied)})
        self._say(run, "bursar.gate", value=verdict.action)

    def run_started(self, run: RunContext) -> None:
        """Tell the agent's run who it is."""
        if (tree := self._current()) is not None:
            self._agents[run] = tree
            told = {"agent": run.specialist, "handler": run.handler, "level": run.level, "step": run.step}
            told |= {"granted_usd": dollars(run.granted), "request_id": run.request_id}
            told |= {"score": score} if (score := self._scores.get(run.specialist)) is not None else {}
            add_metadata(tree, {"ls_agent_type": "subagent", **{f"bursar.{name}": one for name, one in told.items()}})

    def run_stopped(self, run: RunContext, error: BaseException) -> None:
        """Send the end of calls that nobody has seen the end of."""
        self._close_unended()

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Tell the agent's run how it ended, and the head of the log. A run that failed has an error."""
        self._close_unended()
        if (tree := self._current()) is None:
            return
        why, reason, report = run.limit or run.fault, self._traced.error(run.reason), run.report
        told: dict[str, object] = {"outcome": run.outcome.value, "turns": run.turns, "cost_usd": dollars(run.cost)}
        told |= {"unsure": run.unsure}
        told |= {"why": why.value} if why else {}
        told |= {"reason": reason} if reason else {}
        told |= {"confidence": report.confidence} if report is not None else {}
        add_metadata(tree, {**{f"bursar.{name}": one for name, one in told.items()}, **anchor_attributes(head)})
        if run.outcome is Outcome.FAILED:
            kind = "" if error is None else f" ({type(error).__name__})"
            tree.error = self._traced.error(f"{run.reason}{kind}")
        if report is not None:
            self._say(tree, "bursar.confidence", score=report.confidence)

    def call_started(self, run: RunContext, call: CallContext) -> None:
        """Start the run of a call that is no call of a model by LangChain."""
        self._traced.paid.add(call.call_id)
        if self._langchains(call) is None and (above := self._above(run)) is not None:
            self._begun[call.call_id] = _child(above, call.model, _type_of(call), {})

    def call_ended(self, run: RunContext, call: CallContext, end: CallEnd) -> None:
        """Write the cost on the call's run, how it ended, and from where its answer came."""
        traced = self._langchains(call)
        if isinstance(end.error, GraphBubbleUp) and not isinstance(end.error, Refused):
            return  # an action that waits for a person
        if traced is not None:
            self._traced.calls.setdefault(traced.id, {})[call.call_id] = call, end
            told: dict[str, object] = {"bursar.request_id": run.request_id}
            if run.specialist == "supervisor":
                told |= {"ls_message_view_exclude": True}
            add_metadata(traced, told)
            if end.state == "unknown":
                self._unended.add(traced.id)
            return
        begun = self._begun.get(call.call_id)
        if begun is None:
            above = self._above(run)
            begun = None if above is None else _child(above, call.model, _type_of(call), {})
        if begun is not None:
            self._end(begun, run, call, end)

    def _end(self, tree: RunTree, run: RunContext, call: CallContext, end: CallEnd) -> None:
        """Post the run of a call that LangChain has no run for; if it was posted, and ends again, send it again."""
        name = "bursar.action_key" if call.kind == "action" else "bursar.call_id"
        told: dict[str, object] = {"bursar.state": end.state, "bursar.agent": call.agent, "bursar.kind": call.kind}
        told |= {name: call.call_id} if call.call_id else {}
        told |= {"bursar.held_usd": dollars(call.held)} if call.held else {}
        told |= {"bursar.replayed": True} if end.state == "replayed" else {}
        told |= {"bursar.request_id": run.request_id, "usage_metadata": {"total_cost": dollars(end.cost)}}
        add_metadata(tree, told)
        if end.error is not None or end.state == "unknown":
            what = end.reason if end.error is None else f"{type(end.error).__name__}: {end.error}"
            tree.error = self._traced.error(what or end.state)
        output = {} if call.kind == "embeddings" or end.answer is None else {"output": end.answer}
        if tree.end_time is None:
            self._post(tree, output)
        else:
            tree.end(outputs=self._shown(output))
            tree.patch()

    def request_answered(self, end: RequestEnd) -> None:
        """Tell the request's run the answer, how the request ended, and what it has spent."""
        if (root := self._traced.root) is None:
            return
        spent = ZERO if end.spend is None else end.spend.spent
        told = {"bursar.ending": end.ending, "bursar.spent_usd": dollars(spent), "bursar.gaps": len(end.gaps)}
        self._traced.ended = dict[str, object](told)
        answer = {"messages": [{"role": "ai", "content": end.answer}], "ending": end.ending, "gaps": list(end.gaps)}
        self._traced.outputs = {**cast("dict[str, Any]", shortened(answer)), "spent": str(spent)}
        self._say(root, "bursar.gaps", score=len(end.gaps))

    def request_ended(self, end: RequestEnd) -> None:
        """Send the end of what is still open below the request's run."""
        self._close_unended()
        root, tracer = self._traced.root, self._tracer
        if root is None or tracer is None:
            return
        for tree in list(tracer.run_map.values()):
            if tree.dotted_order.startswith(f"{root.dotted_order}.") and tree.end_time is None:
                tracer.close(tree, "the request ended before it")

    def _close_unended(self) -> None:
        while self._unended and self._tracer is not None:
            with suppress(KeyError):  # race: another thread has taken the last one
                key = self._unended.pop()
                tree = self._tracer.run_map.get(str(key))
                if tree is not None and tree.end_time is None:
                    self._tracer.close(tree, self._why(key))

    def _why(self, key: UUID) -> str:
        _, end = list(self._traced.calls[key].values())[-1]
        return f"nobody saw how the call ended: {end.reason}"

    def _langchains(self, call: CallContext) -> RunTree | None:
        """Return LangChain's run of the call; None if it has none, or if it is not traced here."""
        known = self._tracer is not None and call.traced is not None
        return self._tracer.run_map.get(str(call.traced)) if known and self._tracer is not None else None

    def _above(self, run: RunContext) -> RunTree | None:
        return self._current() or self._agents.get(run) or self._traced.root

    def _current(self) -> RunTree | None:
        """Return the run in which this code runs, None if LangSmith does not trace here."""
        tree = get_current_run_tree()
        return None if tree is None or tree.extra.get("__disabled") else tree

    def _shown(self, value: Mapping[str, object]) -> dict[str, Any]:
        short = shortened(value)
        return cast("dict[str, Any]", short if self._traced.mask is None else masked(short, self._traced.mask))

    def _post(self, tree: RunTree, outputs: Mapping[str, object]) -> None:
        tree.end(outputs=self._shown(outputs))
        tree.post()

    def _say(self, run: RunTree, key: str, **said: Any) -> None:
        if self._has_feedback:
            langsmith_feedback.send(Feedback.of(run, key, **said))


def _child(above: RunTree, name: str, run_type: Any, told: Told) -> RunTree:
    """Return a new run below another, in the same thread and for the same tenant."""
    metadata = above.extra.get("metadata") or {}
    kept = {key: one for key, one in metadata.items() if not key.startswith(ITS_OWN) or key == "bursar.tenant"}
    child = above.create_child(name, run_type)
    child.extra = {**child.extra, "metadata": {**kept, **told}}
    return child


def _recovered(root: RunTree, call: ChargedCall) -> RunTree:
    """Return the run of a call that a dead process has paid for and not told."""
    told = {"bursar.call_id": call.call_id, "bursar.agent": call.agent, "bursar.recovered": True}
    told |= {"bursar.state": "unknown" if call.unknown else "settled", "bursar.kind": "recovered"}
    tree = _child(root, call.model, "tool", {**told, "usage_metadata": {"total_cost": dollars(call.cost)}})
    tree.end()
    return tree


def _type_of(call: CallContext) -> str:
    return "llm" if call.kind == "chat" else "tool"


def _is_on() -> bool:
    return tracing_v2_callback_var.get() is not None or bool(cast("Callable[[], object]", tracing_is_enabled)())


def _tracer_in(given: Callbacks) -> LangChainTracer | None:
    handlers: Sequence[object] = given.handlers if isinstance(given, BaseCallbackManager) else given or ()
    return next((one for one in handlers if isinstance(one, LangChainTracer)), None)


def _with(given: Callbacks, ours: GovernedTracer) -> Callbacks:
    """Return a copy of the callbacks with our tracer in the place of LangChain's, or beside them if there is none.

    LangChain copies a tracer for each of the two lists of a manager.
    """
    if not isinstance(given, BaseCallbackManager):
        return _replaced(given or [], ours, adds=True)
    manager, adds = copy.copy(given), _tracer_in(given) is None
    manager.handlers = _replaced(given.handlers, ours, adds=adds)
    manager.inheritable_handlers = _replaced(given.inheritable_handlers, ours, adds=adds)
    return manager


def _replaced(handlers: Sequence[Any], ours: GovernedTracer, *, adds: bool) -> list[Any]:
    places = [place for place, one in enumerate(handlers) if isinstance(one, LangChainTracer)]
    if not places:
        return [*handlers, ours] if adds else [*handlers]
    kept = [one for one in handlers if not isinstance(one, LangChainTracer)]
    return [*kept[: places[0]], ours, *kept[places[0] :]]
