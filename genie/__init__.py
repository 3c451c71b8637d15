"""Genie: a financial assistant over the user's own statements. An application of Bursar's public names."""

DEFAULT_DATABASE = "sqlite:///genie.db"
REQUEST_BUDGET = "0.03"  # US dollars
