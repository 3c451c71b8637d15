"""Plays a block of conversations through Genie, over a database and a provider of the block's own."""

import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest.mock import patch

from benchmarks.mix.behaviour import Conduct
from benchmarks.mix.drawing import Drawn, draw
from benchmarks.mix.judging import Answered, misses, names_rule, states_figure
from benchmarks.mix.mix_file import Mix, read_mix
from benchmarks.mix.model_server import ModelServer
from benchmarks.mix.truths import Household, read_household
from benchmarks.postgres import a_postgres_database
from bursar import Candidate, ExampleRouter, Run, SessionOutput
from bursar.genie import roster
from bursar.genie.app import Genie, open_genie
from bursar.genie.household.sample import END, sample_files

BLOCK = 100  # conversations
NANOS = 1_000_000_000
# The first request of a process loads libraries and teaches the router. On a machine that other work fills, that alone
# takes longer than the router may; so the first request is none of the mix.
FIRST = Drawn(
    kind="first",
    question="what should I invest in",
    agents=("investment_recommendation",),
    disclosure=None,
    figure=None,
    denied_by=None,
    behaviour="sound",
    secrets=(),
    seed=0,
)
# Agents have a deadline of 30 seconds on the wall clock. A busy machine would end agents that do not wait for a model.
DEADLINE_SECONDS = 900.0
BEGIN = datetime(2026, 1, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the mix is played: how often the paid share, the model, the share of the latencies, and the database."""

    paid_times: int = 1
    model: str = "gpt-4o-mini"
    latency: float = 0.0
    postgresql: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A request that was played. Costs are in nano-dollars, `seconds` is what the model takes by the mix."""

    kind: str
    behaviour: str
    question: str
    charged: int
    billed: int
    calls: int
    unknown: int
    input_tokens: int
    output_tokens: int
    seconds: float
    agents: tuple[str, ...]
    refused: bool
    cut: bool
    gaps: bool
    states: bool | None
    names_rule: bool | None
    misses: tuple[str, ...]


class VirtualClock:
    """A clock that stands still until it is moved, so that a run does not depend on how fast the machine is."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        """Return its time."""
        return self.now

    def move(self, minutes: int) -> None:
        """Let so many minutes pass."""
        self.now += timedelta(minutes=minutes)


@dataclass(frozen=True, slots=True)
class Stage:
    """What the conversations of a block are played with."""

    genie: Genie
    server: ModelServer
    clock: VirtualClock
    mix: Mix
    household: Household


def play_block(block: int, conversations: int, settings: Settings) -> list[dict[str, Any]]:
    """Play so many conversations of the block with this number, and return its requests as dicts of `Played`."""
    warnings.simplefilter("ignore")
    with _stage(settings) as stage:
        numbers = range(block * BLOCK, block * BLOCK + conversations)
        return [asdict(one) for number in numbers for one in _converse(stage, number, settings.paid_times)]


@contextmanager
def _stage(settings: Settings) -> Generator[Stage]:
    """Yield a Genie over the sample household in a new database, with its model at a server of its own.

    Unless latencies are played, agents have `DEADLINE_SECONDS`.
    """
    mix, clock = read_mix(), VirtualClock()
    server = ModelServer(bytes_each=mix.tokens.bytes_each, scale=settings.latency)
    deadline = roster.TIMEOUT_SECONDS if settings.latency else DEADLINE_SECONDS
    environment = {"OPENAI_API_KEY": "mix", "OPENAI_BASE_URL": server.url, "BURSAR_MODEL": settings.model}
    try:
        with _database(postgresql=settings.postgresql) as url:
            with patch.object(roster, "TIMEOUT_SECONDS", deadline):  # it is read when a Genie opens
                genie = open_genie(url, budget=str(mix.budget), clock=clock, as_of=END, environment=environment)
            try:
                genie.import_files(list(sample_files()))
                ExampleRouter().fit([Candidate("first", "loads what a router needs")])
                server.begin(Conduct(FIRST, mix.tokens, mix.latency))
                genie.ask(FIRST.question, FIRST.kind)
                yield Stage(genie, server, clock, mix, read_household())
            finally:
                genie.close()
    finally:
        server.close()


@contextmanager
def _database(*, postgresql: bool) -> Generator[str]:
    """Yield the URL of a new database. Raises `RuntimeError` if it is to be PostgreSQL's and no server answers."""
    if not postgresql:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/genie.db"
        return
    with a_postgres_database() as url:
        if url is None:
            raise RuntimeError("no PostgreSQL server answers on 127.0.0.1")
        yield url


def _converse(stage: Stage, number: int, paid_times: int) -> list[Played]:
    """Play the conversation with this number in a session of its own, and return its requests."""
    session = f"mix-{number}"
    stage.clock.move(stage.mix.minutes_between)
    spent = unknown = 0
    played: list[Played] = []
    for drawn in draw(stage.mix, stage.household, number, paid_times=paid_times):
        stage.server.begin(Conduct(drawn, stage.mix.tokens, stage.mix.latency))
        output = stage.genie.ask(drawn.question, session)
        books = stage.genie.ledger.spend(session)
        if books.held.nanos:
            raise RuntimeError(f"{session} holds {books.held} after its answer")
        booked = books.spent.nanos - spent, books.unknown - unknown
        played.append(_judged(drawn, output, stage.server, stage.mix, booked))
        spent, unknown = books.spent.nanos, books.unknown
    return played


def _judged(drawn: Drawn, output: SessionOutput, server: ModelServer, mix: Mix, booked: tuple[int, int]) -> Played:
    charged, unknown = booked
    reports = cast("Mapping[str, object]", output["reports"])
    runs = cast("Sequence[Run]", output["runs"])
    answered = Answered(
        text=output["messages"][-1].text,
        agents=sorted(reports),
        charged=charged,
        billed=server.billed,
        budget=int(mix.budget * NANOS),
        received=server.received,
    )
    return Played(
        kind=drawn.kind,
        behaviour=drawn.behaviour if server.calls else "not asked",
        question=drawn.question,
        charged=charged,
        billed=server.billed,
        calls=server.calls,
        unknown=unknown,
        input_tokens=server.input_tokens,
        output_tokens=server.output_tokens,
        seconds=server.seconds,
        agents=tuple(answered.agents),
        refused=not reports,
        cut=any(run.outcome == "exhausted" for run in runs),
        gaps=bool(output["gaps"]),
        states=states_figure(drawn, answered.text),
        names_rule=names_rule(drawn, answered.text),
        misses=tuple(misses(drawn, answered)),
    )
