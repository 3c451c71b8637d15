"""OpenTelemetry metrics: durations and tokens by the conventions, and money, holds, refusals, runs and breakers.

The meter is `bursar`. No attribute has a value for each session, request or call, so the number of series is bounded.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from bursar.checkpoints.ledger.anchors import Head
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.nodes.isolation.captured import capture_call
from bursar.nodes.observers.base import CallContext, CallEnd, RequestContext, RequestEnd, RunContext
from bursar.nodes.observers.opentelemetry import has_sdk
from bursar.nodes.observers.opentelemetry_values import (
    MODELS,
    OTHER,
    Attributes,
    account_of,
    call_error,
    dollars,
    error_type,
    is_pause,
    operation,
    provider_name,
    response_model,
    server_of,
    usage_attributes,
)
from bursar.state.money import USD
from bursar.state.run import Outcome, Run

# The boundaries of the conventions' histograms.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
TOKEN_TYPES = {"gen_ai.usage.input_tokens": "input", "gen_ai.usage.output_tokens": "output"}
BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}

_log = logging.getLogger(__name__)
_ledgers: "WeakSet[Ledger]" = WeakSet()


def _breaker_states(options: CallbackOptions) -> Iterable[Observation]:
    """Return the state of each breaker that saw faults lately, in all ledgers that requests use in this process."""
    found: list[Observation] = []
    for ledger in list(_ledgers):
        read = capture_call(ledger.breakers)
        if isinstance(read.error, Exception):  # a metric may lack a value, and nobody who reads metrics may fail for it
            _log.debug("the breakers of a ledger were not read (%s)", error_type(read.error))
            continue
        states = [(row.name, BREAKER_STATES[row.state]) for row in read.result()]
        found += [Observation(state, {"bursar.breaker.name": name}) for name, state in states]
    return found


def _seconds(meter: metrics.Meter, name: str, what: str) -> metrics.Histogram:
    return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=SECONDS)


_meter = metrics.get_meter("bursar")
_calls = _seconds(_meter, "gen_ai.client.operation.duration", "Duration of a call of a model.")
_tools = _seconds(_meter, "gen_ai.execute_tool.duration", "Duration of a priced function or an action.")
_agents = _seconds(_meter, "gen_ai.invoke_agent.duration", "Duration of a run of an agent.")
_workflows = _seconds(_meter, "gen_ai.workflow.duration", "Duration of an invocation of a supervisor's graph.")
_tokens = _meter.create_histogram(
    "gen_ai.client.token.usage", "{token}", "Tokens that a call used.", explicit_bucket_boundaries_advisory=TOKENS
)
_cost = _meter.create_counter("bursar.cost", "{USD}", "What calls cost, in US dollars.")
_returned = _meter.create_counter(
    "bursar.cost.returned", "{USD}", "What calls that were counted at their hold turned out not to cost."
)
_holds = _meter.create_up_down_counter("bursar.holds", "{call}", "Calls under way, whose money is held.")
_refusals = _meter.create_counter("bursar.refusals", "{refusal}", "Calls that were refused.")
_runs = _meter.create_counter("bursar.runs", "{run}", "Runs of agents that ended.")
_meter.create_observable_gauge(
    "bursar.breaker.state", [_breaker_states], "1", "State of a breaker: 0 closed, 1 half open, 2 open."
)


class OpenTelemetryMetricsObserver:
    """An observer that measures one request.

    A call that outlives its run is counted at its hold, and what it turns out not to cost is counted as returned: the
    ledger's charge is the difference. What is replayed from the ledger used nothing and cost nothing, so it is not
    measured.
    """

    def __init__(self) -> None:
        self._workflow: tuple[str, float] = ("", 0.0)
        self._began: dict[tuple[str, int], float] = {}
        # Race: a handler may pay from several threads at once; each step on a dict is one step.
        self._sent: dict[str, float] = {}
        self._lost: dict[str, USD] = {}

    def for_request(self, request: RequestContext) -> "OpenTelemetryMetricsObserver | None":
        """Return the observer of one request; None if there is no SDK that reads metrics."""
        if not has_sdk(metrics.get_meter_provider()):
            return None
        if request.ledger is not None:
            _ledgers.add(request.ledger)
        return OpenTelemetryMetricsObserver()

    def request_started(self, request: RequestContext) -> None:
        """Remember when the graph starts."""
        self._workflow = request.graph, time.monotonic()

    def request_ended(self, end: RequestEnd) -> None:
        """Measure how long the invocation took."""
        graph, began = self._workflow
        attributes: Attributes = {"gen_ai.workflow.name": graph}
        if end.error is not None and end.ending == "stopped":
            attributes["error.type"] = error_type(end.error)
        _workflows.record(time.monotonic() - began, attributes)

    def run_started(self, run: RunContext) -> None:
        """Remember when the run starts."""
        self._began[run.step, run.level] = time.monotonic()

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Measure how long the run took, and count it by its outcome."""
        why = run.limit or run.fault
        attributes: Attributes = {"gen_ai.agent.name": run.specialist}
        counted = {**attributes, "bursar.outcome": run.outcome.value, "bursar.why": "" if why is None else why.value}
        _runs.add(1, counted)
        if run.outcome is Outcome.FAILED:
            attributes["error.type"] = error_type(error) if error is not None else why.value if why else OTHER
        self._measure_run(run.step, run.level, attributes)

    def run_stopped(self, run: RunContext, error: BaseException) -> None:
        """Measure how long the run took, unless it only waits for a person."""
        if is_pause(error):
            self._began.pop((run.step, run.level), None)
            return
        self._measure_run(run.step, run.level, {"gen_ai.agent.name": run.specialist, "error.type": error_type(error)})

    def call_started(self, run: RunContext, call: CallContext) -> None:
        """Count the call's hold."""
        self._sent[call.call_id] = time.monotonic()
        _holds.add(1, {"gen_ai.request.model": call.model})

    def call_ended(self, run: RunContext, call: CallContext, end: CallEnd) -> None:
        """Count what the call cost and used, and measure how long it took; count it, if it was refused."""
        if end.state == "refused":
            if end.error is None or not is_pause(end.error):
                _refusals.add(1, _refusal(end.error))
            return
        if end.state == "replayed":
            return
        if call.kind == "action":
            seconds = 0.0 if end.at is None else end.at.timestamp() - call.began.timestamp()
            _tools.record(max(seconds, 0.0), _tool(call, end))
            return
        if end.at is None:  # race: the call may end meanwhile, so this is noted first
            self._lost[call.call_id] = end.cost
        began = self._sent.pop(call.call_id, None)
        if began is None:
            self._measure_late(run, call, end)
            return
        _holds.add(-1, {"gen_ai.request.model": call.model})
        _measure_call(run, call, end, time.monotonic() - began)

    def _measure_late(self, run: RunContext, call: CallContext, end: CallEnd) -> None:
        """Count what a call that was counted at its hold, because its run had ended, turned out not to cost."""
        counted = self._lost.pop(call.call_id, None)
        if end.at is not None and counted is not None and end.cost < counted:
            _returned.add(dollars(counted - end.cost), _payer(run, call))

    def _measure_run(self, step: str, level: int, attributes: Mapping[str, Any]) -> None:
        began = self._began.pop((step, level), None)
        if began is not None:
            _agents.record(time.monotonic() - began, attributes)


