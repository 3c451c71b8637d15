"""The test kit: a chat model that answers from a script, and drills that make every agent of a graph fail."""

from bursar.testing.drill_runner import Drill, DrillEnvironment, DrillResult, Ground, drill
from bursar.testing.scripted_model import Call, Reply, Scripted, ScriptedModel, ScriptError

__all__ = [
    "Call",
    "Drill",
    "DrillEnvironment",
    "DrillResult",
    "Ground",
    "Reply",
    "ScriptError",
    "Scripted",
    "ScriptedModel",
    "drill",
]
