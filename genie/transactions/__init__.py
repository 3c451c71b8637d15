"""What the household's transactions mean: category, transfer or cash flow, and payments that come back."""
