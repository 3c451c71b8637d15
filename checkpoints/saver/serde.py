"""The saver's default serialiser: MessagePack that rebuilds the types of Bursar's state and of LangGraph, no others."""

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from bursar.state.approval import ApprovalRequest, Approve, Deny
from bursar.state.decision import Considered, Decision
from bursar.state.money import USD
from bursar.state.run import Fault, Limit, Outcome, Report, Run, Task, Turn
from bursar.state.session import Plan, Request, Step
from bursar.state.spend import Spend

STATE_TYPES = (
    *(ApprovalRequest, Approve, Deny),
    *(Considered, Decision, Fault, Limit, Outcome, Plan, Report),
    *(Request, Run, Spend, Step, Task, Turn, USD),
)


def default_serde() -> JsonPlusSerializer:
    """Return a serialiser that rebuilds Bursar's state exactly, and imports no other type that a stored row names.

    A value of your own type is read back as its plain data, with a warning that names the type. To have it rebuilt,
    give the saver `JsonPlusSerializer(allowed_msgpack_modules=[YourType])`, or take `saver.with_allowlist([...])`.
    """
    return JsonPlusSerializer(allowed_msgpack_modules=STATE_TYPES)
