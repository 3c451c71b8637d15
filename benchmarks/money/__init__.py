"""Bursar and its peers against a seller that bills what it receives: who spends over a limit, and who loses work."""
