"""Drills find what is wrong, and nothing where nothing is; Genie's agents may all be killed."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from langchain_openai import ChatOpenAI

from bursar import (
    Budget,
    Cascade,
    Drill,
    DrillEnvironment,
    Ledger,
    Report,
    Specialist,
    Task,
    build_supervisor,
    deterministic,
    drill,
    meter,
)
from bursar.checkpoints.saver.saver import SQLAlchemySaver
from bursar.genie.app import Genie, open_genie
from bursar.genie.household.sample import END, sample_files
from bursar.genie.roster import AGENTS
from bursar.graphs.supervisor import coordinator_of, with_coordinator
from bursar.state.errors import ConfigurationError
from bursar.testing import DrillResult, ScriptedModel, drill_runner
from bursar.testing.drill_faults import FAULTS, OF_COORDINATOR
from bursar.testing.drill_runner import WAYS, Way
from tests.support.graphs import RouteTo, rules

pytestmark = pytest.mark.slow

# Only what hangs waits, and only for the agent's or the router's share. All else has half a minute for milliseconds of
# work. A fault that hangs lasts longer than that: without the short deadline, the answer would be late.
DEADLINE_SECONDS = 30.0
SHARE = 0.02
HANGING_PROVIDER_SECONDS = 15.0  # the agent's default share of this is enough to reach the provider


def _graph(ground: DrillEnvironment, last_resort: Any = rules) -> Any:
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key=lambda: "none", base_url=ground.provider))

    async def spending(task: Task) -> Report:
        return Report(answer=(await model.ainvoke(task.text)).text)

    @deterministic
    def tool(task: Task) -> Report:
        return Report(answer="by a tool")

    ledger = Ledger(ground.database)
    return build_supervisor(
        [
            Specialist(name="spending", description="Where it goes", handler=spending, fallbacks=[last_resort]),
            Specialist(name="tool", description="A tool", handler=tool, fallbacks=[last_resort]),
        ],
        budget=Budget("0.03"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(ledger.database),
        router=RouteTo(),
    )


def _failed(cells: Sequence[DrillResult]) -> list[DrillResult]:
    return [cell for cell in cells if not cell]


@pytest.fixture
def short_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadlines of agent and router are a small share of the request's."""
    monkeypatch.setattr(drill_runner, "AGENT_SHARE", SHARE)
    monkeypatch.setattr(drill_runner, "ROUTER_SHARE", SHARE)


@pytest.mark.usefixtures("short_shares")
def test_a_graph_of_ones_own_is_drilled() -> None:
    """An agent under every fault, and the router: all answered, and a cell for each."""
    faults = [fault.name for fault in FAULTS if fault.provider != "hang"]
    found = drill(_graph, agents=["spending", "supervisor"], faults=faults, deadline=DEADLINE_SECONDS)
    assert _failed(found.cells) == []
    assert found
    assert [cell for cell in found.cells if cell.skipped] == []
    assert len(found.cells) == len(faults) + 1 + len(OF_COORDINATOR)


