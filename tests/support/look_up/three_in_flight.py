"""A process with one session and three paid calls in flight, which is killed before any of them is answered."""

import asyncio
from typing import Any

from langchain_openai import ChatOpenAI

from bursar import Budget, Ledger, Report, Task, meter
from tests.support.graphs import App, build, session, specialist
from tests.support.provider import MODEL

QUESTIONS = ("part one", "part two", "part three")
TIMEOUT_SECONDS = 600


def program(url: str, provider: str, *, store: bool) -> tuple[App, Ledger]:
    """Return a graph whose only specialist asks its three questions at once. If `store`, the provider keeps answers."""
    ledger = Ledger(url)
    chat: Any = ChatOpenAI(model=MODEL, api_key=lambda: "none", base_url=provider, store=store or None)
    model = meter(chat, max_output_tokens=100)

    async def talker(task: Task) -> Report:
        answers = await asyncio.gather(*(model.ainvoke(f"{task.text}: {part}") for part in QUESTIONS))
        return Report(answer="; ".join(answer.text for answer in answers))

    graph = build(
        ledger, [specialist("talker", talker, timeout=TIMEOUT_SECONDS)], budget=Budget("0.03", per_session="1")
    )
    return graph, ledger


def ask(url: str, provider: str, name: str, store: bool) -> None:
    """Ask in the session `name`. The process is killed while it waits for the answers."""
    app, _ = program(url, provider, store=store)
    app.invoke({"messages": [("user", f"how much did {name} spend?")]}, session(name))
