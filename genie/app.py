"""Opens Genie: a supervisor with the financial agents as its specialists, over one database."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from bursar import (
    TAKE_OVER,
    Budget,
    ConfigurationError,
    LangSmithObserver,
    Ledger,
    Price,
    Quote,
    SessionOutput,
    SQLAlchemySaver,
    Supervisor,
    build_supervisor,
    meter,
)
from bursar.genie import DEFAULT_DATABASE, REQUEST_BUDGET
from bursar.genie.agents.compliance_checker.checker import ComplianceChecker
from bursar.genie.agents.compliance_checker.gate import ComplianceGate
from bursar.genie.agents.database_connector.connector import Connector
from bursar.genie.household.household import open_household
from bursar.genie.progress import Progress
from bursar.genie.roster import specialists
from bursar.genie.router import build_router
from bursar.genie.wording.identifiers import mask

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from bursar import DrillEnvironment
    from bursar.genie.importing.import_report import ImportReport

DEFAULT_MODEL, CAREFUL_MODEL = "gpt-4o-mini", "gpt-4o"
BRANCH = "branch:to:"  # before the name of a node in a checkpoint: LangGraph's mark of a branch that leads there
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time now, in UTC. The default clock of `open_genie`."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Genie:
    """An open Genie: the compiled graph `app`, its ledger, and `data`, the engine of the household's tables."""

    app: Supervisor
    ledger: Ledger
    data: "Engine"
    clock: Clock

    def ask(self, question: str, session: str, *, progress: Progress | None = None) -> SessionOutput:
        """Ask `question` in the session and return the session's state, which holds the answer.

        Meanwhile `progress` is told what the request does.
        """
        return self._run({"messages": [("user", question)]}, session, progress)

    def quote(self, question: str, session: str | None = None) -> Quote:
        """Return what `ask` would do and cost now, in the session or in a new one. No agent runs."""
        return self.app.quote(question, _config(session) if session else None)

    def resume(self, session: str, *, progress: Progress | None = None, take_over: bool = False) -> SessionOutput:
        """Resume the session's interrupted request and return the session's state, which holds the answer.

        If no request is pending, nothing runs and the state with the last answer is returned. With `take_over`, take
        the session's lease from another process that still runs the session; that process's later writes are refused.
        Raises `ConfigurationError` if the session does not exist.
        """
        found = self.app.get_state(_config(session))
        if not found.values:
            raise ConfigurationError(f"no session {session!r}; list them with: bursar sessions")
        if strange := self._strange_nodes(session):
            raise ConfigurationError(
                f"session {session!r} is not Genie's: it is at {', '.join(strange)}; resume it in its own application: "
                "app.invoke(None, config)"
            )
        # A process may die when all of a step's nodes have ended, and the step has not: then no node is next, and the
        # request is not answered.
        if not found.next and isinstance(found.values["messages"][-1], AIMessage):
            return found.values  # pyright: ignore[reportReturnType] - the state's own values
        return self._run(None, session, progress, take_over=take_over)

    def _strange_nodes(self, session: str) -> list[str]:
        """Return the nodes that the session's checkpoint names and that Genie's graph does not have."""
        saver = cast("object", self.app.checkpointer)  # pyright: ignore[reportUnknownMemberType]
        kept = saver.get_tuple(_config(session)) if isinstance(saver, BaseCheckpointSaver) else None
        channels = kept.checkpoint["channel_versions"] if kept is not None else {}
        nodes = (str(name).removeprefix(BRANCH) for name in channels if str(name).startswith(BRANCH))
        return sorted(node for node in nodes if node not in self.app.nodes)

    def import_files(self, files: Sequence[Path], **options: Any) -> "tuple[ImportReport, ...]":
        """Import statements, holdings, prices and a profile into the database.

        `options` are the options of `import_files` in `importing/importing.py`. Returns one report for each file.
        """
        from bursar.genie.importing.importing import import_files

        return import_files(self.data, files, now=self.clock(), **options)

    def close(self) -> None:
        """Close every connection to the database, of the data, of the ledger and of the checkpointer."""
        self.data.dispose()
        self.ledger.close()

    def _run(
        self, entered: object, session: str, progress: Progress | None, *, take_over: bool = False
    ) -> SessionOutput:
        last: Any = None
        config = _config(session, take_over=take_over)
        modes = ["tasks", "values", "custom"]
        for mode, chunk in self.app.stream(entered, config, stream_mode=modes):  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
            if mode == "values":
                last = chunk
            elif progress is not None and mode == "custom":
                progress.happens(chunk)
            elif progress is not None and (name := _started(chunk)):
                progress.starts(name)
        return last


def _started(task: object) -> str:
    """Return the node's name if this event of LangGraph's `tasks` stream says that a node starts; otherwise ""."""
    event = cast("Mapping[str, object]", task)
    return "" if "result" in event else str(event["name"])


def _config(session: str, *, take_over: bool = False) -> RunnableConfig:
    return {"configurable": {"thread_id": session, **({TAKE_OVER: True} if take_over else {})}}


