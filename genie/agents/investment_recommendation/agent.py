"""The investment recommendation, as `roster.py` lists it."""

from pathlib import Path

from bursar.genie.agents.base import Agent
from bursar.genie.agents.investment_recommendation.recommendation import recommend
from bursar.genie.agents.investment_recommendation.stake import stake

AGENT = Agent.in_folder(Path(__file__).parent, analyse=recommend, stake=stake)
