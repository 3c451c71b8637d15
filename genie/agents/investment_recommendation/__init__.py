"""Investment recommendation: target weights within caps for what is held, and the trades that lead there."""
