"""Steps that run one specialist several times at once: each is sent to its node by LangGraph's `Send`, with its name.

An ordinary step runs by a plain edge, and its node gets the whole state. The task of a `Send` gets what was sent alone.
"""

from langgraph.types import Send

from bursar.state.decision import Step

SENT = "step"


def sent(node: str, step: Step) -> str | Send:
    """Return how to go to the node that runs the step: an edge, or a `Send` if the node runs other steps beside it."""
    return Send(node, {SENT: step.name}) if is_one_of_several(step) else node


def is_one_of_several(step: Step) -> bool:
    """Whether its specialist runs several times at once in the step's round."""
    return step.suffix.startswith("[")
