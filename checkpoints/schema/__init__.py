"""The tables of Bursar, and the migrations that make them."""
