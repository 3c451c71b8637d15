"""The results as tables: for a terminal, and as the lines that stand in `docs/performance.md`."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from rich.console import Console
from rich.table import Table

from benchmarks.money.contest import Contestant, Measured
from benchmarks.money.scenario import NANOS
from benchmarks.money.scenarios import SCENARIOS

LINE = 118


def show(console: Console, contestants: Sequence[Contestant], found: Sequence[Measured]) -> None:
    """Print a row for each scenario, the totals, and what must be said of the rows."""
    by_name = _by_scenario(found)
    table = Table("scenario", "limit", *(one.name for one in contestants), title_justify="left")
    for name, row in by_name.items():
        table.add_row(name, _dollars(next(iter(row.values())).limit), *(_cell(row[c.name]) for c in contestants))
    console.print(table)
    console.print("A cell has the bill; +, what of it is over the limit; lost, what was paid for no use; answers; and")
    console.print("! if the request ended in an exception. Amounts are in thousandths of a dollar.")
    totals = Table("contestant", "over in", "dollars over", "dollars lost", "answers", "requests answered")
    for contestant in contestants:
        totals.add_row(*_totals(contestant.name, found))
    console.print(totals)
    for line in (*no_way(found), *lost_more(found)):
        console.print(line, style="dim", soft_wrap=True)


def markdown(contestants: Sequence[Contestant], found: Sequence[Measured], versions: Mapping[str, str]) -> str:
    """Return the totals and the scenarios in which each contestant went over, as Markdown."""
    lines = [
        "| | went over in | dollars over | dollars lost | answers | requests answered |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(_totals(one.name, found))} |" for one in contestants]
    over = {one.name: [m.scenario for m in found if m.contestant == one.name and m.over] for one in contestants}
    peers = [names for contestant, names in over.items() if contestant != "bursar"]
    common = [name for name in (peers[0] if peers else []) if all(name in names for names in peers)]
    said = [f"Their limits: {'; '.join(f'{one.name}, {one.limit}' for one in contestants)}."]
    said += [f"All {len(peers)} peers went over in {len(common)} scenarios: {_listed(common)}."]
    for contestant, names in over.items():
        more = [name for name in names if name not in common]
        if contestant != "bursar" and more:
            said.append(f"{contestant} also in {len(more)}: {_listed(more)}.")
    said.append(f"Versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}.")
    lines += [line for sentence in said for line in ("", *wrap(sentence, LINE, break_on_hyphens=False))]
    return "\n".join(lines) + "\n"


def lost_more(found: Sequence[Measured]) -> Iterator[str]:
    """Yield a line for each scenario in which Bursar lost more work than a peer did, with the reason."""
    reasons = {scenario.name: scenario.lost_because for scenario in SCENARIOS}
    for name, row in _by_scenario(found).items():
        if "bursar" not in row:
            continue
        less = [one for one in row.values() if one.lost < row["bursar"].lost]
        within = [one.contestant for one in less if not one.over]
        if within:
            yield f"{name}: bursar lost more than {', '.join(within)}: {reasons[name] or 'NO REASON IS KNOWN'}"
        elif less:
            over = ", ".join(f"{one.contestant} (+{_dollars(one.over)})" for one in less)
            yield f"{name}: bursar lost more than only those who went over the limit: {over}"


def no_way(found: Sequence[Measured]) -> Iterator[str]:
    """Yield, for each thing that a contestant has no way to say, the scenarios that would need it."""
    needs: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if one.no_way:
            needs.setdefault((one.contestant, one.no_way), []).append(one.scenario)
    for (contestant, what), names in needs.items():
        yield f"{contestant} has no way to say it ({what}): {', '.join(names)}"


def _by_scenario(found: Sequence[Measured]) -> dict[str, dict[str, Measured]]:
    rows: dict[str, dict[str, Measured]] = {}
    for one in found:
        rows.setdefault(one.scenario, {})[one.contestant] = one
    return rows


def _totals(contestant: str, found: Sequence[Measured]) -> tuple[str, ...]:
    own = [one for one in found if one.contestant == contestant]
    over = [one for one in own if one.over]
    return (
        contestant,
        f"{len(over)} of {len(own)}",
        _dollars(sum(one.over for one in own)),
        _dollars(sum(one.lost for one in own)),
        str(sum(one.answers for one in own)),
        f"{sum(one.is_answered for one in own)} of {len(own)}",
    )


def _cell(one: Measured) -> str:
    over = f" [red]+{_thousandths(one.over)}[/red]" if one.over else ""
    lost = f" lost {_thousandths(one.lost)}" if one.lost else ""
    return f"{_thousandths(one.billed)}{over}{lost} ({one.answers}{'' if one.is_answered else '!'})"


def _thousandths(nanos: int) -> str:
    return f"{nanos * 1_000 / NANOS:.2f}"


def _dollars(nanos: int) -> str:
    return f"${nanos / NANOS:.5f}".rstrip("0").rstrip(".")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
