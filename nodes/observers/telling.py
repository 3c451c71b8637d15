"""Calls of observers: one that raises is dropped, and one that hangs is left alone. Neither costs anybody an answer."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import cast

from bursar.nodes.isolation.captured import Captured

MOST_SECONDS = 2.0  # that a run waits for a user's observer

_log = logging.getLogger(__name__)


class ObserverHangs(Exception):
    """An observer's method has not returned within `MOST_SECONDS`."""


class Listener:
    """An observer, and whether it is called in a thread of its own, as a user's observer is.

    `made_by` is the observer that made this one for a request, by default the observer itself.
    """

    __slots__ = ("apart", "made_by", "observer")

    def __init__(self, observer: object, *, apart: bool, made_by: object = None) -> None:
        self.observer = observer
        self.apart = apart
        self.made_by = observer if made_by is None else made_by

    def ask(self, method: str, *what: object) -> object:
        """Call the observer's method, and return what it returns; None if it has no such method.

        Raises what the method raises, and `ObserverHangs`. If the observer still hangs in an earlier call, or another
        that was made by the same one, it is not called.
        """
        call = cast("Callable[..., object] | None", getattr(self.observer, method, None))
        if call is None:
            return None
        return _call_apart(self.made_by, call, what) if self.apart else call(*what)


class Telling:
    """Observers that are told the same things, in order. One that fails hears no more of it."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners
        # Places in the list, because two observers may be equal. Race: a handler may pay from several threads at once;
        # adding to a set is one step.
        self._dropped: set[int] = set()

    def tell(self, method: str, *what: object, last_first: bool = False) -> list[object]:
        """Call the method of each observer that has it, and return what the methods returned.

        `last_first` is for what ends: the observer that began first ends last, so its span has all others inside.
        """
        found: list[object] = []
        order = range(len(self._listeners))
        for place in reversed(order) if last_first else order:
            if place in self._dropped:
                continue
            try:
                found.append(self._listeners[place].ask(method, *what))
            except KeyboardInterrupt:  # the user's, while this thread waits for the observer
                raise
            except BaseException as error:  # noqa: BLE001 - foreign code: it is logged and dropped
                self._drop(place, method, error)
        return found

    def _drop(self, place: int, method: str, error: BaseException) -> None:
        self._dropped.add(place)
        # The error's text and traceback are not logged: they may quote a request or a key.
        name = type(self._listeners[place].observer).__name__
        _log.warning("observer %s failed in %s (%s) and hears no more of this run", name, method, type(error).__name__)


_hanging: set[int] = set()  # the ids of the observers that hang; the hanging call keeps its observer alive


def _call_apart(observer: object, call: Callable[..., object], what: Sequence[object]) -> object:
    """Call the function in a thread of its own, which has this context's variables, and return what it returns.

    What the function sets in context variables is then set here too.
    """
    if id(observer) in _hanging:
        return None
    context, end, done = copy_context(), Captured[object](), threading.Event()

    def work() -> None:
        with end:
            end.value = context.run(call, *what)
        done.set()
        _hanging.discard(id(observer))

    threading.Thread(target=work, name="bursar-observer", daemon=True).start()
    if not done.wait(MOST_SECONDS):
        _hanging.add(id(observer))
        if done.is_set():  # race: it returned before its id was added, so nobody would take the id away again
            _hanging.discard(id(observer))
        raise ObserverHangs
    take_over(context)
    return end.result()


def take_over(context: Context) -> None:
    """Set the context variables here as they are set in `context`."""
    here = copy_context()
    for variable, value in context.items():
        if variable not in here or here[variable] is not value:
            variable.set(value)
