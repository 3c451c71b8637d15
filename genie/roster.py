"""Lists Genie's agents and makes a specialist of each: a deterministic tool, a model that words the tool's findings
(if there is a model), and a last resort.
"""

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from langchain_core.language_models import BaseChatModel

from bursar import USD, Report, Specialist, Task, deterministic
from bursar.genie.agents.account_analysis.agent import AGENT as ACCOUNT_ANALYSIS
from bursar.genie.agents.base import Agent
from bursar.genie.agents.database_connector.agent import AGENT as DATABASE_CONNECTOR
from bursar.genie.agents.fraud_detection.agent import AGENT as FRAUD_DETECTION
from bursar.genie.agents.investment_recommendation.agent import AGENT as INVESTMENT_RECOMMENDATION
from bursar.genie.agents.risk_assessment.agent import AGENT as RISK_ASSESSMENT
from bursar.genie.agents.tax_optimisation.agent import AGENT as TAX_OPTIMISATION
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.model_specialist import model_handler
from bursar.genie.wording.reporting import report_of

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
EXPECTED_COST = "0.003"  # two calls of a small model: one that asks the tool, one that words its findings
TIMEOUT_SECONDS = 30.0


def specialists(
    source: Source,
    *,
    today: Callable[[datetime], date],
    model: BaseChatModel | None = None,
    budget: USD | None = None,
) -> list[Specialist]:
    """Return Genie's specialists over the household's data in `source`.

    `today` returns, for a task's time, the day that an analysis takes as the present. A specialist's ceiling is
    `CEILING`, or the request's `budget` if that is less. Without a model, each specialist is a tool agent. With a
    model, the model words the tool's findings, and the tool alone is the fallback. An agent that is `tool_only` has
    neither a model nor a fallback.
    """
    cap = USD(CEILING) if budget is None else min(USD(CEILING), budget)
    return [_specialist(agent, source, today, model, cap=cap) for agent in AGENTS]


def _specialist(
    agent: Agent, source: Source, today: Callable[[datetime], date], model: BaseChatModel | None, *, cap: USD
) -> Specialist:
    def tool(task: Task, question: str) -> Analysis:
        return agent.analyse(source, question, today=today(task.now))

    @deterministic
    def templated(task: Task) -> Report:
        return report_of(tool(task, task.text))

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
        handler=templated if model is None else model_handler(agent.name, agent.description, tool, model),
        ceiling=cap.dollars,
        expected_cost=None if model is None else min(cap, USD(EXPECTED_COST)).dollars,
        timeout=TIMEOUT_SECONDS,
        fallbacks=(unavailable,) if model is None else (templated, unavailable),
        examples=agent.examples,
        models=() if model is None else (model,),
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
