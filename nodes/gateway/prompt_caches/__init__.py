"""Providers' prompt caches: what a call adds so that its prompt is cached, and the warning if it cannot be."""
