"""The handler of a specialist with a model.

The model calls the deterministic tool and words what the tool found. It does no arithmetic.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio.to_thread
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, Field, ValidationError

from bursar import Report, Task
from bursar.genie.wording.facts import Analysis, Fact
from bursar.genie.wording.grounding import choose, numbers
from bursar.genie.wording.identifiers import mask
from bursar.genie.wording.reporting import all_facts, report_of

MAX_TOOL_ROUNDS = 3
MAX_FACTS_SHOWN = 200

INSTRUCTIONS = """You are Genie's {title} specialist: {description}
Call `look_up` with the question, narrowed to what concerns you, before you answer.
Answer in at most six short sentences, in plain words, from what the tool returned alone.
Repeat its numbers exactly as it wrote them. Never add, subtract, average, round or estimate.
Where the tool says that something is missing, say so."""


class look_up(BaseModel):  # noqa: N801 - the name the model calls
    """Compute the answer to a question about the user's own data. Returns text and facts; all arithmetic is here."""

    question: str = Field(description="What to compute, with its period, e.g. 'spending by category in March 2025'")


Tool = Callable[[Task, str], Analysis]
Objections = Callable[[str], tuple[str, ...]]  # the reasons why words may not be shown; none if they may


def no_objections(words: str) -> tuple[str, ...]:
    """Return no reason against any words."""
    return ()


def model_handler(
    name: str, description: str, tool: Tool, model: BaseChatModel, *, objections: Objections = no_objections
) -> Callable[[Task], Awaitable[Report]]:
    """Return a handler in which the model calls `tool` and words the tool's findings.

    Every number in the model's words must match a fact that the tool returned, or a number of the request; otherwise
    the tool's own text is the answer. So it is if `objections` has a reason against the words. Identifiers are masked
    before anything is sent to the model.
    """
    system = INSTRUCTIONS.format(title=name.replace("_", " "), description=description)

    async def handler(task: Task) -> Report:
        chat = model.bind_tools([look_up])
        messages: list[BaseMessage] = [SystemMessage(system), HumanMessage(mask(task.text))]
        analyses: list[Analysis] = []
        for _ in range(MAX_TOOL_ROUNDS):
            reply = await chat.ainvoke(messages)
            if not reply.tool_calls:
                return await _answer(tool, task, reply.text, analyses, objections)
            messages.append(reply)
            messages += [await _look_up(tool, task, dict(call), analyses) for call in reply.tool_calls]
        return await _answer(tool, task, "", analyses, objections)

    handler.__name__ = name
    return handler


async def _look_up(tool: Tool, task: Task, call: dict[str, Any], analyses: list[Analysis]) -> ToolMessage:
    """Run the model's tool call, add the analysis to `analyses`, and return the masked message for the model.

    If the arguments do not fit, run nothing and return a message that says what is wrong with the arguments.
    """
    try:
        asked = look_up.model_validate(call["args"])
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]["msg"]
        return ToolMessage(f"not understood: {problem}", tool_call_id=str(call["id"]), status="error")
    analysis = await anyio.to_thread.run_sync(tool, task, asked.question)
    analyses.append(analysis)
    return ToolMessage(mask(_shown(analysis)), tool_call_id=str(call["id"]))


def _shown(analysis: Analysis) -> str:
    facts = "\n".join(f"{f.key} = {f.value}{f' {f.currency}' if f.currency else ''}" for f in _some(analysis))
    gaps = "\n".join(analysis.gaps)
    return f"{analysis.text}\n\nFacts:\n{facts}\n\nMissing:\n{gaps or 'nothing'}"


def _some(analysis: Analysis) -> Sequence[Fact]:
    return all_facts(analysis)[:MAX_FACTS_SHOWN]


async def _answer(tool: Tool, task: Task, words: str, analyses: Sequence[Analysis], objections: Objections) -> Report:
    """Return the report that answers the request with the model's `words` or, failing that, with the tool's own text.

    The report has `words` if the model called the tool, every number in `words` is a fact or is in the request, and
    nothing is objected to them. Otherwise the report has the tool's own answer to the request.
    """
    own = await anyio.to_thread.run_sync(tool, task, task.text)
    facts = tuple(dict.fromkeys(fact for analysis in (*analyses, own) for fact in all_facts(analysis)))
    text, reasons = choose(own.text, words if analyses else "", facts, numbers(task.text))
    if not reasons and (reasons := objections(words)):
        text = own.text
    report = report_of(
        Analysis(
            text=text,
            facts=facts,
            findings=own.findings,
            gaps=own.gaps,
            confidence=own.confidence,
            tables=own.tables,
        )
    )
    return report if not reasons else report.model_copy(update={"data": {**report.data, "templated": list(reasons)}})
