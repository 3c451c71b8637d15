"""What is quoted holds: no run passes the worst case, and known agents cost about what is expected of them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bursar import USD, Budget, Ledger, Report, Specialist, Task
from tests.graphs.quotes.test_quotes import ASKED, paying, quoting
from tests.support.graphs import ask, priced, rules, scripted, session, specialist, words

NAMES = ("a", "b", "c", "d")
RUNS_BEFORE = 20


@dataclass(frozen=True)
class Agent:
    """A random agent: what it needs, who answers if it fails, how often it asks for how many words, how it ends."""

    needs: Sequence[str]
    fallback: str
    calls: int
    words: int
    fails: bool
    ceiling: int
    expects: int


@st.composite
def applications(draw: st.DrawFn) -> dict[str, Agent]:
    """Draw agents. One needs and falls back on only those before it, so that there is no cycle."""
    agents: dict[str, Agent] = {}
    for place, name in enumerate(NAMES):
        others = st.sampled_from(("", *NAMES[:place]))
        needs = tuple({other for other in draw(st.lists(others, max_size=2)) if other})
        ceiling = draw(st.integers(1, 8))
        agents[name] = Agent(
            needs=needs,
            fallback=draw(others),
            calls=draw(st.integers(0, 3)),
            words=draw(st.integers(1, 5)),
            fails=draw(st.booleans()),
            ceiling=ceiling,
            expects=draw(st.integers(0, ceiling)),
        )
    return agents


def made(name: str, agent: Agent) -> Specialist:
    """Return the agent, which goes on asking until it has asked enough or is stopped."""
    model = priced(scripted(*[words(agent.words)] * 20), words=5, least=1)

    def handler(task: Task) -> Report:
        for number in range(agent.calls):
            model.invoke(f"{task.specialist} {number}")
        if agent.fails:
            raise ValueError
        return Report(answer="done")

    return specialist(
        name,
        handler,
        needs=agent.needs,
        ceiling=USD.from_nanos(agent.ceiling * 1_000_000).dollars,
        expected_cost=USD.from_nanos(agent.expects * 1_000_000).dollars,
        fallbacks=[agent.fallback or rules],
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(applications(), st.integers(8, 40))
def test_no_run_costs_more_than_its_quote(agents: dict[str, Agent], budget: int) -> None:
    """Whatever fails and whoever answers instead, no step and no request passes the worst case that was quoted."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{Path(folder) / 'books.db'}")
        app = quoting(ledger, [made(name, agent) for name, agent in agents.items()], budget=Budget(f"0.{budget:03}"))
        quote = app.quote(ASKED, session())
        assert quote.expected <= quote.left
        assert quote.worst <= quote.left
        result = ask(app)
        assert ledger.spend("s-1").spent <= quote.worst
        for step in quote.steps:
            runs = [run for run in result["runs"] if run.step == step.name]
            assert sum((run.cost for run in runs), USD(0)) <= step.worst
            assert not runs or runs[0].handler == step.starts
        ledger.close()


@pytest.mark.parametrize("lengths", [(8, 12, 10, 9, 11), (18, 20, 19, 16), (3,)])
def test_known_agents_cost_about_what_is_expected(any_ledger: Ledger, lengths: Sequence[int]) -> None:
    """After twenty runs that differ less than that, each of the next ones is within 30 % of what its quote expects."""
    told = [lengths[number % len(lengths)] for number in range(RUNS_BEFORE + len(lengths))]
    agents = [specialist(name, paying(*told), ceiling="0.025") for name in "ab"]
    app = quoting(any_ledger, agents, budget=Budget("0.05"))
    for number in range(RUNS_BEFORE):
        ask(app, name=f"s-{number}")
    for number in range(len(lengths)):
        quote = app.quote(ASKED, session(f"next-{number}"))
        ask(app, name=f"next-{number}")
        real = any_ledger.spend(f"next-{number}").spent.nanos
        assert real > 0
        assert abs(quote.expected.nanos - real) <= 0.3 * real


def test_an_agent_that_nobody_knows_is_quoted_at_a_quarter_of_its_ceiling(any_ledger: Ledger) -> None:
    """Without runs in the books a quote expects what the guardian does; the worst case is the whole ceiling."""
    app = quoting(any_ledger, [specialist("a", paying(3), ceiling="0.02")])
    quote = app.quote(ASKED, session())
    assert (quote.expected, quote.worst) == (USD("0.005"), USD("0.02"))
