"""`OwnedGraph`: a graph whose runs own their session from before they read it until their writes are on disk."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateUpdate

from bursar.checkpoints.leases import LEASE, LeaseHolder, lease_of
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.saver import LEDGER, SQLAlchemySaver
from bursar.graphs.graceful_shutdown import installed
from bursar.state.errors import ConfigurationError
from bursar.state.langgraph_private import CHECKPOINTER, READ, merge_configs
from bursar.state.session import SessionInput, SessionOutput, SessionState

# What a caller writes into `configurable`: how long to wait for a session that another owns, or `True` to take the
# session over from an owner that still lives.
WAIT, TAKE_OVER = "wait_seconds", "take_over"


class OwnedGraph(CompiledStateGraph[SessionState, None, SessionInput, SessionOutput]):
    """A `CompiledStateGraph` that takes the lease of its session for each run and each update of state.

    In `configurable`, `wait_seconds` is how long to wait for a session that another run owns, and if `take_over` is
    true, the session is taken from an owner that still lives. A run raises `SessionBusy` if another run owns the
    session, and `LeaseLost` if another run takes the session over meanwhile. If the checkpointer is no
    `SQLAlchemySaver`, no lease is taken. Inside `drain_on_sigterm`, SIGTERM ends each run before its next step.
    """

    def stream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] # noqa: A002
        run = cast(Any, super().stream)  # pyright: ignore[reportUnknownMemberType]
        owned, options = self._owning(config, resumes=_resumes(input)), self._drained(config, options)
        if owned is None:
            yield from run(input, config, **options)
            return
        with owned:
            yield from run(input, _under(owned, config), **options)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AsyncIterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] # noqa: A002
        run = cast(Any, super().astream)  # pyright: ignore[reportUnknownMemberType]
        owned, options = self._owning(config, resumes=_resumes(input)), self._drained(config, options)
        if owned is None:
            async for chunk in run(input, config, **options):
                yield chunk
            return
        async with owned:
            async for chunk in run(input, _under(owned, config), **options):
                yield chunk

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


def _resumes(entered: object) -> bool:
    """Whether a run with this input resumes the session's request, instead of opening a new one.

    The answer decides when the lease is logged: see `LeaseRequest`.
    """
    return entered is None or isinstance(entered, Command)


def _under(owned: LeaseHolder, config: RunnableConfig | None) -> RunnableConfig:
    """Return `config` with the lease of `owned`, and without `WAIT` and `TAKE_OVER`, so that no checkpoint has them."""
    given: RunnableConfig = config or {}
    asked = {name: value for name, value in given.get("configurable", {}).items() if name not in {WAIT, TAKE_OVER}}
    return {**given, "configurable": {**asked, LEASE: owned.lease}}
