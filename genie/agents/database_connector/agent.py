"""The database connector, as `roster.py` lists it."""

from pathlib import Path

from bursar.genie.agents.base import Agent
from bursar.genie.agents.database_connector.listing import answer

AGENT = Agent.in_folder(Path(__file__).parent, analyse=answer, tool_only=True)
