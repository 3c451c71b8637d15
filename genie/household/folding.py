"""Folds words, so that words of any language can be compared."""

import unicodedata


def fold(text: str) -> str:
    """Return `text` in lower case and without accents, for comparison with other folded text."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
