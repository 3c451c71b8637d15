"""The headline on Genie: a mix of requests, what they cost by the ledger and by the provider, and who keeps the rules."""
