"""LangSmith: adds the head of the session's log, its last event, to the node's run in LangSmith's trace."""

import sys

from bursar.checkpoints.ledger.anchors import Head
from bursar.nodes.observers.base import anchor_attributes
from bursar.state.run import Run


class LangSmithObserver:
    """An observer that adds the head of the session's log, its last event, to LangSmith's trace of the run.

    The trace is kept outside the database, so the head in it is an anchor: by it a log that was cut or rewritten is
    found.
    """

    def run_ended(self, run: Run, error: BaseException | None, head: Head) -> None:
        """Add the head of the log to LangSmith's current run. Does nothing if LangSmith does not trace."""
        helpers = sys.modules.get("langsmith.run_helpers")  # loaded if LangSmith traces
        tree = None if helpers is None else helpers.get_current_run_tree()
        if tree is not None:
            tree.add_metadata(anchor_attributes(head))
