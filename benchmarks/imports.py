"""Measures importing Bursar against importing LangGraph and SQLAlchemy, in new processes, with compiled files."""

import os
import subprocess
import sys
import tempfile
from functools import partial

from benchmarks.harness import Result, children_cpu, interleave

BOUND = 1.2
PEERS = "langgraph.graph + sqlalchemy"
# `import bursar` loads almost nothing; `from bursar import *` loads every public name.
IMPORTS = {
    "import bursar": "import bursar",
    "from bursar import *": "from bursar import *",
    PEERS: "import langgraph.graph, sqlalchemy",
}


def run(*, smoke: bool) -> list[Result]:
    """Measure the imports in turns; one operation is one process."""
    result = Result("import")
    with tempfile.TemporaryDirectory() as compiled:
        settings = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        contenders = [(name, partial(_import, code, settings)) for name, code in IMPORTS.items()]
        result.rounds = interleave(contenders, rounds=1 if smoke else 10, operations=1, cpu=children_cpu)
    result.compare("import bursar", PEERS, bound=BOUND)
    result.compare("from bursar import *", PEERS)
    return [result]


def _import(code: str, settings: dict[str, str], operations: int) -> None:
    for _ in range(operations):
        subprocess.run([sys.executable, "-c", code], env=settings, check=True)
