"""Lists Genie's agents and makes a specialist of each: a deterministic tool, a model that words the tool's findings
(if there is a model), and a last resort.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Final

from langchain_core.language_models import BaseChatModel

from bursar import USD, Choose, Report, Specialist, Task, deterministic
from bursar.genie.agents.account_analysis.agent import AGENT as ACCOUNT_ANALYSIS
from bursar.genie.agents.base import Agent
from bursar.genie.agents.database_connector.agent import AGENT as DATABASE_CONNECTOR
from bursar.genie.agents.fraud_detection.agent import AGENT as FRAUD_DETECTION
from bursar.genie.agents.investment_recommendation.agent import AGENT as INVESTMENT_RECOMMENDATION
from bursar.genie.agents.risk_assessment.agent import AGENT as RISK_ASSESSMENT
from bursar.genie.agents.tax_optimisation.agent import AGENT as TAX_OPTIMISATION
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.model_specialist import Objections, Tool, model_handler, no_objections
from bursar.genie.wording.reporting import report_of
from bursar.genie.wording.stakes import by_value

# The agents that the router can choose. The compliance checker is not among them: it is the supervisor's gate.
AGENTS: Final = (
    ACCOUNT_ANALYSIS,
    FRAUD_DETECTION,
    RISK_ASSESSMENT,
    INVESTMENT_RECOMMENDATION,
    TAX_OPTIMISATION,
    DATABASE_CONNECTOR,
)
CEILING = "0.01"
CEILING_AT_STAKE = "0.02"  # of an agent with a stake: a small model's words, and a careful one's in their place
CEILING_OF_CAREFUL = "0.015"
EXPECTED_COST = "0.003"  # two calls of a small model: one that asks the tool, one that words its findings
TIMEOUT_SECONDS = 30.0

Rule = Callable[[Task], Report]
Worded = Callable[[Task], Awaitable[Report]]


def specialists(
    source: Source,
    *,
    today: Callable[[datetime], date],
    model: BaseChatModel | None = None,
    careful: BaseChatModel | None = None,
    budget: USD | None = None,
    objections: Objections = no_objections,
) -> list[Specialist]:
    """Return Genie's specialists over the household's data in `source`.

    `today` returns, for a task's time, the day that an analysis takes as the present. A specialist's ceiling is
    `CEILING`, or the request's `budget` if that is less. Without a model, each specialist is a tool agent. With a
    model, the model words the tool's findings, and the tool alone is the fallback. An agent that is `tool_only` has
    neither a model nor a fallback. An agent with a stake asks the model only if something is at stake, and the dearer
    model `careful` where the first one's words do not hold and that is worth it; its ceiling is `CEILING_AT_STAKE`.
    A model's words with a reason in `objections` do not hold.
    """
    models = tuple(one for one in (model, careful) if one is not None) if model is not None else ()
    return [_specialist(agent, source, today, models, budget, objections=objections) for agent in AGENTS]


def _specialist(
    agent: Agent,
    source: Source,
    today: Callable[[datetime], date],
    models: Sequence[BaseChatModel],
    budget: USD | None,
    *,
    objections: Objections,
) -> Specialist:
    cap = USD(CEILING_AT_STAKE if models and agent.stake is not None else CEILING)
    cap = cap if budget is None else min(cap, budget)

    def tool(task: Task, question: str) -> Analysis:
        return agent.analyse(source, question, today=today(task.now))

    @deterministic
    def templated(task: Task) -> Report:
        return report_of(tool(task, task.text))

    words = [partial(model_handler, model=one, objections=objections) for one in models]
    if agent.tool_only:
        return Specialist(
            name=agent.name,
            description=agent.description,
            handler=templated,
            examples=agent.examples,
            timeout=TIMEOUT_SECONDS,
        )
    return Specialist(
        name=agent.name,
        description=agent.description,
        handler=_worded(agent, tool, templated, words, cap=cap) if models else templated,
        ceiling=cap.dollars,
        expected_cost=min(cap, USD(EXPECTED_COST)).dollars if models else None,
        timeout=TIMEOUT_SECONDS,
        fallbacks=(templated, unavailable) if models else (unavailable,),
        examples=agent.examples,
        models=models if agent.stake is not None else models[:1],
    )


def _worded(
    agent: Agent, tool: Tool, templated: Rule, words: Sequence[Callable[[str, str, Tool], Worded]], *, cap: USD
) -> Worded | Choose:
    """Return the handler of an agent whose findings a model words: the first, or by what is at stake."""
    first, *others = [handler_of(agent.name, agent.description, tool) for handler_of in words]
    stake = agent.stake
    if stake is None:
        return first

    def rung(handler: Rule | Worded, ceiling: str = CEILING) -> Specialist:
        most = min(cap, USD(ceiling)).dollars
        return Specialist(name=agent.name, description=agent.description, handler=handler, ceiling=most)

    careful = [rung(handler, CEILING_OF_CAREFUL) for handler in others]
    return by_value(
        rung(templated), rung(first), careful[0] if careful else None, lambda task: stake(tool(task, task.text))
    )


@deterministic
def unavailable(task: Task) -> Report:
    """Return a report that says that the specialist has no answer at this time, with confidence 0.

    This is the last resort: it asks no model, opens no connection, reads no data and moves no money.
    """
    title = task.specialist.replace("_", " ")
    return Report(
        answer=f"There is no {title} for this request as of {task.now:%Y-%m-%d %H:%M} UTC. Nothing was changed.",
        confidence=0.0,
    )
