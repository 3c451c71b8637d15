"""The user's data: its records, how files become rows, and the one component that reads them."""
