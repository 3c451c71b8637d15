"""How it is wired: `build_supervisor` (the engine) and Genie (the application)."""
