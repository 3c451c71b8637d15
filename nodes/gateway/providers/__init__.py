"""Extension point: what the gateway knows of each model provider."""
