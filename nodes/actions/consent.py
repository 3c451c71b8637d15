"""Whether a specialist may run: where a person must approve it, the graph waits for them before any of it begins."""

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.approvals import Asking
from bursar.nodes.actions.approvals import Acting, MustApprove, permitted
from bursar.nodes.context.coordinator import Coordinator, checkpoint_ns
from bursar.nodes.context.outcome import Judgement, refused
from bursar.nodes.gateway.flow import Flow, Transact, adrive, do
from bursar.nodes.gateway.unmetered_guard import guarded
from bursar.nodes.isolation.captured import Ended
from bursar.nodes.specialists.definition import Link
from bursar.state.errors import NotApproved
from bursar.state.run import Task
from bursar.state.session import Request

MAX_USES = 20  # how often one run finds that another had used its approval first


async def unapproved(
    coordinator: Coordinator, link: Link, task: Task, request: Request, *, config: RunnableConfig
) -> Judgement | None:
    """None if the handler may run: no approval is needed, or one was given and is used up now. Else why it may not.

    An approval is good for one run: one that comes after it (a crash, another resume) asks anew.
    Raises `GraphInterrupt` until a person has answered.
    """
    if not _needed(coordinator.must_approve, link, task):
        return None
    acting = Acting(request, task.specialist, task.left, coordinator.approvals)
    what = f"{link.name} runs for this request"
    asking = Asking(acting.ask(what, now=coordinator.clock()), checkpoint_ns(config))
    try:
        with guarded(config):
            await adrive(_used(coordinator, asking))
    except NotApproved as error:
        return refused(error)
    return None


def _used(coordinator: Coordinator, asking: Asking) -> Flow[None]:
    ledger, clock = coordinator.ledger, coordinator.clock
    for _ in range(MAX_USES):
        approval = yield from permitted(ledger, coordinator.approvals, asking, clock)
        ended = Ended[None]()
        with ended:
            yield from do(Transact(ledger.database, ledger.approval_books.use(approval, at=clock()), outlast=True))
        if ended.error is None:
            return
        if not isinstance(ended.error, NotApproved):
            raise ended.error
    raise NotApproved("others used its approval each time")


def _needed(required: MustApprove, link: Link, task: Task) -> bool:
    """A predicate that raises, or says anything but False, has said that it is."""
    if link.high_risk:
        return True
    if not callable(required):
        return link.name in required or (link.paid and task.specialist in required)
    if not link.paid and link.name != task.specialist:
        return False  # a last resort, which does nothing
    said = Ended[bool]()
    with said:
        said.value = required(task)
    return said.value is not False
