"""The nodes of the graph, and what they are made of: gateway, guardian, supervisor, routers, specialists, gates."""
