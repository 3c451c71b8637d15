"""Bursar: a supervisor for LangGraph agents that cannot overspend, and Genie, the application that proves it.

A public name is loaded when it is first used: `import bursar` alone loads no LangGraph.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

_root = Path(__file__).resolve().parents[2]
if not (Path(__file__).parent / "graphs").is_dir() and (_root / "graphs").is_dir():
    __path__.append(str(_root))  # a checkout without symbolic links: the four folders stand at the repository's root

if TYPE_CHECKING:
    from bursar.checkpoints.ledger import Ledger
    from bursar.checkpoints.saver import SQLAlchemySaver
    from bursar.checkpoints.saving.cipher import Cipher
    from bursar.graphs.draining import drain_on_sigterm
    from bursar.graphs.drill import Drill, Ground, drill
    from bursar.graphs.supervisor import build_supervisor
    from bursar.nodes.actions.action import action
    from bursar.nodes.gate import Gate, Verdict
    from bursar.nodes.gateway.metering import meter
    from bursar.nodes.gateway.priced import priced
    from bursar.nodes.gateway.prices import Price
    from bursar.nodes.gateway.scope import charged_as
    from bursar.nodes.gateway.standalone import standalone
    from bursar.nodes.handlers import keep
    from bursar.nodes.routers.example_router import ExampleRouter
    from bursar.nodes.routers.model_router import ModelRouter
    from bursar.nodes.routers.routing import CascadeRouter, Router
    from bursar.nodes.specialist import Specialist, deterministic
    from bursar.state.action import ActionCall, Happened
    from bursar.state.approval import ApprovalRequest, Approve, Deny
    from bursar.state.budget import Budget
    from bursar.state.decision import Decision
    from bursar.state.errors import (
        BreakerOpen,
        BudgetExceeded,
        BursarError,
        CipherError,
        ConfigurationError,
        LeaseLost,
        Paused,
        SessionBusy,
    )
    from bursar.state.money import USD
    from bursar.state.report import Fault, Limit, Outcome, Report, Run, Task
    from bursar.state.spend import Spend

__version__ = "0.1.0"

_WHERE = {
    "Ledger": "bursar.checkpoints.ledger",
    "SQLAlchemySaver": "bursar.checkpoints.saver",
    "Cipher": "bursar.checkpoints.saving.cipher",
    "drain_on_sigterm": "bursar.graphs.draining",
    "Drill": "bursar.graphs.drill",
    "Ground": "bursar.graphs.drill",
    "drill": "bursar.graphs.drill",
    "build_supervisor": "bursar.graphs.supervisor",
    "keep": "bursar.nodes.handlers",
    "ExampleRouter": "bursar.nodes.routers.example_router",
    "action": "bursar.nodes.actions.action",
    "ActionCall": "bursar.state.action",
    "Happened": "bursar.state.action",
    "ApprovalRequest": "bursar.state.approval",
    "Approve": "bursar.state.approval",
    "Deny": "bursar.state.approval",
    "Gate": "bursar.nodes.gate",
    "Verdict": "bursar.nodes.gate",
    "meter": "bursar.nodes.gateway.metering",
    "ModelRouter": "bursar.nodes.routers.model_router",
    "priced": "bursar.nodes.gateway.priced",
    "Price": "bursar.nodes.gateway.prices",
    "CascadeRouter": "bursar.nodes.routers.routing",
    "Router": "bursar.nodes.routers.routing",
    "charged_as": "bursar.nodes.gateway.scope",
    "Specialist": "bursar.nodes.specialist",
    "deterministic": "bursar.nodes.specialist",
    "standalone": "bursar.nodes.gateway.standalone",
    "Budget": "bursar.state.budget",
    "Decision": "bursar.state.decision",
    "BreakerOpen": "bursar.state.errors",
    "BudgetExceeded": "bursar.state.errors",
    "BursarError": "bursar.state.errors",
    "CipherError": "bursar.state.errors",
    "ConfigurationError": "bursar.state.errors",
    "LeaseLost": "bursar.state.errors",
    "SessionBusy": "bursar.state.errors",
    "Paused": "bursar.state.errors",
    "USD": "bursar.state.money",
    "Fault": "bursar.state.report",
    "Limit": "bursar.state.report",
    "Outcome": "bursar.state.report",
    "Report": "bursar.state.report",
    "Run": "bursar.state.report",
    "Task": "bursar.state.report",
    "Spend": "bursar.state.spend",
}

__all__ = [
    "USD",
    "ActionCall",
    "ApprovalRequest",
    "Approve",
    "BreakerOpen",
    "Budget",
    "BudgetExceeded",
    "BursarError",
    "CascadeRouter",
    "Cipher",
    "CipherError",
    "ConfigurationError",
    "Decision",
    "Deny",
    "Drill",
    "ExampleRouter",
    "Fault",
    "Gate",
    "Ground",
    "Happened",
    "LeaseLost",
    "Ledger",
    "Limit",
    "ModelRouter",
    "Outcome",
    "Paused",
    "Price",
    "Report",
    "Router",
    "Run",
    "SQLAlchemySaver",
    "SessionBusy",
    "Specialist",
    "Spend",
    "Task",
    "Verdict",
    "action",
    "build_supervisor",
    "charged_as",
    "deterministic",
    "drain_on_sigterm",
    "drill",
    "keep",
    "meter",
    "priced",
    "standalone",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'bursar' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
