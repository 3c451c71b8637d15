"""Extension point: a specialist, and the chain of handlers that serves it."""
