"""The network guard: refuses a connection that a last resort opens by Python's sockets, loopback included.

When the first last resort runs, the methods of `socket.socket` that reach another process are wrapped, and the
functions that resolve a name. The wrapper costs all other code a look at a context variable for each connection. An
audit hook would see a little more, but costs time at every event of the process and cannot be removed. Neither a
wrapper nor a hook sees what C libraries open by themselves, or what is sent over a connection that was open before.
"""

import socket
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from bursar.checkpoints.database.connections import is_opening
from bursar.nodes.gateway.paid_calls.scope import offline_agent
from bursar.state.refusals import NetworkRefused

R = TypeVar("R")

METHODS = ("connect", "connect_ex", "sendto", "sendmsg")
FUNCTIONS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")

_lock = threading.Lock()
_wrapped = False


def watch_network() -> None:
    """Wrap Python's sockets, so that a last resort that opens a connection gets `NetworkRefused`.

    A second call changes nothing.
    """
    global _wrapped  # noqa: PLW0603 - a process has one
    if _wrapped:
        return
    with _lock:  # race: two threads wrap at once; the second finds the flag set
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
    """Whether a call of the socket method `name` sends over a connection that is open already, and so is let through.

    Only a call of `sendmsg` without an address does; event loops call `sendmsg` in this way.
    """
    return name == "sendmsg" and len(args) < 5
