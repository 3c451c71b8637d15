"""Genie: a financial assistant over the user's own bank statements. It imports only Bursar's public names."""

DEFAULT_DATABASE = "sqlite:///genie.db"
REQUEST_BUDGET = "0.03"  # US dollars
