"""The output of Bursar's commands: tables, audit rows, the drill. Rich for people, plain values for `--json`."""

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bursar.state.money import USD

if TYPE_CHECKING:
    from bursar.testing import Drill, DrillResult

WIDTH_OF_FILES = 140
WIDTH_OF_VALUES = 80
SHOWN_OF_HASH = 12
_HASH = re.compile(r"[0-9a-f]{64}")
_NANOS = re.compile(r"-?\d+\.\d{9}")


def console(*, error: bool = False) -> Console:
    """Return the console for output, or for errors if `error`.

    If the output goes to a file or a pipe, its lines are wide enough for any table.
    """
    plain = Console(stderr=error, highlight=False)
    return plain if plain.is_terminal else Console(stderr=error, highlight=False, width=WIDTH_OF_FILES)


@contextmanager
def status() -> Generator[Callable[[str], None]]:
    """Show a status line on a terminal's error stream. The yielded function sets its text.

    If the error stream is no terminal, nothing is shown.
    """
    screen = console(error=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    with screen.status("starting") as line:
        yield lambda node: line.update(f"{node.replace('_', ' ')} …")


def as_json(value: object) -> str:
    """Return the value as one JSON document. Money is a decimal string."""
    return json.dumps(value, default=_plain, ensure_ascii=False, indent=2)


def decimal_text(nanos: int | None) -> str | None:
    """Return nano-dollars as decimal text of US dollars, for `--json`; None stays None."""
    return None if nanos is None else f"{USD.from_nanos(nanos).dollars:f}"


def as_line(values: Mapping[str, Any]) -> str:
    """Return names and values in one line. Long values are cut."""
    return "  ".join(f"{name}={str(value)[:WIDTH_OF_VALUES]}" for name, value in values.items())


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def drill_json(found: "Drill") -> dict[str, Any]:
    """Return the results of a drill as plain values, for `bursar drill --json`."""
    return {"deadline_seconds": found.deadline_seconds, "cells": [asdict(cell) for cell in found.cells]}


def drill(found: "Drill") -> RenderableType:
    """Return a table of a drill, with a row for each fault and a column for each agent.

    A cell has the seconds until the answer if the result passed, otherwise the word FAILED; skipped results have a
    dash. Below the table are the problems of each result that failed.
    """
    agents = list(dict.fromkeys(cell.agent for cell in found.cells))
    cells = {(cell.fault, cell.agent): cell for cell in found.cells}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("fault", no_wrap=True)
    for agent in agents:
        table.add_column(agent.replace("_", " "), justify="right")
    for fault in dict.fromkeys(cell.fault for cell in found.cells):
        table.add_row(Text(fault), *(_drilled(cells.get((fault, agent))) for agent in agents))
    failed = [cell for cell in found.cells if not cell]
    lines = [Text(f"{cell.agent}, {cell.fault}: {'; '.join(cell.problems)}", style="red") for cell in failed]
    done = sum(not cell.skipped for cell in found.cells)
    total = f"{done - len(failed)} of {done} passed: answered within {found.deadline_seconds:g} s + 10 %, "
    return Group(table, *lines, Text(f"{total}the right outcome, fallback told, nothing spent after, log verified"))


def _drilled(cell: "DrillResult | None") -> Text:
    if cell is None or cell.skipped:
        return Text("–", style="dim")
    return Text(f"{cell.seconds:.2f} s", style="green") if cell else Text("FAILED", style="red")


def rows(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> RenderableType:
    """Return a plain table. Text in it is shown as it is, not read as Rich's markup."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*(Text(str(cell)) for cell in line))
    return table


def event_line(event: Mapping[str, Any]) -> str:
    """Return the facts of an audit event in one line. Kind, version, request and empty facts are left out."""
    shown = {key: value for key, value in event.items() if key not in {"kind", "version", "request_id"}}
    decision = cast("Mapping[str, Any] | None", shown.pop("decision", None))
    if decision is not None:
        shown = {**_decision_facts(decision), **shown}
    return "  ".join(f"{key}={_short(value)}" for key, value in shown.items() if value not in (None, "", [], {}, 0))


def _decision_facts(decision: Mapping[str, Any]) -> dict[str, Any]:
    candidates = cast("list[Mapping[str, Any]]", decision.get("candidates", []))
    judged = [
        f"{c['name']} {c['verdict']} ({_score(c['score'])}expects ${_short(c['expected_cost'])})"
        + (f": {c['reason']}" if c["reason"] else "")
        for c in candidates
        if c["verdict"] != "unfit"
    ]
    left = f"${_short(decision['left'])}"
    return {"by": decision["by"], "rule": decision["rule"], "left": left, "judged": "; ".join(judged)}


def _score(score: float) -> str:
    """Return the router's score of a candidate as text, empty if it is 0.

    The score is 0 in the decisions of the guardian and the gate, because they do not score their candidates.
    """
    return f"score {score:.2f}, " if score else ""


def _short(value: object) -> str:
    """Return a value as text for a person: hashes are cut, amounts lose the zeros at their end."""
    if isinstance(value, list):
        return ",".join(_short(item) for item in cast("list[object]", value))
    text = str(value)
    if _HASH.fullmatch(text):
        return f"{text[:SHOWN_OF_HASH]}…"
    return text.rstrip("0").rstrip(".") if _NANOS.fullmatch(text) else text
