"""What tracers record of the nodes of the graph: summaries, so that a trace does not grow with its session."""

from collections.abc import Mapping, Sequence
from typing import cast

from langchain_core.messages import BaseMessage
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from bursar.state.decision import Decision
from bursar.state.run import Run
from bursar.state.session import Plan, Request
from bursar.state.text import excerpt

MOST_CHARACTERS = 4_000  # of a text
MOST_ITEMS = 20  # of a list or a mapping
MOST_MESSAGES = 5
DEPTH = 6


def shortened(value: object, depth: int = DEPTH) -> object:
    """Return the value as JSON, with long texts and long lists cut; a mark says how much is left out."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return excerpt(value, MOST_CHARACTERS)
    if isinstance(value, BaseMessage):
        return {"role": value.type, "content": excerpt(value.text, MOST_CHARACTERS)}
    if depth <= 0:
        return "…"
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        items = list(cast("Mapping[object, object]", value).items())
        some = {str(key): shortened(one, depth - 1) for key, one in items[:MOST_ITEMS]}
        return some if len(items) <= MOST_ITEMS else {**some, "…": f"{len(items) - MOST_ITEMS} more"}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        several = list(cast("Sequence[object]", value))
        some_of = [shortened(one, depth - 1) for one in several[:MOST_ITEMS]]
        return some_of if len(several) <= MOST_ITEMS else [*some_of, f"… {len(several) - MOST_ITEMS} more"]
    shown = to_jsonable_python(value, fallback=_named, serialize_unknown=False)
    return excerpt(shown, MOST_CHARACTERS) if isinstance(shown, str) else shown


def _named(value: object) -> str:
    return f"<{type(value).__name__}>"


def entered(given: object) -> dict[str, object]:
    """Return what is recorded of the input of the graph: the user's messages, or the answer that resumes it."""
    if not isinstance(given, Mapping):
        return {} if given is None else {"resume": shortened(getattr(given, "resume", given))}
    messages = cast("Mapping[str, object]", given).get("messages")
    several = cast("list[object]", messages) if isinstance(messages, list) else [messages]
    return {"messages": [shortened(one) for one in several[-MOST_MESSAGES:]]}


def state_seen(state: object) -> dict[str, object]:
    """Return what is recorded of a node's input: the question that the request asks, or that comes in."""
    if not isinstance(state, Mapping):
        return {}
    given = cast("Mapping[str, object]", state)
    step = {"step": given["step"]} if isinstance(given.get("step"), str) else {}
    request, messages = given.get("request"), given.get("messages")
    last = cast("list[object]", messages)[-1:] if isinstance(messages, list) else []
    newest = last[0] if last else None
    if isinstance(newest, BaseMessage) and newest.type == "human":
        return {"question": excerpt(newest.text, MOST_CHARACTERS), **step}
    return {"question": excerpt(request.text, MOST_CHARACTERS), **step} if isinstance(request, Request) else step


def state_changed(update: object) -> dict[str, object]:
    """Return what is recorded of a node's output: what it planned, ran, or answered."""
    if not isinstance(update, Mapping):
        return {}
    changed, found = cast("Mapping[str, object]", update), dict[str, object]()
    if isinstance(plan := changed.get("plan"), Plan):
        found["steps"] = [step.name for step in plan.steps]
        found |= {"denied": dict(plan.denied)} if plan.denied else {}
    found |= {"decisions": decided} if (decided := _decisions(changed.get("decisions"))) else {}
    for run in cast("list[object]", changed.get("runs") or ()) if isinstance(changed.get("runs"), list) else []:
        found |= _ran(run) if isinstance(run, Run) else {}
    if "ending" in changed:
        messages = changed.get("messages")
        found |= {"messages": shortened(messages), "ending": changed["ending"], "gaps": shortened(changed.get("gaps"))}
    return found


def _decisions(given: object) -> list[str]:
    several: object = getattr(given, "value", given)  # an `Overwrite` has a value
    made = cast("list[object]", several) if isinstance(several, list) else []
    return [f"{one.kind}: {one.rule}" for one in made if isinstance(one, Decision)]


def _ran(run: Run) -> dict[str, object]:
    report = run.report
    found: dict[str, object] = {"outcome": run.outcome.value}
    if report is not None:
        found |= {"answer": excerpt(report.answer, MOST_CHARACTERS), "confidence": report.confidence}
        found |= {name: shortened(value) for name in ("data", "gaps", "sources") if (value := getattr(report, name))}
    return {**found, **({"reason": run.reason} if run.reason else {})}
