"""What a drill forces on a request: a handler, a router or a gate that misbehaves, and short deadlines.

Nothing is forced but inside `forcing`, which a drill enters for one request.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from bursar.nodes.gates.base import Verdict
from bursar.nodes.routers.base import Router
from bursar.nodes.specialists.chain import Link
from bursar.nodes.specialists.definition import Handler

REQUEST, ROUTER, GATE = "request", "supervisor", "gate"


@dataclass(frozen=True, slots=True)
class Forced:
    """For one request: who may take how long, and who is replaced by what..

    `handlers` makes, from an agent's own handler, the one that runs in its place, by the agent's node in the graph.
    """

    handlers: dict[str, Callable[[Handler], Handler]]
    seconds: dict[str, float]
    router: Router | None = None
    review: Callable[[], Verdict] | None = None
    min_confidence: float = 0.0


_forced: ContextVar[Forced | None] = ContextVar("bursar_forced", default=None)


@contextmanager
def forcing(forced: Forced) -> Generator[None]:
    """Inside the block, requests run under what is forced."""
    token = _forced.set(forced)
    try:
        yield
    finally:
        _forced.reset(token)


def forced_link(link: Link) -> Link:
    """The link, or what a drill makes of it."""
    forced = _forced.get()
    if forced is None or link.node not in forced.handlers:
        return link
    return replace(
        link,
        handler=forced.handlers[link.node](link.handler),
        timeout=forced.seconds.get(link.node, link.timeout),
        min_confidence=forced.min_confidence,
    )


def forced_router(router: Router) -> Router:
    """The router, or the one that a drill puts in its place."""
    forced = _forced.get()
    return router if forced is None or forced.router is None else forced.router


def forced_review(review: Callable[[], Verdict]) -> Callable[[], Verdict]:
    """What a gate is asked, or what a drill asks in its place."""
    forced = _forced.get()
    return review if forced is None or forced.review is None else forced.review


def forced_seconds(of: str, seconds: float) -> float:
    """The timeout of router or gate, or the one that a drill sets."""
    forced = _forced.get()
    return seconds if forced is None else forced.seconds.get(of, seconds)


def forced_timeout(seconds: float | None) -> float | None:
    """The timeout of the request, or the one that a drill sets."""
    forced = _forced.get()
    return seconds if forced is None else forced.seconds.get(REQUEST, seconds)
