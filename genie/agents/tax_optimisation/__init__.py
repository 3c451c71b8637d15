"""Tax optimisation: estimates US federal income tax and ranks sales at a loss that lower the tax."""
