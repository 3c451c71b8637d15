"""Genie: a financial assistant over the user's own statements. It imports only the public names of Bursar."""

DEFAULT_DATABASE = "sqlite:///genie.db"
REQUEST_BUDGET = "0.03"  # US dollars
