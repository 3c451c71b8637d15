"""Sums up what was played: costs by the ledger beside bills, the classes, and how many answers kept the rules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.mix.bound import at_least
from benchmarks.mix.mix_file import Mix
from benchmarks.mix.playing import NANOS

Rows = Sequence[Mapping[str, Any]]
LISTED = 40  # misses; the others are counted


def summarise(mix: Mix, rows: Rows) -> dict[str, Any]:
    """Return the figures of these requests. Amounts are US dollars as text, exact to the nano-dollar but for means."""
    charged, billed = sum(row["charged"] for row in rows), sum(row["billed"] for row in rows)
    missed = [row for row in rows if row["misses"]]
    return {
        "requests": len(rows),
        "mean": _mean(charged, len(rows)),
        "mean_billed": _mean(billed, len(rows)),
        "dearest": _dollars(max(row["charged"] for row in rows)),
        "total": _dollars(charged),
        "total_billed": _dollars(billed),
        "billed_above_ledger": sum(row["billed"] > row["charged"] for row in rows),
        "above_budget": sum(row["charged"] > int(mix.budget * NANOS) for row in rows),
        "paid": _share(rows, lambda row: row["charged"] > 0),
        "refused": _share(rows, lambda row: row["refused"]),
        "cut": _share(rows, lambda row: row["cut"]),
        "gaps": _share(rows, lambda row: row["gaps"]),
        "unknown_calls": sum(row["unknown"] for row in rows),
        "calls": sum(row["calls"] for row in rows),
        "input_tokens_a_call": round(sum(row["input_tokens"] for row in rows) / max(1, sum(r["calls"] for r in rows))),
        "output_tokens_a_call": round(
            sum(row["output_tokens"] for row in rows) / max(1, sum(r["calls"] for r in rows))
        ),
        "model_seconds": _quantiles([row["seconds"] for row in rows]),
        "compliance": _kept(mix, [not row["misses"] for row in rows]),
        "states_its_figure": _kept(mix, [row["states"] for row in rows if row["states"] is not None]),
        "denied_by_its_rule": _kept(mix, [row["names_rule"] for row in rows if row["names_rule"] is not None]),
        "classes": _groups(mix, rows, "kind"),
        "behaviours": _groups(mix, rows, "behaviour"),
        "missed": [{key: row[key] for key in ("kind", "behaviour", "question", "misses")} for row in missed[:LISTED]],
    }


def _groups(mix: Mix, rows: Rows, key: str) -> dict[str, dict[str, Any]]:
    """Return the share, the costs and the kept rules of the requests by the value that they have under `key`."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({row[key] for row in rows}):
        chosen = [row for row in rows if row[key] == name]
        figures = [row["states"] for row in chosen if row["states"] is not None]
        found[name] = {
            "requests": len(chosen),
            "share": round(len(chosen) / len(rows), 4),
            "mean": _mean(sum(row["charged"] for row in chosen), len(chosen)),
            "dearest": _dollars(max(row["charged"] for row in chosen)),
            "refused": _share(chosen, lambda row: row["refused"]),
            "gaps": _share(chosen, lambda row: row["gaps"]),
            "compliant": sum(not row["misses"] for row in chosen),
            "states_its_figure": f"{sum(figures)} of {len(figures)}" if figures else "",
        }
    return found


def _kept(mix: Mix, verdicts: Sequence[bool]) -> dict[str, Any]:
    """Return how many verdicts are True, and the bound at the mix's confidence."""
    if not verdicts:
        return {"of": 0}
    held = sum(verdicts)
    return {"held": held, "of": len(verdicts), "at_least": at_least(held, len(verdicts), confidence=mix.confidence)}


def _share(rows: Rows, holds: Callable[[Mapping[str, Any]], bool]) -> float:
    return round(sum(holds(row) for row in rows) / len(rows), 4)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {name: round(ordered[int(len(ordered) * at)], 2) for name, at in (("median", 0.5), ("p99", 0.99))}


def _dollars(nanos: int) -> str:
    return f"{nanos // NANOS}.{nanos % NANOS:09}"


def _mean(nanos: int, number: int) -> str:
    """Return the mean in US dollars, rounded up to a nano-dollar."""
    return _dollars(-(-nanos // number))
