"""Consent to a run: if a person must approve it, the graph waits for the approval before the handler begins."""

from langchain_core.runnables import RunnableConfig

from bursar.checkpoints.ledger.approvals import ApprovalQuery, use
from bursar.nodes.actions.approvals import await_approval
from bursar.nodes.context.coordinator import Coordinator, checkpoint_ns
from bursar.nodes.context.outcome import RunVerdict, refusal_verdict
from bursar.nodes.gateway.paid_calls.flow import Commit, Flow, adrive, do
from bursar.nodes.gateway.unmetered_guard import forbid_unmetered
from bursar.nodes.isolation.captured import Captured, capture_call
from bursar.nodes.specialists.approval_policy import ActionContext, MustApprove
from bursar.nodes.specialists.chain import Link
from bursar.state.refusals import NotApproved
from bursar.state.run import Task
from bursar.state.session import Request

MAX_USES = 20  # how often other runs may use an approval before this run does


async def require_consent(
    coordinator: Coordinator, link: Link, task: Task, request: Request, *, config: RunnableConfig
) -> RunVerdict | None:
    """Wait for a person's consent to the run, if one is needed, and return None: the handler may then run.

    If the consent is not given, return the verdict of the run; the caller then does not call the handler. An approval
    is used up here and is good for one run: a run that repeats this run (after a crash, by another resume) asks again.
    Raises `GraphInterrupt` until a person has answered.
    """
    if not _needed(coordinator.must_approve, link, task):
        return None
    acting = ActionContext(request, task.specialist, task.left, coordinator.approvals)
    what = f"{link.name} runs for this request"
    asking = ApprovalQuery(acting.ask(what, now=coordinator.clock()), checkpoint_ns(config))
    try:
        with forbid_unmetered(config):
            await adrive(_used(coordinator, asking))
    except NotApproved as error:
        return refusal_verdict(error)
    return None


def _used(coordinator: Coordinator, asking: ApprovalQuery) -> Flow[None]:
    ledger, clock = coordinator.ledger, coordinator.clock
    # Race: another run may use the approval first. Then `use` raises, and the next turn asks for another approval.
    for _ in range(MAX_USES):
        approval = yield from await_approval(ledger, coordinator.approvals, asking, clock)
        ended = Captured[None]()
        with ended:
            yield from do(Commit(ledger.database, ledger.bind(use, approval, at=clock()), outlast=True))
        if ended.error is None:
            return
        if not isinstance(ended.error, NotApproved):
            raise ended.error
    raise NotApproved("others used its approval each time")


def _needed(required: MustApprove, link: Link, task: Task) -> bool:
    """Whether a person must approve the run.

    A person must approve if the agent has high risk, or if `required` names the agent or, for a handler that may pay,
    the agent's specialist. If `required` is a function of the task, a person must approve unless the function returns
    False; a function that raises counts as True. The function is not called for a fallback that may not pay: such a
    fallback needs no approval unless its risk is high.
    """
    if link.high_risk:
        return True
    if not callable(required):
        return link.name in required or (link.paid and task.specialist in required)
    if not link.paid and link.name != task.specialist:
        return False  # a last resort, which does no action
    return capture_call(required, task).value is not False
