"""A mix of requests, their costs by the ledger and by the provider, and how many answers keep the rules."""
