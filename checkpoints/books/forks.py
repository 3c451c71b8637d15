"""Forks: what an agent was charged for the same request at other places of the graph than where it runs now."""

from sqlalchemy import Connection, bindparam, case, func, literal_column, select

from bursar.checkpoints.books.schema import calls
from bursar.checkpoints.prepared import Prepared


def paid_elsewhere(connection: Connection, request_id: str, agent: str, checkpoint_ns: str) -> tuple[int, int]:
    """How many calls the agent sent for the request at another `checkpoint_ns`, and the nano-dollars they cost.

    A crash, a retry and an interrupt run a node again at the same place; a fork and an edited state at another.
    """
    number, cost = _elsewhere(connection, request=request_id, agent=agent, checkpoint=checkpoint_ns)[0]
    return int(number), int(cost or 0)


_elsewhere = Prepared(
    select(
        func.count(), func.sum(case((calls.c.state == literal_column("'settled'"), calls.c.cost), else_=calls.c.amount))
    ).where(
        calls.c.request_id == bindparam("request"),
        calls.c.agent == bindparam("agent"),
        calls.c.checkpoint_ns != bindparam("checkpoint"),
        calls.c.state != literal_column("'void'"),
    )
)
