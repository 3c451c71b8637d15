"""Genie's agents: a folder each."""
