"""Extension point: specialists, and the chain of handlers that serves each of them."""
