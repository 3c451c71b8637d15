"""Bursar: a supervisor for LangGraph agents that cannot overspend, and Genie, the application that proves it.

A public name is loaded at its first use, so that `import bursar` alone loads no LangGraph.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

_root = Path(__file__).resolve().parents[2]
if not (Path(__file__).parent / "graphs").is_dir() and (_root / "graphs").is_dir():
    __path__.append(str(_root))  # a checkout without symbolic links: the five folders stand at the repository's root

if TYPE_CHECKING:
    from bursar.checkpoints.ledger.ledger import Ledger
    from bursar.checkpoints.saver.cipher import Cipher
    from bursar.checkpoints.saver.saver import SQLAlchemySaver
    from bursar.graphs.agent_tool import as_tool
    from bursar.graphs.graceful_shutdown import drain_on_sigterm
    from bursar.graphs.leased_graph import TAKE_OVER
    from bursar.graphs.supervisor import Supervisor, build_supervisor
    from bursar.nodes.actions.decorator import action
    from bursar.nodes.cascades.cascade import Cascade
    from bursar.nodes.cascades.choose import ChoiceFacts, Choose
    from bursar.nodes.composers.base import Composer
    from bursar.nodes.composers.model_composer import ModelComposer
    from bursar.nodes.gates.base import Gate, Verdict
    from bursar.nodes.gateway.meter import meter
    from bursar.nodes.gateway.paid_calls.scope import charged_as
    from bursar.nodes.gateway.priced_function import priced
    from bursar.nodes.gateway.prices import Price
    from bursar.nodes.gateway.providers.base import (
        BilledUsage,
        Failure,
        FoundCall,
        LookUp,
        Provider,
        ProviderClient,
        register_provider,
    )
    from bursar.nodes.gateway.standalone import standalone
    from bursar.nodes.observers.base import CallContext, CallEnd, Observer, RequestContext, RequestEnd, RunContext
    from bursar.nodes.observers.langsmith import LangSmithObserver
    from bursar.nodes.routers.base import Candidate, Question, Router, Scores
    from bursar.nodes.routers.cascade import CascadeRouter
    from bursar.nodes.routers.example_router import ExampleRouter
    from bursar.nodes.routers.model_router import ModelRouter
    from bursar.nodes.routers.word_overlap import WordOverlapRouter
    from bursar.nodes.runs.handlers import keep, save_partial
    from bursar.nodes.specialists.definition import Specialist, deterministic
    from bursar.state.action import ActionCall, Happened
    from bursar.state.approval import ApprovalRequest, Approve, BudgetRaise, Deny
    from bursar.state.budget import Budget
    from bursar.state.decision import Decision, Quote
    from bursar.state.errors import (
        BursarError,
        CipherError,
        ConfigurationError,
        DatabaseError,
        LedgerError,
        SessionBusy,
        UnknownPrice,
    )
    from bursar.state.money import USD
    from bursar.state.refusals import (
        BreakerOpen,
        BudgetExceeded,
        LeaseLost,
        NoSession,
        NotApproved,
        Paused,
        Refused,
        Unmetered,
    )
    from bursar.state.run import Fault, Limit, Outcome, Report, Run, Task
    from bursar.state.session import Request, SessionOutput
    from bursar.state.spend import Spend
    from bursar.testing import Drill, DrillEnvironment, Ground, drill

__version__ = "0.1.0"

_WHERE = {
    "Ledger": "bursar.checkpoints.ledger.ledger",
    "LookUp": "bursar.nodes.gateway.providers.base",
    "SQLAlchemySaver": "bursar.checkpoints.saver.saver",
    "Cipher": "bursar.checkpoints.saver.cipher",
    "as_tool": "bursar.graphs.agent_tool",
    "drain_on_sigterm": "bursar.graphs.graceful_shutdown",
    "Drill": "bursar.testing",
    "DrillEnvironment": "bursar.testing",
    "Ground": "bursar.testing",
    "drill": "bursar.testing",
    "TAKE_OVER": "bursar.graphs.leased_graph",
    "Supervisor": "bursar.graphs.supervisor",
    "build_supervisor": "bursar.graphs.supervisor",
    "keep": "bursar.nodes.runs.handlers",
    "save_partial": "bursar.nodes.runs.handlers",
    "ExampleRouter": "bursar.nodes.routers.example_router",
    "WordOverlapRouter": "bursar.nodes.routers.word_overlap",
    "action": "bursar.nodes.actions.decorator",
    "ActionCall": "bursar.state.action",
    "Happened": "bursar.state.action",
    "ApprovalRequest": "bursar.state.approval",
    "Approve": "bursar.state.approval",
    "BudgetRaise": "bursar.state.approval",
    "Deny": "bursar.state.approval",
    "Gate": "bursar.nodes.gates.base",
    "Verdict": "bursar.nodes.gates.base",
    "meter": "bursar.nodes.gateway.meter",
    "Composer": "bursar.nodes.composers.base",
    "ModelComposer": "bursar.nodes.composers.model_composer",
    "ModelRouter": "bursar.nodes.routers.model_router",
    "priced": "bursar.nodes.gateway.priced_function",
    "Price": "bursar.nodes.gateway.prices",
    "CallContext": "bursar.nodes.observers.base",
    "CallEnd": "bursar.nodes.observers.base",
    "RequestContext": "bursar.nodes.observers.base",
    "RequestEnd": "bursar.nodes.observers.base",
    "Observer": "bursar.nodes.observers.base",
    "RunContext": "bursar.nodes.observers.base",
    "LangSmithObserver": "bursar.nodes.observers.langsmith",
    "BilledUsage": "bursar.nodes.gateway.providers.base",
    "Failure": "bursar.nodes.gateway.providers.base",
    "FoundCall": "bursar.nodes.gateway.providers.base",
    "Provider": "bursar.nodes.gateway.providers.base",
    "ProviderClient": "bursar.nodes.gateway.providers.base",
    "register_provider": "bursar.nodes.gateway.providers.base",
    "Cascade": "bursar.nodes.cascades.cascade",
    "ChoiceFacts": "bursar.nodes.cascades.choose",
    "Choose": "bursar.nodes.cascades.choose",
    "Candidate": "bursar.nodes.routers.base",
    "CascadeRouter": "bursar.nodes.routers.cascade",
    "Question": "bursar.nodes.routers.base",
    "Router": "bursar.nodes.routers.base",
    "Scores": "bursar.nodes.routers.base",
    "charged_as": "bursar.nodes.gateway.paid_calls.scope",
    "Specialist": "bursar.nodes.specialists.definition",
    "deterministic": "bursar.nodes.specialists.definition",
    "standalone": "bursar.nodes.gateway.standalone",
    "Budget": "bursar.state.budget",
    "Decision": "bursar.state.decision",
    "Quote": "bursar.state.decision",
    "BreakerOpen": "bursar.state.refusals",
    "BudgetExceeded": "bursar.state.refusals",
    "BursarError": "bursar.state.errors",
    "CipherError": "bursar.state.errors",
    "ConfigurationError": "bursar.state.errors",
    "LeaseLost": "bursar.state.refusals",
    "SessionBusy": "bursar.state.errors",
    "Paused": "bursar.state.refusals",
    "DatabaseError": "bursar.state.errors",
    "LedgerError": "bursar.state.errors",
    "UnknownPrice": "bursar.state.errors",
    "Refused": "bursar.state.refusals",
    "NotApproved": "bursar.state.refusals",
    "NoSession": "bursar.state.refusals",
    "Unmetered": "bursar.state.refusals",
    "USD": "bursar.state.money",
    "Fault": "bursar.state.run",
    "Limit": "bursar.state.run",
    "Outcome": "bursar.state.run",
    "Report": "bursar.state.run",
    "Run": "bursar.state.run",
    "Task": "bursar.state.run",
    "Request": "bursar.state.session",
    "SessionOutput": "bursar.state.session",
    "Spend": "bursar.state.spend",
}

__all__ = [
    "ActionCall",
    "ApprovalRequest",
    "Approve",
    "BilledUsage",
    "BreakerOpen",
    "Budget",
    "BudgetExceeded",
    "BudgetRaise",
    "BursarError",
    "Candidate",
    "Cascade",
    "CascadeRouter",
    "ChoiceFacts",
    "Choose",
    "Cipher",
    "CipherError",
    "Composer",
    "ConfigurationError",
    "DatabaseError",
    "Decision",
    "Deny",
    "Drill",
    "DrillEnvironment",
    "ExampleRouter",
    "Failure",
    "FoundCall",
    "Fault",
    "Gate",
    "Ground",
    "Happened",
    "LeaseLost",
    "LangSmithObserver",
    "Ledger",
    "LookUp",
    "LedgerError",
    "Limit",
    "ModelComposer",
    "ModelRouter",
    "NoSession",
    "NotApproved",
    "Observer",
    "Outcome",
    "Paused",
    "Price",
    "Provider",
    "ProviderClient",
    "Question",
    "Quote",
    "Refused",
    "Report",
    "Request",
    "Router",
    "Run",
    "RunContext",
    "SQLAlchemySaver",
    "Scores",
    "SessionBusy",
    "SessionOutput",
    "Specialist",
    "Spend",
    "Supervisor",
    "TAKE_OVER",
    "Task",
    "USD",
    "UnknownPrice",
    "Unmetered",
    "Verdict",
    "WordOverlapRouter",
    "action",
    "as_tool",
    "build_supervisor",
    "charged_as",
    "deterministic",
    "drain_on_sigterm",
    "drill",
    "keep",
    "meter",
    "priced",
    "register_provider",
    "save_partial",
    "standalone",
    "CallContext",
    "CallEnd",
    "RequestContext",
    "RequestEnd",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'bursar' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
