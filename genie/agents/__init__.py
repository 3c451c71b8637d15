"""Genie's agents, one folder each. `base.py` says what an agent is, `genie/roster.py` lists them."""
