"""Look-ups: a provider is asked for the end of a call that nobody saw."""
