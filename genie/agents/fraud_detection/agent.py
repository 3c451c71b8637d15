"""The fraud detection, as `roster.py` lists it."""

from pathlib import Path

from bursar.genie.agents.base import Agent
from bursar.genie.agents.fraud_detection.detection import detect
from bursar.genie.agents.fraud_detection.stake import stake

AGENT = Agent.in_folder(Path(__file__).parent, analyse=detect, stake=stake)
