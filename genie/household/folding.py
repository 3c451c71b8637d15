"""Folds words, so that words of any language can be compared."""

import unicodedata


def fold(text: str) -> str:
    """Return `text` case-folded and without accents, so that it can be compared with other folded text."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
