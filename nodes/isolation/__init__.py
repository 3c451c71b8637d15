"""Where handlers run: threads and event loops of their own, stopped at the deadline."""
