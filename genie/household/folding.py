"""How words of any language are compared."""

import unicodedata


def fold(text: str) -> str:
    """Lower case without accents, for comparing words of any of the known languages."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
