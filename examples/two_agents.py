"""The example of langgraph-supervisor's README: a research expert and a math expert, here under one budget.

The agents are the same. In place of a supervisor's prompt, `needs=` says that the math expert goes by what the research
expert found. Each model is a double that costs nothing.
"""

import re
import tempfile
from contextlib import closing
from typing import Any, cast

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from bursar import Budget, Ledger, Report, Specialist, Task, build_supervisor, deterministic, meter
from bursar.testing import ScriptedModel

QUESTION = "what's the combined headcount of the FAANG companies in 2024?"


def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


def web_search(query: str) -> str:
    """Search the web for information."""
    return (
        "Here are the headcounts for each of the FAANG companies in 2024:\n"
        "1. **Facebook (Meta)**: 67,317 employees.\n"
        "2. **Apple**: 164,000 employees.\n"
        "3. **Amazon**: 1,551,000 employees.\n"
        "4. **Netflix**: 14,000 employees.\n"
        "5. **Google (Alphabet)**: 181,269 employees."
    )


def agents(research_model: BaseChatModel, math_model: BaseChatModel) -> tuple[Any, Any]:
    """Return the research expert and the math expert."""
    searches = "You are a world class researcher with access to web search. Do not do any math."
    counts = "You are a math expert. Always use one tool at a time."
    make = cast(Any, create_agent)
    research = make(research_model, [web_search], system_prompt=searches, name="research_expert")
    return research, make(math_model, [add, multiply], system_prompt=counts, name="math_expert")


def doubles() -> tuple[ScriptedModel, ScriptedModel]:
    """Return the models of both experts: one searches and tells what it found, one adds what it was told."""
    call = {"name": "web_search", "args": {"query": "FAANG headcount 2024"}, "id": "search"}
    search = AIMessage("", tool_calls=[call])
    return ScriptedModel([search, lambda messages: messages[-1].text]), ScriptedModel([next_sum] * 5)


def next_sum(messages: list[BaseMessage]) -> AIMessage:
    """Add the next of the headcounts that the messages tell, or say the sum."""
    told = next((one.text for one in messages if "**Apple**" in one.text), "")
    heads = [float(number.replace(",", "")) for number in re.findall(r"([\d,]+) employees", told)]
    sums = [float(one.text) for one in messages if isinstance(one, ToolMessage) and one.name == "add"]
    if not heads:
        return AIMessage("I was given no numbers.")
    if len(sums) == len(heads) - 1:
        return AIMessage(f"The combined headcount is {sums[-1]:,.0f}.")
    args = {"a": sums[-1] if sums else heads[0], "b": heads[len(sums) + 1]}
    return AIMessage("", tool_calls=[{"name": "add", "args": args, "id": f"add-{len(sums)}"}])


@deterministic
def nobody(task: Task) -> Report:
    """Say that there is no answer: the last resort of both."""
    return Report(answer="No expert could be asked.", confidence=0.0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, closing(Ledger(f"sqlite:///{folder}/books.db")) as ledger:
        research, math = agents(*map(meter, doubles()))
        web = Specialist(name="research_expert", description="Current events", handler=research, fallbacks=[nobody])
        sums = Specialist(
            name="math_expert",
            description="Solves math problems",
            handler=math,
            needs=["research_expert"],  # so it is asked for what it needs too, and gets the report
            fallbacks=[nobody],
            examples=["what is the combined headcount of some companies"],
        )
        app: Any = build_supervisor([web, sums], budget=Budget(per_request="0.05"), ledger=ledger)
        result = app.invoke({"messages": [("user", QUESTION)]}, {"configurable": {"thread_id": "faang"}})
        print(result["reports"]["math_expert"].answer)
        print("paid calls:", result["spend"].calls, "books agree:", bool(ledger.verify("faang")))