def _cascading(ground: DrillEnvironment) -> Any:
    key: Any = "none"
    model = meter(ChatOpenAI(model="gpt-4o-mini", api_key=key, base_url=ground.provider))
    cascade = Cascade({"rules": rules, "model": model}, accept=lambda report: "rule" not in report.answer, stake="50")
    ledger = Ledger(ground.database)
    return build_supervisor(
        [Specialist(name="spending", description="Where it goes", handler=cascade, fallbacks=[rules])],
        budget=Budget("0.03"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(ledger.database),
        router=RouteTo(),
    )


@pytest.mark.usefixtures("short_shares")
def test_a_cascade_is_drilled() -> None:
    """Whatever fails in it, the request is answered; a provider that fails leaves the free rung's answer."""
    faults = [fault.name for fault in FAULTS if fault.provider != "hang"]
    found = drill(_cascading, agents=["spending"], faults=faults, deadline=DEADLINE_SECONDS)
    assert _failed(found.cells) == []
    assert [cell for cell in found.cells if cell.skipped] == []


@pytest.mark.parametrize("way", WAYS)
def test_a_provider_that_hangs_is_drilled(way: Way) -> None:
    """The agent ends at its deadline, and its fallback answers."""
    found = drill(_graph, agents=["spending"], faults=["provider hang"], deadline=HANGING_PROVIDER_SECONDS, way=way)
    assert _failed(found.cells) == []
    assert [(cell.fault, cell.answered_by, cell.skipped) for cell in found.cells] == [
        ("none", "", ""),
        ("provider hang", "rules", ""),
    ]
    assert found.cells[1].seconds > HANGING_PROVIDER_SECONDS * drill_runner.AGENT_SHARE / 2


def test_a_late_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes at the agent's deadline at the earliest. If that is more than is allowed, the drill says so."""
    monkeypatch.setattr(drill_runner, "ALLOWED_SHARE", drill_runner.AGENT_SHARE / 2)
    found = drill(_graph, agents=["tool"], faults=["hang"], deadline=1.0)
    assert not found
    cell = found.cells[-1]
    assert cell.fault == "hang"
    assert any(re.fullmatch(r"the answer took \d+\.\d\d s, 0\.15 are allowed", one) for one in cell.problems)


@pytest.mark.usefixtures("short_shares")
@pytest.mark.parametrize(("way", "skipped"), [("async", ["blocked loop", "CPU spin"]), ("apart", ["CPU spin"])])
def test_a_graph_is_drilled_on_an_event_loop(way: Way, skipped: list[str]) -> None:
    """All is answered; what blocks the caller's own loop is told as not promised: a router, and an agent not apart."""
    faults = ["hang", "blocked loop", "CPU spin", "swallowed cancellation", "database down"]
    found = drill(_graph, agents=["spending", "supervisor"], faults=faults, deadline=DEADLINE_SECONDS, way=way)
    assert _failed(found.cells) == []
    assert found
    assert [cell.fault for cell in found.cells if cell.skipped.startswith("not promised")] == skipped
    assert [cell.fault for cell in found.cells if cell.agent == "spending"] == ["none", *faults]


def test_a_tool_agent_asks_no_provider() -> None:
    """What cannot happen to an agent is skipped, and a drill that did nothing has proven nothing."""
    found = drill(_graph, agents=["tool"], faults=["provider 500", "low confidence"], deadline=DEADLINE_SECONDS)
    assert found
    assert [cell.skipped for cell in found.cells] == ["", "", "it asks no provider"]
    assert not Drill(1.0, found.cells[2:])


def test_a_drill_finds_what_is_wrong() -> None:
    """A last resort that fails, and one that pays, do not pass."""

    @deterministic
    def broken(task: Task) -> Report:
        raise OSError

    @deterministic
    def asks_a_model(task: Task) -> Report:
        return Report(answer=meter(ScriptedModel(replies=["x"])).invoke("x").text)

    for last_resort in (broken, asks_a_model):
        found = drill(
            lambda ground: _graph(ground, last_resort),  # noqa: B023
            agents=["tool"],
            faults=["exception"],
            deadline=DEADLINE_SECONDS,
        )
        assert not found
        [cell] = _failed(found.cells)
        assert "the answer does not say who answered instead" in cell.problems


def test_a_copy_with_a_fault_leaves_the_graph_as_it_is() -> None:
    """Another coordinator leads the copy; name, checkpointer and the caller's own configuration are the graph's."""
    app = _graph(DrillEnvironment("sqlite://", "http://127.0.0.1:9/v1")).with_config(configurable={"tenant": "acme"})
    copy: Any = with_coordinator(app, replace(coordinator_of(app), timeout=1.0))
    assert (coordinator_of(app).timeout, coordinator_of(copy).timeout) == (None, 1.0)
    assert (copy.name, copy.checkpointer, copy.config) == (app.name, app.checkpointer, app.config)
    assert type(copy) is type(app)


def test_an_unknown_fault_is_named() -> None:
    """A typing error is told with what there is."""
    with pytest.raises(ConfigurationError, match="no fault earthquake; there are exception, hang"):
        drill(_graph, faults=["earthquake"])
    with pytest.raises(ConfigurationError, match="no agent ghost; there are spending, tool, supervisor"):
        drill(_graph, agents=["ghost"])
    with pytest.raises(ConfigurationError, match="no way sideways; there are sync, async, apart"):
        drill(_graph, way=cast("Way", "sideways"))


def _killed(genie: Genie, victim: str, error: BaseException, *, routed: tuple[str, ...]) -> Genie:
    """Genie with an agent whose own handler raises, and with a router that chooses these agents."""

    @deterministic
    def raises(task: Task) -> Report:
        raise error

    coordinator = coordinator_of(genie.app)
    chain = coordinator.chains[victim]
    links = (replace(chain.links[0], handler=raises), *chain.links[1:])
    chains = {**coordinator.chains, victim: replace(chain, links=links)}
    faulty = replace(coordinator, chains=chains, router=RouteTo(routed))
    return replace(genie, app=with_coordinator(genie.app, faulty))


@pytest.mark.parametrize("victim", [agent.name for agent in AGENTS if not agent.tool_only])
def test_genie_answers_whoever_is_killed(victim: str) -> None:
    """Own handler and every fallback but the last of an agent raise: the answer is there, and names the gap."""

    genie = open_genie("sqlite://", as_of=END, environment={}, checkpointer=False)
    genie.import_files(list(sample_files()))
    others = tuple(a.name for a in AGENTS if not a.tool_only and a.name != "investment_recommendation")
    genie = _killed(genie, victim, SystemExit("killed"), routed=(*others, victim))
    result = genie.ask("Where did my money go, and what should I do about it?", "s-1")
    ends = {run.specialist: run.outcome for run in result["runs"] if run.level == 0}
    assert ends.pop(victim) == "failed"
    assert set(ends.values()) == {"completed"}
    [gap] = [gap for gap in result["gaps"] if gap.startswith(f"{victim}: it failed with an error (reference ")]
    assert "; unavailable answered" in gap
    assert gap in result["messages"][-1].text
    assert genie.ledger.verify("s-1")
    genie.close()


def test_genies_database_gate_fails_closed() -> None:
    """Where the household's data cannot be read nobody answers in its place: the answer says so, and has no numbers."""

    genie = open_genie("sqlite://", as_of=END, environment={}, checkpointer=False)
    genie.import_files(list(sample_files()))
    error = ConnectionError("no such host")
    genie = _killed(genie, "database_connector", error, routed=("database_connector",))
    result = genie.ask("List my transactions in November", "s-1")
    [run] = result["runs"]
    assert (run.level, run.outcome, run.report) == (0, "failed", None)
    assert result["ending"] == "answered_with_gaps"
    text = result["messages"][-1].text
    assert "database_connector: it failed with an error (reference " in text
    assert "no such host" not in text
    assert "$" not in text
    assert genie.ledger.verify("s-1")
    genie.close()
