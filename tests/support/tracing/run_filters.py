"""LangSmith's query language, as far as a client asks for runs by it: `and(eq(status, "pending"), has(tags, "a"))`."""

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from tests.support.tracing.received_runs import TracedRun
from tests.support.tracing.wire import Malformed

_WORDS = re.compile(r"\b(and|or|not|in|is)\(")  # functions of the language that are keywords in Python
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "neq": lambda left, right: left != right,
    "gt": lambda left, right: left is not None and left > right,
    "gte": lambda left, right: left is not None and left >= right,
    "lt": lambda left, right: left is not None and left < right,
    "lte": lambda left, right: left is not None and left <= right,
    "in_": lambda left, right: left in right,
}


def is_match(run: TracedRun, query: str) -> bool:
    """Whether a filter expression holds for a run. Raises `Malformed` if the expression cannot be read."""
    try:
        tree = ast.parse(_WORDS.sub(r"\1_(", query), mode="eval")
    except SyntaxError as error:
        raise Malformed(f"the filter {query}") from error
    return _holds(run, tree.body)


def _holds(run: TracedRun, node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise Malformed(f"the filter {ast.unparse(node)}")
    name = node.func.id
    if name == "and_":
        return all(_holds(run, one) for one in node.args)
    if name == "or_":
        return any(_holds(run, one) for one in node.args)
    if name == "not_":
        return not _holds(run, node.args[0])
    field, value = _name(node.args[0]), _value(node.args[1])
    if name == "has":
        return _has(run, field, value)
    if name not in _COMPARE:
        raise Malformed(f"the filter's function {name}")
    if field in {"metadata_key", "metadata_value"}:
        known = run.metadata if field == "metadata_key" else run.metadata.values()
        return any(_COMPARE[name](one, value) for one in known)
    return _COMPARE[name](_field(run, field), value)


def _has(run: TracedRun, field: str, value: Any) -> bool:
    if field == "tags":
        return value in (run.fields.get("tags") or [])
    if field == "metadata":
        return json.loads(value).items() <= run.metadata.items()
    raise Malformed(f"has({field}, …)")


def _name(node: ast.expr) -> str:
    if not isinstance(node, ast.Name):
        raise Malformed(f"{ast.unparse(node)} as the name of a field")
    return node.id


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}[node.id]
    return ast.literal_eval(node)


def _field(run: TracedRun, field: str) -> Any:
    match field:
        case "thread_id":
            keys = ("session_id", "conversation_id", "thread_id")
            return next((run.metadata[key] for key in keys if key in run.metadata), None)
        case "is_root":
            return run.parent is None
        case "status" | "run_type" | "name" | "id" | "trace_id" | "error":
            return getattr(run, field)
        case _:
            return run.fields.get(field)


def found(runs: list[TracedRun], asked: dict[str, Any]) -> list[TracedRun]:
    """Return those of `runs` for which everything holds that the body of a query asks, of either version."""
    projects = _texts(asked.get("session") or asked.get("project_ids"))
    ids = _texts(asked.get("id") or asked.get("ids"))
    trace = asked.get("trace") or asked.get("trace_id")
    has_error = asked.get("error", asked.get("has_error"))
    since = str(asked.get("start_time") or asked.get("min_start_time") or "")
    return [
        run
        for run in runs
        if (not projects or run.project in projects)
        and (not ids or run.id in ids)
        and (trace is None or run.trace_id == trace)
        and (asked.get("run_type") in {None, run.run_type})
        and (asked.get("parent_run") in {None, run.parent})
        and (asked.get("is_root") is None or bool(asked["is_root"]) == (run.parent is None))
        and (has_error is None or bool(has_error) == bool(run.error))
        and str(run.fields.get("start_time") or "") >= since
        and (not asked.get("filter") or is_match(run, asked["filter"]))
    ]


def _texts(values: list[Any] | None) -> set[str]:
    return {str(value) for value in values or []}


def shown(run: TracedRun) -> dict[str, Any]:
    """Return a run as an answer to a query has it."""
    usage = run.usage
    return {
        **run.fields,
        "id": run.id,
        "inputs": run.inputs or {},
        "trace_id": run.trace_id,
        "session_id": run.project,
        "project_id": run.project,
        "status": run.status,
        "metadata": run.metadata,
        "parent_run_ids": [place.rpartition("Z")[2] for place in run.dotted_order.split(".")[:-1]],
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "total_cost": run.total_cost,
        "feedback_stats": {one["key"]: {"n": 1, "avg": one.get("score")} for one in run.feedback},
    }
