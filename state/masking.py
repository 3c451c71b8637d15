"""Secrets in foreign text: known shapes of keys, tokens and passwords are masked before a text is logged."""

import re

MASK = "***"
MOST_CHARACTERS = 10_000  # of a text that is looked at; what is behind them is left out
# A name that says that a secret follows: `api_key=…`, `"password": "…"`. Counts of tokens are no secrets.
_NAMES = (
    r"password|passwd|passphrase|pwd|secret|credentials?|token(?!s)|(?:api|access|account)[_-]?key"
    r"|(?<=[?&])(?:key|sig|signature|auth)"  # in the query of a URL
)

# The vocabulary: each shape, and what stands in its place. Repetitions are bounded, so that no text takes long.
SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    # The user and password of a URL; a password may contain `/` and `@`.
    (re.compile(r"://(?:[^\s:/@]{0,200}:\S{1,300}|[^\s/?#@]{1,300})@"), f"://{MASK}@"),
    (
        re.compile(r"(?i)(authorization['\"]?\s{0,3}[:=]\s{0,3}['\"]?(?:\w{1,20}\s{1,3})?)[^\s'\",;]{3,}"),
        rf"\g<1>{MASK}",
    ),
    # A user and a password after words such as "log in as".
    (
        re.compile(
            r"(?i)\b((?:log(?:ged|ging)?|sign(?:ed|ing)?)[ -]?(?:in|on)(?:\s{1,3}(?:as|for|with|user)){1,2}\s{1,3}"
            r"['\"]?[\w.@+-]{1,64}:)[^\s'\",;)]{3,200}"
        ),
        rf"\g<1>{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer\s{1,3})[\w.~+/=-]{3,}"), rf"\g<1>{MASK}"),
    (
        re.compile(
            rf"(?i)((?:{_NAMES})[\w-]{{0,40}}['\"]?\s{{0,3}}[:=]\s{{0,3}})(?:'[^']{{1,500}}'|\"[^\"]{{1,500}}\"|[^\s'\"&,;)}}]+)"
        ),
        rf"\g<1>{MASK}",
    ),
    (re.compile(r"\b[sprk]k[-_][\w*.-]+"), MASK),  # OpenAI, Anthropic, Stripe
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), MASK),  # AWS
    (re.compile(r"\b(?:gh[opsru]_|github_pat_|glpat-|hf_|xox[abeoprs]-|AIza|ya29\.)[\w.-]{10,}"), MASK),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"), MASK),  # a JSON web token
)


def mask_secrets(text: str) -> str:
    """Return the first `MOST_CHARACTERS` of `text`, with `MASK` in place of what has a shape of `SHAPES`.

    A secret of another shape stays. Masking a text again changes nothing.
    """
    text = text[:MOST_CHARACTERS]
    for shape, instead in SHAPES:
        text = shape.sub(instead, text)
    return text
