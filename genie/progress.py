"""What a request waits for, as one line: the node that runs, or each agent that waits for a model, and since when."""

import time
from collections.abc import Callable, Mapping
from typing import cast


class Progress:
    """The progress of one request. It is told of nodes and of stream events, and may be read from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._node = "starting"
        self._waits: Mapping[tuple[str, int], tuple[str, float]] = {}  # by agent and level: the model, since when

    def starts(self, node: str) -> None:
        """Note that the graph's node of this name starts."""
        self._node = f"{_words(node)} …"

    def happens(self, event: object) -> None:
        """Note an event of the stream `custom`: a paid call begins, or a run has ended. Other events say nothing."""
        if not isinstance(event, Mapping):
            return
        told = cast("Mapping[str, object]", event)
        run = (str(told.get("specialist")), cast("int", told.get("level")))
        # Race: the screen reads this in its own thread, so the mapping is replaced and never changed.
        others = {one: wait for one, wait in self._waits.items() if one != run}
        if told.get("bursar") == "turn":
            self._waits = {**others, run: (str(told["model"]), self._clock())}
        elif told.get("bursar") == "terminal":
            self._waits = others

    def line(self) -> str:
        """Return what the request waits for now, such as `tax optimisation waits for gpt-4o-mini, 12 s`."""
        now = self._clock()
        waits = [
            f"{_words(name)} waits for {model}, {now - at:.0f} s" for (name, _), (model, at) in self._waits.items()
        ]
        return "; ".join(waits) or self._node

    __rich__ = line  # each time the screen is drawn


def _words(name: str) -> str:
    return name.replace("_", " ")
