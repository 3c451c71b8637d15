"""Investment recommendation: target weights for the household's holdings, and the trades that lead there."""
