"""Account analysis: income, spending, balances, transfers, recurring payments, change."""
