"""What the log teaches about runs to come."""
