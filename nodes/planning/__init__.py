"""The steps before any specialist runs: intake opens the request, the guardian admits the plan, the gate reviews it."""