def _measure_call(run: RunContext, call: CallContext, end: CallEnd, seconds: float) -> None:
    if end.cost.nanos:
        _cost.add(dollars(end.cost), _payer(run, call))
    if call.kind not in MODELS:
        _tools.record(seconds, _tool(call, end))
        return
    attributes: Attributes = {
        "gen_ai.operation.name": operation(call, end),
        "gen_ai.provider.name": provider_name(call),
        "gen_ai.request.model": call.model,
        **server_of(call),
    }
    if model := response_model(end.answer):
        attributes["gen_ai.response.model"] = model
    used = usage_attributes(end.usage)
    for name, kind in TOKEN_TYPES.items():
        if used.get(name):
            _tokens.record(used[name], {**attributes, "gen_ai.token.type": kind})
    if (error := call_error(end)) is not None:
        attributes["error.type"] = error
    _calls.record(seconds, attributes)


def _payer(run: RunContext, call: CallContext) -> Attributes:
    return {"gen_ai.agent.name": run.specialist, "gen_ai.request.model": call.model, "bursar.tenant": run.tenant}


def _tool(call: CallContext, end: CallEnd) -> Attributes:
    attributes: Attributes = {"gen_ai.tool.name": call.model}
    if (error := call_error(end)) is not None:
        attributes["error.type"] = error
    return attributes


def _refusal(error: BaseException | None) -> Attributes:
    """Return by what a refusal is counted: the kind of the account, such as "agent", without its name."""
    kind = account_of(error).partition(":")[0]
    return {"bursar.account_kind": kind, "error.type": OTHER if error is None else error_type(error)}
