"""What is at stake in an answer about fraud: the payments that are in dispute."""

from decimal import Decimal

from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.stakes import sum_of


def stake(analysis: Analysis) -> Decimal:
    """Return the sum of the payments that a rule has flagged, each once."""
    return sum_of(analysis, lambda key: key.startswith("flag.") and key.endswith(".amount"))
