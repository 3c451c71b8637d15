"""A support desk: one agent sorts what customers write and hands over, and a person approves each refund.

`triage` reads the message and hands over to `refunds`. That agent pays back, which a person must approve: the graph
stops, shows what is to be paid, and the person's answer resumes it. Another refund is denied: nothing is paid.
"""

import tempfile
from contextlib import closing
from typing import Any

from langgraph.types import Command

from bursar import (
    Approve,
    Budget,
    Deny,
    Ledger,
    Report,
    Specialist,
    SQLAlchemySaver,
    Task,
    action,
    build_supervisor,
    deterministic,
    meter,
)
from bursar.testing import ScriptedModel

paid: list[str] = []  # the bank of this example


@action(irreversible=True, approval=True)
def refund(order: str, cents: int, idempotency_key: str = "") -> str:
    """Pay the price of an order back."""
    paid.append(idempotency_key)  # a real bank pays a key once
    return f"{cents / 100:.2f} paid back for order {order}."


def refunds(task: Task) -> Report:
    """Pay back the order that triage noted."""
    return Report(answer=refund(task.reports["triage"].note, 4_990))


@deterministic
def nobody(task: Task) -> Report:
    """Ask for patience: the last resort of each agent."""
    return Report(answer="A colleague will write to you.", confidence=0.0)


def desk(model: Any, ledger: Ledger, url: str) -> Any:
    """Return the desk. `model` reads the order's number out of a customer's message."""

    def triage(task: Task) -> Report:
        order = model.invoke([("user", f"Which order is this about? {task.text}")]).text
        return Report(answer="", handoff="refunds", note=order)

    return build_supervisor(
        [
            Specialist(
                name="triage",
                description="Sorts what customers write",
                handler=triage,
                ceiling="0.01",
                fallbacks=[nobody],
                examples=["my parcel is broken", "I want my money back"],
            ),
            Specialist(name="refunds", description="Pays back", handler=refunds, fallbacks=[nobody]),
        ],
        budget=Budget("0.03"),
        ledger=ledger,
        checkpointer=SQLAlchemySaver(url),
        rounds=2,  # the one that is handed to runs in a round of its own
        approvers=["ann"],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/books.db"
        with closing(Ledger(url)) as ledger, ScriptedModel(["A-17", "B-4"]) as model:
            app = desk(meter(model), ledger, url)
            for customer, consent in (("bob", Approve), ("eve", Deny)):
                config = {"configurable": {"thread_id": customer}}
                stopped = app.invoke({"messages": [("user", "My parcel is broken, I want my money back")]}, config)
                shown = stopped["__interrupt__"][0].value
                print(f"{customer}: {dict(shown.arguments)} waits for a person; refunds so far: {len(paid)}")
                result = app.invoke(Command(resume=consent(subject_hash=shown.subject_hash, by="ann")), config)
                routed = [decision.rule for decision in result["decisions"] if decision.kind == "route"]
                print(f"{customer}: {routed[-1].partition('; ')[2]}")
                print(f"{customer}: {result['messages'][-1].text}")
            print("refunds:", len(paid), "books agree:", bool(ledger.verify()))
