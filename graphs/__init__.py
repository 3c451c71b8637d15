"""How the nodes are wired to a graph: `build_supervisor`, the graph that owns its session, and graceful shutdown."""
