"""Measures what Bursar costs, as ratios to peers that do the same work, in rounds in which all take turns."""
