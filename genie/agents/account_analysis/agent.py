"""The account analysis, as `roster.py` lists it."""

from pathlib import Path

from bursar.genie.agents.account_analysis.analysis import analyse
from bursar.genie.agents.base import Agent

AGENT = Agent.in_folder(Path(__file__).parent, analyse=analyse)
