"""What Bursar costs, as ratios to peers that do the same work, measured in interleaved rounds."""
