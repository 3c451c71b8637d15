"""Answers questions about money on a budget: `python app.py "Where did my money go?"`."""

import sys
import uuid

from bursar import Budget, Ledger, Report, Specialist, SQLAlchemySaver, Task, build_supervisor, deterministic, meter
from bursar.testing import ScriptedModel
from langchain_core.language_models import BaseChatModel

DATABASE = "sqlite:///app.db"


def chat_model() -> BaseChatModel:  # with a key: from langchain_openai import ChatOpenAI, and return ChatOpenAI(model=…)
    return ScriptedModel(["Most of it went to rent."])


@deterministic
def rules(task: Task) -> Report:
    return Report(answer="No model can be asked now. Your bank's overview has the totals.", confidence=0.1)


def build(url: str, model: BaseChatModel):
    paid = meter(model)  # holds what each call can cost before it is sent; what does not fit is not sent

    async def spending(task: Task) -> Report:
        reply = await paid.ainvoke([("user", task.text)])
        return Report(answer=reply.text, confidence=0.9)

    agent = Specialist(
        name="spending",
        description="Where the money goes",
        examples=["how much did I spend on food", "where did my money go"],
        handler=spending,
        fallbacks=[rules],
        ceiling="0.01",  # US dollars a run
    )
    return build_supervisor([agent], budget=Budget("0.03"), ledger=Ledger(url), checkpointer=SQLAlchemySaver(url))


if __name__ == "__main__":
    session, question = uuid.uuid4().hex, " ".join(sys.argv[1:]) or "Where did my money go?"
    result = build(DATABASE, chat_model()).invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": session}})
    print(result["messages"][-1].text)
    print(f"{result['ending']} for {result['spend']}. To see why: bursar audit {session} --database {DATABASE}")
