"""A provider on loopback, a ledger with a request in it, and scopes to spend from."""

from tests.support.bench import bench

__all__ = ["bench"]
