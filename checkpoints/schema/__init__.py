"""Every table of Bursar, and the migrations that make them."""
