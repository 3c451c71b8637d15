"""The ledger: accounts, calls and the audit log, and the functions that change them, each in one transaction."""

from bursar.checkpoints.ledger.ledger import Ledger

__all__ = ["Ledger"]
