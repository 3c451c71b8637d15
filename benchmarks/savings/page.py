"""The part of `docs/savings.md` that is printed, from the totals that are kept."""

from benchmarks.savings.table import dollars, percent
from benchmarks.savings.totals import PARTS, Totals, share_right
from benchmarks.savings.variants import NOTHING, VARIANTS

WAYS = {"no limit": "no limit", "sane default": "40 calls alone", "guard": "the guard"}


def markdown(totals: Totals) -> str:
    """Return two tables: what each variant spent, and what looping runs did."""
    whole = totals[NOTHING.name]["spent"]
    rows = [
        "| | gsm8k | right | mmlu | right | agents' runs | success | in all | saved | right in all |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        found = totals[variant.name]
        cells = [
            cell
            for part in PARTS
            for cell in (dollars(found[f"{part} spent"]), percent(found[f"{part} right"], found[f"{part} asked"]))
        ]
        saved = percent(whole - found["spent"], whole)
        cells += [dollars(found["spent"]), saved, percent(share_right(found), 1)]
        rows.append(f"| {variant.name} | {' | '.join(cells)} |")
    rows += ["", "| looping runs | spent | stopped |", "|---|---|---|"]
    for name, said in WAYS.items():
        found = totals[f"looping runs, {name}"]
        rows.append(f"| {said} | {dollars(found['runs spent'])} | {found['runs stopped']} of {found['runs asked']} |")
    return "\n".join(rows) + "\n"
