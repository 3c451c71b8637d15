"""LangChain's tracer for LangSmith, which tells of each run what the ledger knows, and not more than may be told."""

# The fields of LangSmith's `RunTree` have no types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from langchain_core.tracers import LangChainTracer
from langgraph.errors import GraphBubbleUp
from langsmith.run_trees import RunTree
from pydantic_core import to_jsonable_python

from bursar.nodes.observers.base import CallContext, CallEnd
from bursar.nodes.observers.summaries import entered
from bursar.state.langgraph_private import outside_runs
from bursar.state.masking import mask_secrets
from bursar.state.money import USD
from bursar.state.refusals import Refused
from bursar.state.text import one_line

INTERRUPTED = "\0interrupted"  # stands for the error of a run that waits for a person, until it is sent
ERROR_CHARACTERS = 1_000
Mask = Callable[[str], str]


def dollars(amount: USD) -> float:
    """Return the amount as the number of a trace, which JSON writes with all its digits."""
    return float(amount.dollars)


def masked(value: Any, mask: Mask) -> Any:
    """Return a copy of the value as JSON, in which each text has passed through the mask."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {mask(str(key)): masked(one, mask) for key, one in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(one, mask) for one in cast("list[Any]", value)]
    return masked(to_jsonable_python(value, fallback=repr), mask)


def add_metadata(run: RunTree, told: Mapping[str, object]) -> None:
    """Add to the run's metadata. LangChain's runs share theirs, so it is copied before."""
    run.extra = {**run.extra, "metadata": {**(run.extra.get("metadata") or {}), **told}}


@dataclass
class TracedRequest:
    """What is known of the runs of one request until they are sent. Its tracers, which LangChain copies, share it.

    `calls` has the ledger's calls by the run of LangChain that made them. `root` is the run of the request, and
    `ended` what is told at its end. `paid` has the ids of the calls that this process has paid for, in the requests
    that it is inside of too. `replaces` is the tracer in whose place the request's tracer is.
    """

    mask: Mask | None = None
    replaces: LangChainTracer | None = None
    root: RunTree | None = None
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    ended: dict[str, object] = field(default_factory=dict[str, object])
    # Race: a handler may pay from several threads at once; each step on a dict is one step.
    calls: dict[UUID, dict[str, tuple[CallContext, CallEnd]]] = field(
        default_factory=dict[UUID, dict[str, tuple[CallContext, CallEnd]]]
    )
    sent: dict[UUID, object] = field(default_factory=dict[UUID, object])
    paid: set[str] = field(default_factory=set[str])

    def inside(self, mask: Mask | None) -> "TracedRequest":
        """Return what is known of a request inside this one: its texts pass through this one's mask too."""
        outer = self.mask
        if outer is None or mask is None:
            return TracedRequest(outer or mask, paid=self.paid)

        def both(text: str) -> str:
            return outer(mask(text))

        return TracedRequest(both, paid=self.paid)

    def text(self, text: str) -> str:
        """Return a text as it may be sent."""
        return text if self.mask is None else self.mask(text)

    def error(self, text: str) -> str:
        """Return the text of an error as it may be sent: one line, without what looks like a secret."""
        return self.text(mask_secrets(one_line(text, ERROR_CHARACTERS)))

    def begin(self, run: RunTree) -> None:
        """Prepare a run to be posted. The first one is the request's."""
        if self.root is None:
            self.root = run
            run.inputs = entered(run.inputs.get("input", run.inputs) if set(run.inputs) == {"input"} else run.inputs)
            add_metadata(run, {"ls_agent_type": "root" if run.parent_run_id is None else "subagent"})
        if self.mask is not None:
            run.inputs = masked(run.inputs, self.mask)
        self.sent[run.id] = run.inputs

    def end(self, run: RunTree) -> bool:
        """Prepare a run to be sent at its end. Return whether its inputs have been sent already."""
        is_interrupt = run.error == INTERRUPTED
        if is_interrupt:
            run.error = None
            add_metadata(run, {"ls_is_error_interrupt": True})
        if run is self.root:
            unanswered = "stopped" if run.error else "interrupted"
            add_metadata(run, {"bursar.ending": unanswered, **self.ended} if "bursar.request_id" in _of(run) else {})
            run.outputs = self.outputs
        if (calls := self.calls.get(run.id)) is not None:
            add_metadata(run, _told(list(calls.values()), _of(run)))
        was_sent = self.sent.get(run.id) is run.inputs and "inputs_is_truthy" not in run.extra
        if self.mask is not None:
            run.outputs = masked(run.outputs, self.mask)
            run.events = masked(run.events, self.mask)
            run.inputs = run.inputs if was_sent else masked(run.inputs, self.mask)
        return was_sent


