"""What is at stake in an answer about tax: the saving that it names, otherwise the year's tax."""

from decimal import Decimal

from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.stakes import sum_of


def stake(analysis: Analysis) -> Decimal:
    """Return the saving that selling at a loss brings this year; if there is none, the estimated tax of the year."""
    return sum_of(analysis, lambda key: key == "harvest_saving") or sum_of(analysis, lambda key: key == "tax")
