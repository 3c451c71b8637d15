"""What every paid call goes through: its scope, its steps, its admission, and the answer that is kept."""
