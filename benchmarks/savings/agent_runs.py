"""Plays agents' runs: each call goes through the gateway with its recorded tokens, within the run's limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.savings.apps import a_specialist, an_app, ask_all
from benchmarks.savings.conversation import RunSeller, prompts
from benchmarks.savings.recorded_model import RecordedModel
from benchmarks.savings.records import AgentRun
from benchmarks.savings.variants import Limits
from bursar import Ledger, Report, Task, meter

DONE = "done"


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that was ended: by which limit, after which spend in nano-dollars, and whether it was to be a success."""

    run: str
    limit: str
    spent: int
    was_success: bool


@dataclass(frozen=True, slots=True)
class RunsPlayed:
    """What was spent on the runs, in nano-dollars, how many did what was asked, and which were stopped.

    `hits` are the input tokens that were read from a cache, of all `input_tokens`.
    """

    spent: int
    successes: int
    runs: int
    stopped: tuple[Stopped, ...]
    input_tokens: int
    hits: int


async def play_runs(
    runs: Sequence[AgentRun], ledger: Ledger, *, tenant: str, limits: Callable[[AgentRun], Limits], clock_first: bool
) -> RunsPlayed:
    """Play the runs, each in a session of its own. The totals are the ledger's."""
    by_name = {run.name: run for run in runs}
    limits_of = {run.name: limits(run) for run in runs}
    kinds = {one: f"agent-{number}" for number, one in enumerate(sorted(set(limits_of.values()), key=repr))}

    async def work(task: Task) -> Report:
        run = by_name[task.text]
        seller = RunSeller(run, clock_first=clock_first)
        model = meter(RecordedModel(seller.answer, model=run.model, seller=run.seller))
        is_whole = True
        for prompt in prompts(run, clock_first=clock_first):
            reply = await model.ainvoke(list(prompt.messages))
            is_whole = is_whole and reply.response_metadata.get("finish_reason") != "length"
        return Report(answer=DONE if is_whole else "cut short")

    app = an_app(
        [a_specialist(name, work, one) for one, name in kinds.items()], ledger, lambda name: kinds[limits_of[name]]
    )
    results = await ask_all(app, tenant, by_name)
    ended = [result["runs"][0] for result in results]
    stopped = [
        Stopped(run.name, end.limit or end.reason or "a lower cap", result["spend"].spent.nanos, run.is_success)
        for run, end, result in zip(runs, ended, results, strict=True)
        if end.report is None or end.report.answer != DONE
    ]
    books = next(row for row in ledger.costs("tenant") if row.name == tenant)
    return RunsPlayed(
        spent=books.spent.nanos,
        successes=sum(run.is_success for run in runs) - sum(one.was_success for one in stopped),
        runs=len(runs),
        stopped=tuple(stopped),
        input_tokens=books.input_tokens,
        hits=books.cache_read_tokens,
    )
