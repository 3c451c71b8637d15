"""Tax optimisation: US federal estimate and loss harvesting."""
