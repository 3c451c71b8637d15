"""The operator's command line: look into the ledger, stop work, answer what waits, repair the books, drill."""
