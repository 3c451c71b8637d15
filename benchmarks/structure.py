"""The structure of a checkout: how many files its work goes through, and how its source is built.

`python benchmarks/structure.py [--root DIR] [--json]` measures the checkout in DIR; by default, the script's own.

The walks. The script runs four pieces of work on SQLite and traces Python's calls and returns in every thread: a paid
call (`model.ainvoke`, then `model.invoke`) in a specialist's handler until it returns the settled answer, one
`saver.put` of a small checkpoint that has a parent, and one `app.invoke` with one paid call, in which LangGraph has
one thread at a time, so that threads do not race. It warms each walk up, traces it several times and reports the
shortest. A call counts when a function begins, not when a coroutine or a generator goes on. The caller of a function
is the nearest function of the project, or of this script, below it on its stack. A pair of caller and function that
also runs while a handler only sleeps is a timer's, and does not count. `files` are the project's files in which a
function began, in that order, and `rooms` are their folders. `outside` are the files that belong neither to the
database's room nor to the saver's. `stays` are the calls whose caller is in another file, in this script, or missing
(a thread's first function). `returns` are the returns and raised errors that leave a function for a caller in another
project file.

The source. The script reads each Python file of the package once. `engine` is all but Genie, and `whole` is both.
    code lines           lines without blank lines, comments, docstrings and imports
    docstring lines      all lines from a docstring's first to its last; a string that stands alone is a docstring
    comment lines        lines that hold a comment and nothing else
    nesting              how many `if`, `for`, `while`, `with`, `try` and `match` of one function stand in each other
    Work functions       functions annotated to return `Work[...]`
    modules per folder   Python files of a folder without its `__init__.py`
    public names         distinct names of top-level functions and classes, without those with a leading underscore
    room-to-room edges   pairs of folders, where a file of the first has `from bursar.x.y import` of the second
    two-way pairs        pairs of folders that have an edge each way
    ambiguous classes    class names that more than one file defines
"""

# pyright: reportUnknownMemberType=false

import argparse
import ast
import asyncio
import json
import opcode
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

FOLDERS = ("checkpoints", "genie", "graphs", "nodes", "src/bursar", "state")
GENIE = re.compile(r"genie/|nodes/genie/|graphs/(genie|studio)\.py$")
OLD_DATABASE = "again|connections|database|engines|faults|jobs|libpq|overdue|patience|prepared|shield|snapshot|urls"
OLD_ROOMS = re.compile(rf"checkpoints/(({OLD_DATABASE}|saver)\.py$|saving/)")
NEW_ROOMS = re.compile(r"checkpoints/(database|saver)/")
TRACED, IDLE, IDLE_SECONDS = 5, "idle", 0.5  # in the idle seconds the tracer learns the timers
FOOD, RENT, ANSWER = "how much did I spend on food", "when is the rent due", "You spent 412.80."
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
Figures = dict[str, int | float | list[str]]


@dataclass
class Walk:
    """The measures of one traced piece of work, as the module's docstring defines them."""

    files: list[str] = field(default_factory=list[str])
    outside: list[str] = field(default_factory=list[str])
    rooms: list[str] = field(default_factory=list[str])
    stays: int = 0
    returns: int = 0


