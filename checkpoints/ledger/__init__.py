"""The books: accounts, calls and the audit log, and every transaction that changes them."""

from bursar.checkpoints.ledger.ledger import Ledger

__all__ = ["Ledger"]
