"""What the household's transactions mean: their category, transfers, cash flow, and regular payments."""
