"""The operator's command line: read the ledger, stop work, answer what waits for a person, repair the ledger, drill."""
