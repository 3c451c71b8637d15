"""How nodes become a graph: `build_supervisor`, the graph whose runs own their session, and graceful shutdown."""
