"""The peers' adapters. They run in an environment of the peers' own, so neither tests nor type checkers import them."""
