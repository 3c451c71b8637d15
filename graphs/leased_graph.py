"""A compiled graph whose every run owns its session: from before the session is read until what it wrote is on disk."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateUpdate

from bursar.checkpoints.leases import LEASE, LeaseHolder, lease_of
from bursar.checkpoints.ledger.ledger import Ledger
from bursar.checkpoints.saver.saver import LEDGER, SQLAlchemySaver
from bursar.graphs.graceful_shutdown import installed
from bursar.state.langgraph_private import CHECKPOINTER, READ, merge_configs
from bursar.state.session import SessionInput, SessionOutput, SessionState

# What a caller writes into `configurable`: how long to wait for a session that another owns, or `True` to take the
# session over from an owner that still lives.
WAIT, TAKE_OVER = "wait_seconds", "take_over"


class OwnedGraph(CompiledStateGraph[SessionState, None, SessionInput, SessionOutput]):
    """A `CompiledStateGraph` that takes the lease of its session for each run and each update of state.

    `configurable` may ask for `wait_seconds`, and for `take_over` of a session whose owner still lives. A run raises
    `SessionBusy` if another owns the session, and `LeaseLost` if another takes it over meanwhile. Without a
    `SQLAlchemySaver` it is a graph as any other. Inside `drain_on_sigterm`, SIGTERM ends its runs before their next
    step.
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
        """Add the process's control to the options, unless they have one, or the run is inside another and has its."""
        control = installed()
        if control is None or options.get("control"):
            return options
        inside = READ in merge_configs(self.config, config).get("configurable", {})
        return options if inside else {**options, "control": control}

    def _owning(self, config: RunnableConfig | None, *, resumes: bool) -> LeaseHolder | None:
        """Return what to enter before the session is read; None if it is owned already, or there is nothing to own."""
        merged = merge_configs(self.config, config)
        asked = merged.get("configurable", {})
        given: object = asked.get(CHECKPOINTER, self.checkpointer)  # pyright: ignore[reportUnknownMemberType]
        saver = getattr(getattr(given, "own", None), "__self__", None)  # LangGraph's server wraps the saver that it has
        session_id = asked.get("thread_id")
        if not isinstance(saver, SQLAlchemySaver) or session_id is None:
            return None
        lease = lease_of(merged)
        if (lease is not None and lease.session_id == session_id) or (lease is None and READ in asked):
            return None  # inside a run that owns the session, or that nobody fenced
        wait = asked.get(WAIT)
        return saver.own(
            str(session_id),
            wait_seconds=None if wait is None else float(wait),
            take_over=bool(asked.get(TAKE_OVER)),
            ledger=cast("Ledger | None", asked.get(LEDGER)),
            resumes=resumes,
        )


def _resumes(entered: object) -> bool:
    """Whether the input opens no new request, whose opening would log the lease."""
    return entered is None or isinstance(entered, Command)


def _under(owned: LeaseHolder, config: RunnableConfig | None) -> RunnableConfig:
    """Return `config` with the lease, and without `WAIT` and `TAKE_OVER`, which are not kept with the checkpoints."""
    given: RunnableConfig = config or {}
    asked = {name: value for name, value in given.get("configurable", {}).items() if name not in {WAIT, TAKE_OVER}}
    return {**given, "configurable": {**asked, LEASE: owned.lease}}
