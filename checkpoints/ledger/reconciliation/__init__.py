"""Calls whose end nobody saw, and how the books compare with what a provider says that it billed."""
