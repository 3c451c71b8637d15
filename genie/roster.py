"""Genie's specialists: a deterministic tool each, a model to word its findings if there is one, a last resort."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

from langchain_core.language_models import BaseChatModel

from bursar.genie.agents.account_analysis.analysis import analyse
from bursar.genie.agents.database_connector.listing import answer
from bursar.genie.agents.fraud_detection.detection import detect
from bursar.genie.agents.investment_recommendation.recommendation import recommend
from bursar.genie.agents.risk_assessment.assessment import assess
from bursar.genie.agents.tax_optimisation.optimisation import optimise
from bursar.genie.examples import descriptions, examples
from bursar.genie.household.source import Source
from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.model_specialist import worded
from bursar.genie.wording.reporting import report_of
from bursar.nodes.specialists.definition import Specialist, deterministic
from bursar.state.money import USD
from bursar.state.run import Report, Task

# Each answers a question over the user's data on a given day, by functions alone.
TOOLS: Mapping[str, Callable[..., Analysis]] = {
    "account_analysis": analyse,
    "fraud_detection": detect,
    "risk_assessment": assess,
    "investment_recommendation": recommend,
    "tax_optimisation": optimise,
    "database_connector": answer,
}
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
    """Genie's routed specialists over one household; `today` is the day an analysis is judged on.

    A specialist's ceiling is never above `budget`, that of a request. Without a model every one is a tool agent. With
    one, the model words the findings, and the tool is its fallback. The database connector gates: it has no model and
    no fallback.
    """
    cap = USD(CEILING) if budget is None else min(USD(CEILING), budget)
    return [_specialist(name, source, today, model, cap=cap) for name in TOOLS]


def _specialist(
    name: str, source: Source, today: Callable[[datetime], date], model: BaseChatModel | None, *, cap: USD
) -> Specialist:
    def tool(task: Task, question: str) -> Analysis:
        return TOOLS[name](source, question, today=today(task.now))

    @deterministic
    def templated(task: Task) -> Report:
        return report_of(tool(task, task.text))

    description, asked = descriptions()[name], examples()[name]
    if name == "database_connector":
        return Specialist(
            name=name, description=description, handler=templated, examples=asked, timeout=TIMEOUT_SECONDS
        )
    fallbacks: Sequence[Callable[[Task], Report]] = (unavailable,) if model is None else (templated, unavailable)
    return Specialist(
        name=name,
        description=description,
        handler=templated if model is None else worded(name, description, tool, model),
        ceiling=cap.dollars,
        expected_cost=None if model is None else min(cap, USD(EXPECTED_COST)).dollars,
        timeout=TIMEOUT_SECONDS,
        fallbacks=fallbacks,
        examples=asked,
        models=() if model is None else (model,),
    )


@deterministic
def unavailable(task: Task) -> Report:
    """The last resort: says what is not to be had and as of when. No model, no network, no data, no money moved."""
    title = task.specialist.replace("_", " ")
    return Report(
        answer=f"There is no {title} for this request as of {task.now:%Y-%m-%d %H:%M} UTC. Nothing was changed.",
        confidence=0.0,
    )
