"""Value for money: handlers that ask the cheap rung first, and the dear one where a decision is worth it."""
