"""What is at stake in a recommendation: the money that it moves."""

from decimal import Decimal

from bursar.genie.wording.facts import Analysis
from bursar.genie.wording.stakes import CENTS, sum_of


def stake(analysis: Analysis) -> Decimal:
    """Return the money that the recommended trades move: half of their sum, because each purchase is paid by a sale."""
    return (sum_of(analysis, _is_trade) / 2).quantize(CENTS)


def _is_trade(key: str) -> bool:
    return key.startswith("trade_") and key.endswith("_amount")
