"""Commands that compare the books with what providers say, and that export them."""
