"""`python -m benchmarks.savings` plays the recorded runs, and prints what saved how much; `--help` has the rest."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.savings.measure import Measured, measure
from benchmarks.savings.page import markdown
from benchmarks.savings.plot import draw
from benchmarks.savings.records import DATA, DEVELOPMENT
from benchmarks.savings.totals import keep, kept


def main() -> int:
    """Play what the command line asks for, print it, and return 1 if it is worse than what is kept, otherwise 0."""
    asked = _asked()
    if asked.kept:
        half = "sample" if asked.smoke else DEVELOPMENT
        measured = Measured(half, kept(half) or {}, [], [])
    else:
        played = measure(smoke=asked.smoke, data=asked.data, held_out=asked.held_out)
        if played is None:
            print(f"The recorded runs are not here ({asked.data}); --smoke plays a sample that is made by a seed.")
            return 0
        measured = played
    if asked.plot is not None:
        asked.plot.write_text(draw(measured.totals), encoding="utf-8")
    if asked.renew:
        keep(measured.half, measured.totals)
    if asked.json:
        print(json.dumps({measured.half: measured.totals}, indent=1))
    else:
        print(markdown(measured.totals) if asked.markdown else "\n".join(measured.lines))
    return int(bool(measured.worse) and not asked.renew)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.savings", description="What saves money.")
    parser.add_argument("--smoke", action="store_true", help="play the small sample that is made by a seed")
    parser.add_argument("--kept", action="store_true", help="play nothing: take the totals that the repository keeps")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="where the recorded runs are")
    parser.add_argument("--held-out", metavar="HALF", help="learn from the development half, and play this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object: nano-dollars and counts")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/savings.md")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the totals as SVG")
    parser.add_argument("--renew", action="store_true", help="keep the totals in the repository")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
