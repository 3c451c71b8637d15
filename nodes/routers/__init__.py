"""Extension point: routers, which score the specialists for a request."""
