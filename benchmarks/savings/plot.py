"""The figures as a picture: for each variant a bar of what it spent; beside it, what it saved and what was right."""

from html import escape

from benchmarks.savings.totals import PARTS, Totals, share_right, total_asked
from benchmarks.savings.variants import NOTHING, VARIANTS

WIDTH, LEFT, BAR, STEP, TOP = 860, 150, 420, 44, 56
COLORS = {"gsm8k": "#d97706", "mmlu": "#2563eb", "runs": "#059669"}
NAMES = {"gsm8k": "arithmetic questions", "mmlu": "questions by subject", "runs": "agents' runs"}
FONT = 'font-family="sans-serif" font-size="14"'
INK, PALE = "#1f2937", "#6b7280"


def draw(totals: Totals) -> str:
    """Return an SVG of the totals, on white so that it can be read on a dark page too."""
    whole = totals[NOTHING.name]["spent"]
    height = TOP + STEP * len(VARIANTS) + 12
    drawn = [_legend()]
    for place, variant in enumerate(VARIANTS):
        drawn += _row(totals, variant.name, TOP + STEP * place, whole)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
            "<title>What was spent, saved and right with each way to save</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *drawn,
            "</svg>",
            "",
        ]
    )


def _row(totals: Totals, name: str, top: int, whole: int) -> list[str]:
    found, x, drawn = totals[name], float(LEFT), [_text(LEFT - 10, top + 19, name, anchor="end")]
    for part in PARTS:
        width = BAR * found[f"{part} spent"] / max(1, whole)
        drawn.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="28" fill="{COLORS[part]}"/>')
        x += width
    saved = 100 * (whole - found["spent"]) / max(1, whole)
    good = f"{100 * share_right(found):.1f} % right of {total_asked(found):,}"
    drawn.append(_text(LEFT + BAR + 14, top + 12, f"${found['spent'] / 1e9:,.2f}, {saved:.1f} % saved"))
    drawn.append(_text(LEFT + BAR + 14, top + 28, good, color=PALE))
    return drawn


def _legend() -> str:
    drawn: list[str] = []
    for place, part in enumerate(PARTS):
        x = LEFT + 180 * place
        drawn.append(f'<rect x="{x}" y="18" width="14" height="14" fill="{COLORS[part]}"/>')
        drawn.append(_text(x + 20, 30, NAMES[part]))
    return "\n".join(drawn)


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
