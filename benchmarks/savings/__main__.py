"""`python -m benchmarks.savings [--smoke] [--data DIR] [--held-out HALF] [--json] [--renew] [--plot FILE]`."""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.savings.measure import measure
from benchmarks.savings.plot import draw
from benchmarks.savings.records import DATA
from benchmarks.savings.totals import keep


def main() -> int:
    """Play what the command line asks for, print it, and return 1 if it is worse than what is kept, otherwise 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.savings", description="What saves money.")
    parser.add_argument("--smoke", action="store_true", help="play the small sample that is made by a seed")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="where the recorded runs are")
    parser.add_argument("--held-out", metavar="HALF", help="learn from the development half, and play this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--renew", action="store_true", help="keep the totals in the repository")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures as SVG")
    asked = parser.parse_args()
    measured = measure(smoke=asked.smoke, data=asked.data, held_out=asked.held_out)
    if measured is None:
        print(f"The recorded runs are not here ({asked.data}); --smoke plays a sample that is made by a seed.")
        return 0
    if asked.plot is not None:
        asked.plot.write_text(draw(measured.totals), encoding="utf-8")
    if asked.renew:
        keep(measured.half, measured.totals)
    print(json.dumps({measured.half: measured.totals}, indent=1) if asked.json else "\n".join(measured.lines))
    return int(bool(measured.worse) and not asked.renew)


if __name__ == "__main__":
    sys.exit(main())
