"""Extension point: a gate reviews the plan and the answer."""
