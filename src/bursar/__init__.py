"""Bursar: a supervisor for LangGraph agents that cannot overspend, and Genie, the application that proves it."""

from pathlib import Path

_root = Path(__file__).resolve().parents[2]
if not (Path(__file__).parent / "graphs").is_dir() and (_root / "graphs").is_dir():
    __path__.append(str(_root))  # a checkout without symbolic links: the four folders stand at the repository's root

from bursar.checkpoints.ledger import Ledger  # noqa: E402
from bursar.checkpoints.saver import SQLAlchemySaver  # noqa: E402
from bursar.graphs.supervisor import build_supervisor  # noqa: E402
from bursar.nodes.example_router import ExampleRouter  # noqa: E402
from bursar.nodes.gate import Gate, Verdict  # noqa: E402
from bursar.nodes.gateway import meter  # noqa: E402
from bursar.nodes.model_router import ModelRouter  # noqa: E402
from bursar.nodes.priced import priced  # noqa: E402
from bursar.nodes.prices import Price  # noqa: E402
from bursar.nodes.routing import CascadeRouter, Router  # noqa: E402
from bursar.nodes.scope import charged_as  # noqa: E402
from bursar.nodes.specialist import Specialist, deterministic  # noqa: E402
from bursar.nodes.standalone import standalone  # noqa: E402
from bursar.state.budget import Budget  # noqa: E402
from bursar.state.decision import Decision  # noqa: E402
from bursar.state.errors import BudgetExceeded, BursarError, ConfigurationError  # noqa: E402
from bursar.state.money import USD  # noqa: E402
from bursar.state.report import Outcome, Report, Run, Task  # noqa: E402
from bursar.state.spend import Spend  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "USD",
    "Budget",
    "BudgetExceeded",
    "BursarError",
    "CascadeRouter",
    "ConfigurationError",
    "Decision",
    "ExampleRouter",
    "Gate",
    "Ledger",
    "ModelRouter",
    "Outcome",
    "Price",
    "Report",
    "Router",
    "Run",
    "SQLAlchemySaver",
    "Specialist",
    "Spend",
    "Task",
    "Verdict",
    "build_supervisor",
    "charged_as",
    "deterministic",
    "meter",
    "priced",
    "standalone",
]
