"""Reads what a question asks for: its periods, its parts, and the categories or merchants that it names."""
