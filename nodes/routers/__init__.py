"""Routers: what scores the specialists for a request."""
