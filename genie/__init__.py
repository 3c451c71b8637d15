"""Genie's agents: a financial assistant over the user's own statements."""
