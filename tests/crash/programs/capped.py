"""One leg of a request that stops at its cap, in a process that may die.

A line is JSON: database, session, start, replies (calls that the leg's model answers), dies (what dies: "" for nothing,
"approved" once the raise is approved, "raised" after the first call beyond the old cap).
"""

import os
import signal
from typing import Any

from bursar import Ledger, Report, Task
from tests.crash.programs.forks import serve
from tests.support.approvals import shown
from tests.support.graphs import PayingRouter, answer_of, ask, build, free, priced, scripted, session, words

ROUTER_CALLS, CALLS, FITTING = 3, 5, 3  # of half a cent each; the budget of three cents has room for six


def run(leg: dict[str, Any]) -> dict[str, Any]:
    """Run the leg to its end, or to its death; its answer."""
    ledger = Ledger(leg["database"])
    double = scripted(*[words(5)] * leg["replies"])
    model = priced(double)

    def pay(task: Task) -> Report:
        for number in range(CALLS):
            model.invoke(f"call {number}")
            if number == FITTING and leg["dies"] == "raised":
                os.kill(os.getpid(), signal.SIGKILL)
        return Report(answer="done")

    agent = free("a", pay, ceiling="0.03")
    router = PayingRouter(model, ROUTER_CALLS)
    app = build(ledger, [agent], router=router, on_exhausted="ask", approvers=["ann"])
    result = ask(app, name=leg["session"]) if leg["start"] else app.invoke(None, session(leg["session"]))
    if leg["dies"] == "approved":
        (asked,) = shown(result)
        ledger.approve(asked.approval_id, by="ann")
        os.kill(os.getpid(), signal.SIGKILL)
    return {"answer": answer_of(result), "calls": len(double.calls), "gaps": result["gaps"]}


if __name__ == "__main__":
    serve(run)
