"""The tax optimisation, as `roster.py` lists it."""

from pathlib import Path

from bursar.genie.agents.base import Agent
from bursar.genie.agents.tax_optimisation.optimisation import optimise
from bursar.genie.agents.tax_optimisation.stake import stake

AGENT = Agent.in_folder(Path(__file__).parent, analyse=optimise, stake=stake)