def open_genie(
    database: str = DEFAULT_DATABASE,
    *,
    budget: str = REQUEST_BUDGET,
    clock: Clock = utc_now,
    as_of: date | None = None,
    environment: Mapping[str, str] | None = None,
    checkpointer: bool = True,
) -> Genie:
    """Open Genie over `database`, which holds the household's data, the ledger and the checkpoints; make its tables.

    If `OPENAI_API_KEY` is in `environment` (by default the process's), the specialists use the model `BURSAR_MODEL`
    behind the gateway, at `OPENAI_BASE_URL` if that is set. Without a key nothing leaves the machine. `budget` is what
    one request may cost, in US dollars. Analyses take `as_of` as the present day; by default, the day of `clock`.
    If `checkpointer` is False, the graph has no checkpointer: a LangGraph server gives it one. Raises
    `ConfigurationError` if the budget, the database or the price is wrong.
    """
    cap = Budget(per_request=budget)
    # `model_of` may raise, so it runs before anything is opened.
    settings = os.environ if environment is None else environment
    model, careful = model_of(settings), careful_model_of(settings)
    ledger = Ledger(database, clock=clock)
    data = open_household(ledger.url)
    source, checker = Connector(data), ComplianceChecker()

    def today(now: datetime) -> date:
        return as_of or now.date()

    app = build_supervisor(
        specialists(
            source, today=today, model=model, careful=careful, budget=cap.per_request, objections=checker.objections
        ),
        budget=cap,
        ledger=ledger,
        checkpointer=SQLAlchemySaver(database) if checkpointer else None,
        router=build_router(source, model),
        gate=ComplianceGate(checker, source, today),
        observers=[LangSmithObserver(mask=mask)],
        name="genie",
        clock=clock,
    )
    return Genie(app, ledger, data, clock)


def graph_to_drill(environment: "DrillEnvironment") -> Supervisor:
    """Return the graph for `bursar drill`: Genie over the sample household, with its model at the drill's provider.

    Without the extra `bursar[openai]` Genie has no model, so the drill cannot make the provider fail.
    """
    from bursar.genie.household.sample import END, sample_files

    keys = {"OPENAI_API_KEY": "drill", "OPENAI_BASE_URL": environment.provider} if find_spec("langchain_openai") else {}
    genie = open_genie(environment.database, as_of=END, environment=keys)
    genie.import_files(list(sample_files()))
    return genie.app


def metered_models() -> list[BaseChatModel]:
    """Return Genie's metered models, which `bursar reconcile --look-up` asks for calls whose end nobody saw."""
    model = model_of(os.environ)
    return [] if model is None else [model]


def model_of(environment: Mapping[str, str]) -> BaseChatModel | None:
    """Return the metered model that `environment` names, or None if it has no `OPENAI_API_KEY`.

    If `BURSAR_STORE_ANSWERS` is `1`, OpenAI stores the answers, so that calls whose end nobody saw can be looked up.
    `BURSAR_MODEL_PRICE` (input/output, US dollars per million tokens, such as `0.15/0.60`) is the model's price. The
    variable is needed if no price list has the model. Raises `ConfigurationError` if the variable's text is no price.
    """
    if not environment.get("OPENAI_API_KEY"):
        return None
    return _metered(environment, environment.get("BURSAR_MODEL") or DEFAULT_MODEL, "BURSAR_MODEL_PRICE")


def careful_model_of(environment: Mapping[str, str]) -> BaseChatModel | None:
    """Return the metered model for answers with much at stake, None if `environment` names none or has no key.

    It is `BURSAR_CAREFUL_MODEL`, at the price `BURSAR_CAREFUL_MODEL_PRICE`. If `BURSAR_MODEL` is the default too, it is
    `gpt-4o`. Raises what `model_of` raises.
    """
    default = "" if environment.get("BURSAR_MODEL") else CAREFUL_MODEL
    name = environment.get("BURSAR_CAREFUL_MODEL") or default
    if not name or not environment.get("OPENAI_API_KEY"):
        return None
    return _metered(environment, name, "BURSAR_CAREFUL_MODEL_PRICE")


def _metered(environment: Mapping[str, str], name: str, price: str) -> BaseChatModel:
    from langchain_openai import ChatOpenAI

    base_url = environment.get("OPENAI_BASE_URL") or None
    store = True if environment.get("BURSAR_STORE_ANSWERS") == "1" else None
    key = lambda: environment["OPENAI_API_KEY"]  # noqa: E731
    chat = ChatOpenAI(model=name, api_key=key, base_url=base_url, temperature=0, store=store)
    return meter(chat, price=_price(environment.get(price, ""), price))


def _price(text: str, variable: str) -> Price | None:
    if not text:
        return None
    try:
        given, made = (Decimal(part) for part in text.split("/"))
    except (ValueError, InvalidOperation):
        raise ConfigurationError(
            f"{variable} is input/output in US dollars per million tokens, such as 0.15/0.60, not {text!r}"
        ) from None
    return Price(input=given, output=made)
