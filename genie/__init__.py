"""Genie: a financial assistant over the user's own statements. An application of Bursar, from its public names alone."""

DEFAULT_DATABASE = "sqlite:///genie.db"
REQUEST_BUDGET = "0.03"  # US dollars
