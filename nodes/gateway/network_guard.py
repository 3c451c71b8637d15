"""A last resort opens no connection: what Python's sockets would open for it, loopback included, is refused.

The methods of `socket.socket` that reach another process, and the functions that ask for a name, are wrapped when the
first last resort runs; elsewhere that costs a look at a context variable for each connection. An audit hook would see
a little more, at a price for every event of the process, and for good. Neither sees what C libraries open by
themselves, nor what is sent over a connection that was open before.
"""

import socket
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from bursar.checkpoints.database.connections import is_opening
from bursar.nodes.gateway.scope import offline_agent
from bursar.state.refusals import NetworkRefused

R = TypeVar("R")

METHODS = ("connect", "connect_ex", "sendto", "sendmsg")
FUNCTIONS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")

_lock = threading.Lock()
_wrapped = False


def watch_network() -> None:
    """From here on last resorts are refused what they would open. Doing it again changes nothing."""
    global _wrapped  # noqa: PLW0603 - a process has one
    if _wrapped:
        return
    with _lock:
        if not _wrapped:
            for place, names in ((socket.socket, METHODS), (socket, FUNCTIONS)):
                for name in names:
                    setattr(place, name, _refusing(getattr(place, name), name))
            _wrapped = True


def _refusing(function: Callable[..., R], name: str) -> Callable[..., R]:
    @wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> R:
        agent = offline_agent()
        if agent is not None and not is_opening() and not _is_of_its_own(name, args):
            raise NetworkRefused(f"{agent} is a last resort and opens no connection; {name} was refused")
        return function(*args, **kwargs)

    return refusing


def _is_of_its_own(name: str, args: tuple[Any, ...]) -> bool:
    """Whether it goes on with a connection that was there: `sendmsg` without an address, as event loops use it."""
    return name == "sendmsg" and len(args) < 5