class GovernedTracer(LangChainTracer):
    """The tracer of one request. It sends what LangChain's own would, with what `traced` knows of the runs."""

    def __init__(self, traced: TracedRequest | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.traced = traced or TracedRequest()

    @classmethod
    def in_place_of(cls, given: LangChainTracer, traced: TracedRequest) -> "GovernedTracer":
        """Return the tracer that takes the place of another one: with its client, project, metadata, and open runs."""
        traced.replaces = given
        return cls(
            traced,
            example_id=given.example_id,
            project_name=given.project_name,
            address=given.address,
            client=given.client,
            tags=given.tags,
            metadata=given.tracing_metadata,
            run_map=given.run_map,
            order_map=given.order_map,
            _external_run_ids=outside_runs(given),
        )

    def copy_with_metadata_defaults(
        self, *, metadata: Mapping[str, str] | None = None, tags: list[str] | None = None
    ) -> LangChainTracer:
        """Return a copy with more metadata, as LangChain makes it. It tells of the same request."""
        copy = cast("GovernedTracer", super().copy_with_metadata_defaults(metadata=metadata, tags=tags))
        copy.traced = self.traced
        return copy

    def close(self, run: RunTree, why: str) -> None:
        """Send the end of a run that LangChain has not ended. If LangChain ends it later, it is sent again."""
        run.error = self.traced.error(why)
        run.end()
        self._update_run_single(run)

    def _persist_run(self, run: RunTree) -> None:
        super()._persist_run(run)
        if self.traced.replaces is not None:  # the caller asks its own tracer for the URL of the run
            self.traced.replaces.latest_run = self.latest_run

    def _persist_run_single(self, run: RunTree) -> None:
        self.traced.begin(run)
        super()._persist_run_single(run)

    def _update_run_single(self, run: RunTree) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not run.extra.get("__disabled"):
            run.patch(exclude_inputs=self.traced.end(run))

    def _get_stacktrace(self, error: BaseException) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(error, GraphBubbleUp) and not isinstance(error, Refused):
            return INTERRUPTED
        return self.traced.error(f"{type(error).__name__}: {error}")


def _of(run: RunTree) -> dict[str, Any]:
    return run.extra.get("metadata") or {}


def _told(calls: list[tuple[CallContext, CallEnd]], known: Mapping[str, Any]) -> dict[str, object]:
    """Return the metadata of a run of a model with these calls of the ledger; the last of them answered."""
    call, end = calls[-1]
    told: dict[str, object] = {"bursar.state": end.state, "bursar.agent": call.agent}
    told |= {"bursar.call_id": call.call_id} if call.call_id else {}
    told |= {"bursar.held_usd": dollars(call.held)} if call.held else {}
    told |= {"bursar.attempts": len(calls)} if len(calls) > 1 else {}
    if saved := sum(ended.cache_saved.nanos for _, ended in calls):
        told["bursar.cache_saved_usd"] = dollars(USD.from_nanos(saved))
    if call.instead_of:
        told |= {"ls_model_name": call.model, "bursar.instead_of": call.instead_of}
    if end.state == "replayed":
        told["bursar.replayed"] = True
    return {**told, "usage_metadata": _usage([ended for _, ended in calls], known)}


def _usage(ends: list[CallEnd], known: Mapping[str, Any]) -> dict[str, object]:
    """Return tokens and costs of the calls. Tokens of an answer from the ledger were counted when it was paid."""
    usages = [end.usage for end in ends if end.usage is not None]
    into, out = sum(one.input_tokens for one in usages), sum(one.output_tokens for one in usages)
    usage: dict[str, object] = {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
    if ends[-1].state == "settled" and (found := known.get("usage_metadata")):
        usage = dict(found)
    total = USD.from_nanos(sum(end.cost.nanos for end in ends))
    charged = [end for end in ends if end.cost]
    if all(end.of_input is not None for end in charged):
        of_input = USD.from_nanos(sum(end.of_input.nanos for end in charged if end.of_input is not None))
        usage |= {"input_cost": dollars(of_input), "output_cost": dollars(total - of_input)}
    return {**usage, "total_cost": dollars(total)}


_KEY = re.compile(r"(API Key: )\S+")


class _KeyFilter(logging.Filter):
    """Takes the API key out of what LangSmith's SDK logs: it shows the key's ends when its server cannot be reached."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "API Key:" in (text := record.getMessage()):
            record.msg, record.args = _KEY.sub(r"\1***", text), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = _KEY.sub(r"\1***", logging.Formatter().formatException(record.exc_info))
        return True


_key_filter = _KeyFilter()


def hide_keys_in_logs() -> None:
    """Let nothing that LangSmith's SDK logs show a part of its API key. Calling it again changes nothing."""
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] == "langsmith" or name == "langchain_core.tracers.langchain":
            logging.getLogger(name).addFilter(_key_filter)
