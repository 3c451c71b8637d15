"""One look-up: a provider is asked, in a thread, for the end of a call, and given up if it does not answer in time."""

import asyncio
import threading
from functools import partial

from bursar.nodes.gateway.paid_calls.flow import Invoke
from bursar.nodes.gateway.providers.base import CallFinder, FoundCall, LookUp
from bursar.nodes.isolation.captured import Captured

LOOK_UP_SECONDS = 10.0  # that a look-up may take at most
SHARE_OF_TIME_LEFT = 2  # a look-up takes at most half of the time to the deadline, so that the call can still be sent
BY = "look-up"  # in the log: who found out what a call cost


def seconds_for_look_up(left: float | None) -> float:
    """Return how long a look-up may take. `left` is the time to the run's deadline in seconds, None without one."""
    return LOOK_UP_SECONDS if left is None else min(LOOK_UP_SECONDS, left / SHARE_OF_TIME_LEFT)


def ask(finder: CallFinder, call: LookUp) -> FoundCall | None:
    """Return the call as the provider found it.

    Return None if it did not find the call, if the call has not ended, if asking raised an error, or if nothing came
    within `call.timeout_seconds`. None is no proof that the call was not sent: a provider's list may lag.
    """
    answer = Captured[FoundCall | None]()

    def run() -> None:
        with answer:
            answer.value = finder.look_up(call)

    # A time-out of an HTTP client is one for each read, and a trickle of bytes never reaches it. A thread can be left.
    thread = threading.Thread(target=run, name="bursar-look-up", daemon=True)
    thread.start()
    thread.join(call.timeout_seconds)
    found = None if thread.is_alive() else answer.value  # race: what comes after the time-out is not used
    return found if found is not None and found.finished else None


def asked(finder: CallFinder, call: LookUp) -> Invoke[FoundCall | None]:
    """Return the step of a flow that asks by `ask`. No event loop waits for the provider."""
    look = partial(ask, finder, call)
    return Invoke(look, lambda: asyncio.to_thread(look))
