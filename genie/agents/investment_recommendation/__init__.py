"""Investment recommendation: a target allocation within caps, and the trades to get there."""
