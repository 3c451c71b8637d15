"""Specialists: their definition, and the chain of handlers that serves each of them."""
