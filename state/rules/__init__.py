"""The money rules: pure functions that decide what is held, shaped, refused and settled.

They read no clock, database, socket or source of randomness, and they change nothing. Gateway and ledger ask them and
store what they decide; the ledger's conditional UPDATE stays the bound. The simulator in `tests/simulation/` asks the
same functions.
"""
