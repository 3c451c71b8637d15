"""Secrets in what foreign exceptions say: known shapes are masked, everything else is left for the operator to read."""

import time

import pytest

from bursar.state.masking import MASK, MOST_CHARACTERS, mask_secrets

SECRETS = {
    "a database's URL": ("connect postgresql://svc:hunt/er@2@10.0.0.5/crm failed", "hunt"),
    "a token in a URL": ("clone https://tok3nvalue@github.com/x", "tok3nvalue"),
    "a query": ("GET https://api/v1?key=abc123&page=2", "abc123"),
    "a header": ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    "a header as a dict": ("{'Authorization': 'Bearer abc.def'}", "abc.def"),
    "a bearer token": ("sent bearer 0123456789abcdef", "0123456789abcdef"),
    "an API key": ("Incorrect API key provided: sk-proj-AbC_123", "AbC_123"),
    "a short key": ("key sk-9 refused", "sk-9"),
    "a setting": ("OPENAI_API_KEY=opensesame", "opensesame"),
    "JSON": ('{"password": "two words", "user": "ann"}', "two words"),
    "AWS": ("AKIAIOSFODNN7EXAMPLE is not authorised", "AKIAIOSFODNN7EXAMPLE"),
    "AWS's secret": ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
    "GitHub": ("token ghp_0123456789abcdefghij", "ghp_0123456789abcdefghij"),
    "a JSON web token": ("eyJhbGciOi.eyJzdWIi.SflKx is expired", "eyJzdWIi"),
    "a private key": ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY----- is bad", "MIIE"),
    "a cut private key": ("-----BEGIN PRIVATE KEY-----\nMIIEabc", "MIIE"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_known_shape_of_secret_is_masked(kind: str) -> None:
    """The secret is gone, a mask stands in its place, and masking again changes nothing."""
    text, secret = SECRETS[kind]
    masked = mask_secrets(text)
    assert secret not in masked
    assert MASK in masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "no such table: transactions",
        "max_tokens: 4096 is above the limit, 5000 tokens were asked for",
        "https://api.example.com:8080/v1/users?page=2 answered 404",
        "ann@example.com is no customer; the risk-free task-1 failed",
        "the authorization was refused",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """An operator still reads addresses, numbers and names."""
    assert mask_secrets(text) == text


def test_what_stands_around_a_secret_stays() -> None:
    """The mask replaces the secret alone, so an operator sees which service refused it."""
    assert mask_secrets("postgresql://svc:pw@10.0.0.5/crm is down") == f"postgresql://{MASK}@10.0.0.5/crm is down"
    assert mask_secrets('{"password": "pw", "user": "ann"}') == f'{{"password": {MASK}, "user": "ann"}}'


@pytest.mark.parametrize("piece", ["://a:", "password=", "-----BEGIN PRIVATE KEY", "eyJaaaaa.", "sk-", "a", "bearer "])
def test_no_text_takes_long(piece: str) -> None:
    """A text of any length is masked in far less than a second: what is behind a bound is left out."""
    began = time.process_time()
    assert len(mask_secrets(piece * 1_000_000)) <= MOST_CHARACTERS
    assert time.process_time() - began < 1
