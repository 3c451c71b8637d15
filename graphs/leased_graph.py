"""`OwnedGraph`: a graph whose runs own their session from before they read it until their writes are on disk."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, nullcontext
from typing import Any, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.graph import Graph as Picture
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateUpdate

from bursar.checkpoints.leases import LEASE, LeaseHolder, lease_of
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.saver import LEDGER, SQLAlchemySaver
from bursar.graphs.graceful_shutdown import installed
from bursar.graphs.inner_streams import InnerStream
from bursar.graphs.orphaned_requests import aadopt, adopt
from bursar.graphs.pictures import with_rungs
from bursar.nodes.context.coordinator import DEFAULT_TENANT, Coordinator, setting
from bursar.nodes.gateway.paid_calls.scope import enclosing_scope
from bursar.nodes.isolation.sync_bridge import run_sync
from bursar.nodes.observers.base import RequestContext
from bursar.nodes.observers.request_observers import END_OF_STREAM, RequestObservers
from bursar.nodes.planning.quote import quote
from bursar.nodes.planning.routing import is_router_free
from bursar.state.decision import Quote
from bursar.state.errors import ConfigurationError
from bursar.state.langgraph_private import CHECKPOINTER, READ, ensure_config, merge_configs
from bursar.state.session import SessionInput, SessionOutput, SessionState
from bursar.state.text import check_storable, clean, mended, one_line

# What a caller writes into `configurable`: how long to wait for a session that another owns, or `True` to take the
# session over from an owner that still lives.
WAIT, TAKE_OVER = "wait_seconds", "take_over"
UNDECLARED = "undeclared"  # the key of the input for what nobody declared
KEY_CHARACTERS = 64  # of an input's key as a gap names it


# Kept beside the graphs, because LangGraph's class has no room for it. A graph's copies and configurations share a
# builder.
BUILT: WeakKeyDictionary[object, Coordinator] = WeakKeyDictionary()


class OwnedGraph(CompiledStateGraph[SessionState, Any, SessionInput, SessionOutput]):
    """A `CompiledStateGraph` that takes the lease of its session for each run and each update of state.

    In `configurable`, `wait_seconds` is how long to wait for a session that another run owns, and if `take_over` is
    true, the session is taken from an owner that still lives. A run raises `SessionBusy` if another run owns the
    session, and `LeaseLost` if another run takes the session over meanwhile. If the checkpointer is no
    `SQLAlchemySaver`, no lease is taken. Inside `drain_on_sigterm`, SIGTERM ends each run before its next step. A
    stream of messages or events gives those of the agents' own graphs too, in the shape that was asked for.
    """

    def stream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] # noqa: A002
        input = self._noted(input, config)  # noqa: A001
        owned, inner = self._owning(config, resumes=_resumes(input)), self._inner(config, options)
        with owned or nullcontext():
            under = _under(owned, config)
            if owned is not None and _resumes(input) and adopt(self, under):
                input = None  # noqa: A001 - the step that it answers is gone
            with self._observed(under, resumes=_resumes(input)) as observed:
                given, under = under, observed.configured(under)
                graph = self if given is under else self._without_callbacks()
                run = cast(Any, super(OwnedGraph, graph).stream)  # pyright: ignore[reportUnknownMemberType]
                with closing(run(input, under, **inner.options)) as steps:
                    while (chunk := observed.step(steps)) is not END_OF_STREAM:
                        yield from inner.chunks(chunk)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AsyncIterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] # noqa: A002
        input = self._noted(input, config)  # noqa: A001
        owned, inner = self._owning(config, resumes=_resumes(input)), self._inner(config, options)
        async with owned or nullcontext():
            under = _under(owned, config)
            if owned is not None and _resumes(input) and await aadopt(self, under):
                input = None  # noqa: A001 - the step that it answers is gone
            with self._observed(under, resumes=_resumes(input)) as observed:
                given, under = under, observed.configured(under)
                graph = self if given is under else self._without_callbacks()
                run = cast(Any, super(OwnedGraph, graph).astream)  # pyright: ignore[reportUnknownMemberType]
                async with aclosing(run(input, under, **inner.options)) as steps:
                    while (chunk := await observed.astep(steps)) is not END_OF_STREAM:
                        for wanted in inner.chunks(chunk):
                            yield wanted

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Picture:
        """Return the picture of the graph, with the rungs of cascades and the branches of choices in it."""
        return with_rungs(super().get_graph(config, xray=xray), BUILT[self.builder].all_chains)

    def quote(self, question: str, config: RunnableConfig | None = None) -> Quote:
        """Return what a request with this question would do and cost if it came now. No specialist runs.

        Unless the router asks a model, nothing is paid and nothing is written. A router that pays is charged to the
        session and the tenant, in a request of its own, and the quote says how much it `paid`; so it owns the session.
        """
        coordinator, owned = BUILT[self.builder], self._owning_to_quote(config)
        with owned or nullcontext():
            under = merge_configs(self.config, _under(owned, config))
            state = self.get_state(under).values if self._has_session(under) else {}
            return run_sync(quote, coordinator, mended(question), cast("SessionState", state), under)

    async def aquote(self, question: str, config: RunnableConfig | None = None) -> Quote:
        """As `quote`, from an event loop."""
        coordinator, owned = BUILT[self.builder], self._owning_to_quote(config)
        async with owned or nullcontext():
            under = merge_configs(self.config, _under(owned, config))
            state = (await self.aget_state(under)).values if self._has_session(under) else {}
            return await quote(coordinator, mended(question), cast("SessionState", state), under)

    def _owning_to_quote(self, config: RunnableConfig | None) -> LeaseHolder | None:
        return None if is_router_free(BUILT[self.builder]) else self._owning(config, resumes=False)

    def _has_session(self, config: RunnableConfig) -> bool:
        asked = config.get("configurable", {})
        given: object = asked.get(CHECKPOINTER, self.checkpointer)  # pyright: ignore[reportUnknownMemberType]
        return isinstance(given, BaseCheckpointSaver) and bool(asked.get("thread_id"))

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        owned = self._owning(config, resumes=True)
        if owned is None:
            return super().bulk_update_state(config, supersteps)
        with owned:
            return super().bulk_update_state(_under(owned, config), supersteps)

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        owned = self._owning(config, resumes=True)
        if owned is None:
            return await super().abulk_update_state(config, supersteps)
        async with owned:
            return await super().abulk_update_state(_under(owned, config), supersteps)

    def _observed(self, config: RunnableConfig, *, resumes: bool) -> RequestObservers:
        """Return the observers of one run of the graph, as a context manager around it."""
        merged, around = merge_configs(self.config, config), enclosing_scope()
        lease, coordinator = lease_of(config), BUILT[self.builder]
        context = RequestContext(
            graph=self.name or "",
            session_id=setting(merged, "thread_id"),
            tenant=setting(merged, "tenant") or DEFAULT_TENANT,
            resumes=resumes,
            caller="" if around is None else around.agent,
            recovers=resumes and lease is not None and lease.took_over,
            ledger=coordinator.ledger,
            callbacks=ensure_config(self.config, config).get("callbacks"),
        )
        return RequestObservers(coordinator.observers, context)

    def _without_callbacks(self) -> "OwnedGraph":
        """Return the graph without its own callbacks: the observers have them, and LangGraph would add them again."""
        kept = {name: value for name, value in (self.config or {}).items() if name != "callbacks"}
        return self.copy({"config": kept}) if (self.config or {}).get("callbacks") else self

    def _inner(self, config: RunnableConfig | None, options: dict[str, Any]) -> InnerStream:
        """Return what a run is streamed with: the options, with the control of a `drain_on_sigterm` block around."""
        return InnerStream(self._drained(config, options), self.stream_mode)

    def _noted(self, entered: Any, config: RunnableConfig | None) -> object:
        """Return the input with what intake has to know of it: see `SessionInput`.

        A graph outside that runs this one as its node gives it the whole of its own state: these keys are not noted.
        """
        noted = _with_asked(entered)
        if not isinstance(noted, Mapping):
            return noted
        entered = cast("Mapping[str, object]", noted)
        given = {key: value for key, value in entered.items() if key != UNDECLARED}
        if READ in merge_configs(self.config, config).get("configurable", {}):
            return given
        declared = {*self.builder.input_schema.__annotations__, *SessionOutput.__annotations__} - {UNDECLARED}
        undeclared = tuple(clean(one_line(str(key), KEY_CHARACTERS)) for key in entered if key not in declared)
        return {**given, UNDECLARED: undeclared} if undeclared else given

    def _drained(self, config: RunnableConfig | None, options: dict[str, Any]) -> dict[str, Any]:
        """Return `options` with the `RunControl` of the `drain_on_sigterm` block around, so that SIGTERM ends the run.

        Return `options` unchanged if the caller gave a control, if there is no such block, or if the run is inside
        another run.
        """
        control = installed()
        if control is None or options.get("control"):
            return options
        inside = READ in merge_configs(self.config, config).get("configurable", {})
        return options if inside else {**options, "control": control}

    def _owning(self, config: RunnableConfig | None, *, resumes: bool) -> LeaseHolder | None:
        """Return a `with` block that owns the session, for the caller to run the graph in; None if no lease is needed.

        A run needs no lease if its checkpointer is no `SQLAlchemySaver`, or if it has no session. A run inside another
        run needs none if the outer run owns the same session, or has no lease itself.
        """
        merged = merge_configs(self.config, config)
        asked = merged.get("configurable", {})
        given: object = asked.get(CHECKPOINTER, self.checkpointer)  # pyright: ignore[reportUnknownMemberType]
        saver = getattr(getattr(given, "own", None), "__self__", None)  # LangGraph's server wraps the saver that it has
        session_id = asked.get("thread_id")
        if not isinstance(saver, SQLAlchemySaver) or session_id is None:
            return None
        if not str(session_id):
            raise ConfigurationError("thread_id is empty; it is the name of the session, such as 's-1'")
        check_storable("thread_id", str(session_id))
        lease = lease_of(merged)
        if (lease is not None and lease.session_id == session_id) or (lease is None and READ in asked):
            return None  # inside a run that owns the session, or inside a run that is not fenced
        wait = asked.get(WAIT)
        return saver.own(
            str(session_id),
            wait_seconds=None if wait is None else float(wait),
            take_over=bool(asked.get(TAKE_OVER)),
            ledger=cast("Ledger | None", asked.get(LEDGER)),
            resumes=resumes,
        )


def _with_asked(entered: Any) -> object:
    """Return the input with the ids of its messages as `asked`, if the caller gave each of them an id.

    Otherwise `asked` is empty, whatever the caller wrote there. Half characters in texts are replaced. An input that
    is no mapping is otherwise unchanged.
    """
    entered = mended(entered)
    if not isinstance(entered, Mapping):
        return cast("object", entered)
    given = {name: value for name, value in cast("Mapping[str, object]", entered).items() if name != "asked"}
    messages = given.get("messages")
    several = cast("list[object]", messages) if isinstance(messages, list) else [messages]
    ids = [_id_of(message) for message in several]
    return {**given, "asked": ids if all(ids) else []}


def _id_of(message: object) -> str:
    """Return a message's id, "" if it has none. A server gets messages as mappings."""
    name = (
        cast("Mapping[str, object]", message).get("id") if isinstance(message, Mapping) else getattr(message, "id", "")
    )
    return name if isinstance(name, str) else ""


def _resumes(entered: object) -> bool:
    """Whether a run with this input resumes the session's request, instead of opening a new one.

    The answer decides when the lease is logged: see `LeaseRequest`.
    """
    return entered is None or isinstance(entered, Command)


def _under(owned: LeaseHolder | None, config: RunnableConfig | None) -> RunnableConfig:
    """Return `config` with the lease of `owned`, and without `WAIT` and `TAKE_OVER`, so that no checkpoint has them.

    If `owned` is None, return `config` as it is.
    """
    given: RunnableConfig = config or {}
    if owned is None:
        return given
    asked = {name: value for name, value in given.get("configurable", {}).items() if name not in {WAIT, TAKE_OVER}}
    return {**given, "configurable": {**asked, LEASE: owned.lease}}
