"""Extension point: a composer makes one answer of the reports of a request."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bursar.nodes.routers.base import Question
from bursar.state.run import Report


class Composer(Protocol):
    """What makes one answer of several reports. It is asked if at least two specialists answered.

    What it pays is charged to the request, within its budget and deadline. If it raises, hangs, is refused or returns
    no report, the answers stand one after the other instead.

    It may have one more member, `share`: the amount that the guardian keeps back for it when it admits a plan.
    """

    async def compose(self, question: Question, reports: Mapping[str, Report], gaps: Sequence[str], /) -> Report:
        """Return the one answer of `reports`, which are by specialist in plan order.

        `gaps` say what is missing. Those that the answer does not name word for word are listed below it.
        """
        ...
