"""The saver's default serialiser: MessagePack that rebuilds only the types of Bursar's state and of LangGraph."""

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from bursar.state.approval import ApprovalRequest, Approve, BudgetRaise, Deny
from bursar.state.decision import Considered, Decision
from bursar.state.money import USD
from bursar.state.run import Fault, Limit, Outcome, Report, Run, Task, Turn
from bursar.state.session import Plan, Request, Step
from bursar.state.spend import Spend

STATE_TYPES = (
    *(ApprovalRequest, Approve, BudgetRaise, Deny),
    *(Considered, Decision, Fault, Limit, Outcome, Plan, Report),
    *(Request, Run, Spend, Step, Task, Turn, USD),
)


def default_serde() -> JsonPlusSerializer:
    """Return a serialiser that rebuilds Bursar's state exactly, and imports no other type that a stored row names.

    A value of any other type is read back as plain data, with a warning that names the type. To get the type back,
    give the saver `JsonPlusSerializer(allowed_msgpack_modules=[YourType])`, or use `saver.with_allowlist([...])`.
    """
    return JsonPlusSerializer(allowed_msgpack_modules=STATE_TYPES)
