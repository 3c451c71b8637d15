"""The books: accounts, calls and the audit log, and every transaction that changes them."""
