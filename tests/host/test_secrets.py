"""Secrets of an environment: which values are, and how a text is rid of them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from autoresearch.host.secrets import BLOT, blotted, secrets_of


def test_named_values_and_passwords_in_addresses() -> None:
    """By the name of their variable, or within an address; numbers and short words are left to be read."""
    environment = {
        "OPENAI_API_KEY": "sk-abcdefgh", "MAX_TOKENS": "32768000", "DB_PASSWORD": "short", "HOME": "/home/somebody",
        "HTTPS_PROXY": "http://me:very-secret-word@proxy.example:3128", "GITHUB_TOKEN": "sk-abcdefgh-and-more",
    }  # fmt: skip
    assert secrets_of(environment) == ("sk-abcdefgh-and-more", "very-secret-word", "sk-abcdefgh")


@given(st.text(min_size=8).filter(lambda text: len(text.strip()) >= 8), st.text(), st.text())
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    """Neither as it is nor as JSON writes it."""
    secrets = secrets_of({"A_TOKEN": secret})
    plain = blotted(before + secret + after, secrets)
    written = blotted(json.dumps({"said": before + secret + after}), secrets)
    for each in secrets:
        assert each not in plain.replace(BLOT, "\0") and each not in json.loads(written)["said"].replace(BLOT, "\0")
