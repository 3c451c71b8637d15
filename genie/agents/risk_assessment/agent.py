"""The risk assessment, as `roster.py` lists it."""

from pathlib import Path

from bursar.genie.agents.base import Agent
from bursar.genie.agents.risk_assessment.assessment import assess

AGENT = Agent.in_folder(Path(__file__).parent, analyse=assess)
