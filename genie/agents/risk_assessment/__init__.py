"""Risk assessment: reserves, debt, concentration, volatility, drawdown, value at risk."""