class Tracer:
    """A function for `sys.setprofile` that records the calls and returns of the project's functions, in every thread.

    It records only while a block of `walk` with the name `wanted` runs, and adds a `Walk` to `walks` for each.
    """

    def __init__(self, root: Path) -> None:
        self.wanted = ""
        self.walks: list[Walk] = []
        self._root = root
        self._rooms = NEW_ROOMS if (root / "checkpoints/database").is_dir() else OLD_ROOMS
        self._known: dict[CodeType, str] = {}
        self._timers: set[tuple[CodeType, CodeType | None]] = set()
        self._now: Walk | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Count one event of `sys.setprofile`, if a walk is being recorded."""
        walk = self._now
        if walk is None or event not in ("call", "return") or (file := self._file(frame)) in ("", __file__):
            return
        below = frame.f_back
        while below is not None and not self._file(below):
            below = below.f_back
        pair, caller = (frame.f_code, below and below.f_code), self._file(below) if below else ""
        if self.wanted == IDLE:
            self._timers.add(pair)
        if pair in self._timers:
            return
        code, at = frame.f_code.co_code, frame.f_lasti
        if event == "call" and (code[at] != opcode.opmap["RESUME"] or code[at + 1] & 3 == 0):  # 0: not after a wait
            walk.stays += caller != file
            if file not in walk.files:
                walk.files.append(file)
                walk.outside += [] if self._rooms.match(file) else [file]
                walk.rooms += {os.path.dirname(file)} - {*walk.rooms}
        elif event == "return" and code[at] != opcode.opmap["YIELD_VALUE"]:
            walk.returns += caller not in (file, "", __file__)

    @contextmanager
    def walk(self, name: str) -> Generator[None]:
        """Record what the block does if `name` is the wanted walk; otherwise record nothing."""
        walk = Walk()
        if name == self.wanted:
            time.sleep(0.1)  # until other threads have ended the work that earlier blocks left to them
            self._now = walk
            self.walks.append(walk)
        yield
        if self._now is walk:
            self._now = None

    def _file(self, frame: FrameType) -> str:
        """Return the function's file: a path in the project, this script, or "" for any other file and for imports."""
        code = frame.f_code
        if code not in self._known:
            path = Path(os.path.realpath(code.co_filename))
            inside = str(path.relative_to(self._root)) if path.is_relative_to(self._root) else ""
            ours = inside.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and code.co_name != "<module>"
            self._known[code] = __file__ if code.co_filename == __file__ else inside if ours else ""
        return self._known[code]


class PaidModel(BaseChatModel):
    """A model double that answers at once and reports its token usage."""

    max_tokens: int = 50

    @property
    def _llm_type(self) -> str:
        return "paid"

    def _generate(self, messages: list[BaseMessage], *rest: object, **options: object) -> ChatResult:
        usage = {"input_tokens": 20, "output_tokens": 10, "total_tokens": 30}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=ANSWER, usage_metadata=usage))])

    async def _agenerate(self, messages: list[BaseMessage], *rest: object, **options: object) -> ChatResult:
        return self._generate(messages)


def work(tracer: Tracer, url: str) -> dict[str, Callable[[], object]]:
    """Build a supervisor with an async and a sync specialist; return, for each walk, the function that does it once."""
    import bursar

    model = bursar.meter(PaidModel(), price=bursar.Price("1", "2"))

    async def asynchronous(task: bursar.Task) -> bursar.Report:
        await asyncio.sleep(IDLE_SECONDS * (tracer.wanted == IDLE))
        with tracer.walk(IDLE):
            await asyncio.sleep(IDLE_SECONDS * (tracer.wanted == IDLE))
        with tracer.walk("paid call, async"):
            reply = await model.ainvoke(task.text)
        return bursar.Report(answer=reply.text)

    def sync(task: bursar.Task) -> bursar.Report:
        with tracer.walk("paid call, sync"):
            reply = model.invoke(task.text)
        return bursar.Report(answer=reply.text)

    @bursar.deterministic
    def last(task: bursar.Task) -> bursar.Report:
        return bursar.Report(answer="no answer")

    declare = partial(bursar.Specialist, fallbacks=[last], models=[model])
    told = (("async", asynchronous, FOOD), ("sync", sync, RENT))
    specialists = [declare(name=name, description=text, examples=[text], handler=done) for name, done, text in told]
    budget, ledger, saver = bursar.Budget(per_request="0.10"), bursar.Ledger(url), bursar.SQLAlchemySaver(url)
    app = bursar.build_supervisor(specialists, budget=budget, ledger=ledger, checkpointer=saver)

    def ask(question: str) -> None:
        config: RunnableConfig = {"configurable": {"thread_id": os.urandom(8).hex()}, "max_concurrency": 1}
        with tracer.walk("request"):
            answer = app.invoke({"messages": [HumanMessage(question)]}, config)
        assert ANSWER in str(answer["messages"][-1].text), f"the specialist did not answer: {answer}"

    def put() -> None:
        config: RunnableConfig = {"configurable": {"thread_id": os.urandom(8).hex(), "checkpoint_ns": ""}}
        for step, name in enumerate(("first put", "saver.put")):
            checkpoint, version = empty_checkpoint(), saver.get_next_version(step or None, None)
            checkpoint["channel_values"] = {"notes": ["bread"] * (step + 1)}
            checkpoint["channel_versions"] = {"notes": version}
            with tracer.walk(name):
                config = saver.put(config, checkpoint, {"source": "loop", "step": step}, {"notes": version})

    asks = {"paid call, async": partial(ask, FOOD), "paid call, sync": partial(ask, RENT)}
    return {**asks, "saver.put": put, "request": partial(ask, FOOD)}


