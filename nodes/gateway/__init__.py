"""The gateway: the only door to a model or any other billable call."""