def trace(root: Path) -> dict[str, Walk]:
    """Trace each walk of the project at `root` several times, and return the shortest trace of each.

    Of equally short traces, return the one whose list of files sorts first: the order of threads may differ.
    """
    tracer, found = Tracer(root), dict[str, Walk]()
    threading.setprofile(tracer)  # before the first thread starts, so that every thread is traced
    sys.setprofile(tracer)
    with tempfile.TemporaryDirectory() as folder:
        for name, once in work(tracer, f"sqlite:///{folder}/books.db").items():
            tracer.wanted = IDLE
            once()
            tracer.wanted, tracer.walks = name, []
            for _ in range(TRACED):
                once()
            sizes = [(len(walk.files), walk.stays, walk.returns) for walk in tracer.walks]
            size, _, found[name] = min(zip(sizes, [walk.files for walk in tracer.walks], tracer.walks, strict=True))
            print(f"{name}: {sizes.count(size)} of {TRACED} walks were as short as the shortest", file=sys.stderr)
    sys.setprofile(None)
    return found


def span(node: ast.stmt) -> set[int]:
    """Return the numbers of the lines that the statement takes."""
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


class Source:
    """One file of the package: its path, its room (the folder), its module, its syntax tree and kinds of lines."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.room, self.text, self.tree = path, os.path.dirname(path), text, ast.parse(text)
        name = path.removeprefix("src/bursar/").removesuffix(".py").removesuffix("__init__").strip("/")
        self.module = f"bursar.{name.replace('/', '.')}".removesuffix(".")
        self.nodes, self.docstrings, imports = list(ast.walk(self.tree)), set[int](), set[int]()
        for node in self.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= span(node)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is not ...:
                self.docstrings |= span(node)
        self.lines = dict(enumerate(map(str.strip, text.splitlines()), 1))
        self.comments = {number for number, line in self.lines.items() if line.startswith("#")} - self.docstrings
        self.code = {number for number, line in self.lines.items() if line} - self.comments - self.docstrings - imports


def depth(statements: Sequence[ast.stmt]) -> int:
    """Return how deep blocks are nested. An `elif` is as deep as its `if`; nested functions do not count."""
    deepest = 0
    for one in (one for one in statements if isinstance(one, BLOCKS)):
        inner: list[list[ast.stmt]] = [getattr(one, part, []) for part in ("body", "orelse", "finalbody")]
        inner += [part.body for part in (*getattr(one, "handlers", ()), *getattr(one, "cases", ()))]
        for body in inner:
            is_elif = body is inner[1] and isinstance(one, ast.If) and body and body[0].col_offset == one.col_offset
            deepest = max(deepest, depth(body) + (not is_elif))
    return deepest


def spread(name: str, numbers: Sequence[int]) -> Figures:
    """Return the median, the 95th percentile by nearest rank and the maximum of `numbers`, under keys with `name`."""
    ranked = sorted(numbers) or [0]
    middle, high = len(ranked) // 2, ranked[-(-95 * len(ranked) // 100) - 1]
    median = (ranked[middle] + ranked[~middle]) / 2
    return {f"{name}, median": median, f"{name}, p95": high, f"{name}, max": ranked[-1]}


def measure(found: Sequence[Source], rooms: dict[str, str]) -> Figures:
    """Return the measures of the source files; `rooms` maps each module of the package to its room."""
    nodes = [node for source in found for node in source.nodes]
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    inner = {one for outer in functions for one in ast.walk(outer) if isinstance(one, FUNCTIONS) and one is not outer}
    explained = [sum(ast.get_docstring(one) is not None for one in those) for those in (functions, classes)]
    returned = [ast.unparse(one.returns) for one in functions if one.returns]
    sizes, lengths = [len(source.lines) for source in found], [len(span(node)) for node in functions]
    total, comments = sum(sizes), sum(len(source.comments) for source in found)
    docstrings = sum(len(source.docstrings) for source in found)
    tops = [node for source in found for node in source.tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
    places = {(node.name, source.path) for source in found for node in source.nodes if isinstance(node, ast.ClassDef)}
    meanings = Counter(name for name, _ in places)
    imports = [(source.room, node) for source in found for node in source.nodes if isinstance(node, ast.ImportFrom)]
    named = [(room, node.module or "", alias.name) for room, node in imports for alias in node.names]
    edges = {(room, rooms.get(f"{module}.{name}") or rooms.get(module, room)) for room, module, name in named}
    pairs = {(one, other) for one, other in edges if one != other}
    return {
        "files": len(found),
        "lines": total,
        "code lines": sum(len(source.code) for source in found),
        **spread("lines of a file", sizes),
        "docstring and comment lines, %": round(100 * (docstrings + comments) / total, 1),
        "comment lines, %": round(100 * comments / total, 1),
        "functions": len(functions),
        **spread("lines of a function", lengths),
        "functions over 60 lines": sum(length > 60 for length in lengths),
        **spread("nesting of a function", [depth(node.body) for node in functions]),
        "functions with a docstring, %": round(100 * explained[0] / len(functions), 1),
        "classes with a docstring, %": round(100 * explained[1] / len(classes), 1),
        "functions inside functions": len(inner),
        "functions inside functions, %": round(100 * len(inner) / len(functions), 1),
        "lambdas per 1,000 lines": round(1000 * sum(isinstance(node, ast.Lambda) for node in nodes) / total, 1),
        "Work functions": sum(name.startswith(("Work[", "'Work[")) for name in returned),
        **spread("modules per folder", [*Counter(one.room for one in found if "__init__" not in one.path).values()]),
        "public names": len({node.name for node in tops if not node.name.startswith("_")}),
        "pyright ignores": len(re.findall(r"# (?:pyright|type): ignore", "".join(source.text for source in found))),
        "room-to-room edges": len(pairs),
        "two-way pairs": sorted(f"{one} <-> {other}" for one, other in pairs if one < other and (other, one) in pairs),
        "ambiguous classes": sorted(f"{name} ({count})" for name, count in meanings.items() if count > 1),
    }


def read(root: Path) -> dict[str, Figures]:
    """Return the measures of the engine's source, of Genie's, and of both; symbolic links are not followed."""
    walked = [Path(place, name) for folder in FOLDERS for place, _, names in os.walk(root / folder) for name in names]
    whole = [Source(str(path.relative_to(root)), path.read_text()) for path in sorted(walked) if path.suffix == ".py"]
    rooms = {source.module: source.room for source in whole if source.module != "bursar"}
    genie = [source for source in whole if GENIE.match(source.path)]
    engine = [source for source in whole if not GENIE.match(source.path)]
    return {name: measure(part, rooms) for name, part in (("engine", engine), ("genie", genie), ("whole", whole))}


def show(traced: dict[str, Walk], measured: dict[str, Figures]) -> None:
    """Print the measures of the traced walks and of the source as text."""
    for name, walk in traced.items():
        counts = f"{len(walk.files)} files (+ outside: {len(walk.outside)}), {len(walk.rooms)} rooms"
        print(f"{name}: {counts}, {walk.stays} stays, {walk.returns} returns")
        print("\n".join(f"  {'+' if file in walk.outside else ' '} {file}" for file in walk.files))
    print(f"\n{'measure':34}" + "".join(f"{column:>10}" for column in measured))
    for name, over in measured["whole"].items():
        cells = [figures[name] for figures in measured.values()]
        print(f"{name:34}" + "".join(f"{len(cell) if isinstance(cell, list) else cell:10g}" for cell in cells))
        if isinstance(over, list):
            print("\n".join(f"  {each}" for each in over))


def main() -> None:
    """Measure a checkout and print its measures as text or JSON."""
    parser = argparse.ArgumentParser(description="Measure the structure of a checkout of Bursar.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], metavar="DIR", help="the checkout")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    root: Path = asked.root.resolve()
    assert (root / "src/bursar").is_dir(), f"there is no bursar package in {root}"
    sys.path.insert(0, str(root / "src"))
    traced, measured = trace(root), read(root)
    if asked.json:
        print(json.dumps({"walks": {name: vars(walk) for name, walk in traced.items()}, "source": measured}, indent=1))
    else:
        show(traced, measured)


if __name__ == "__main__":
    main()
