"""Secrets of our environment: which variables hold one, and how a text is rid of them.

Runs and agents are not given what they do not need, but a program may find a key elsewhere, and an agent has its own.
Whatever either of them writes may be quoted to all others, night after night, so values are blotted out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE", re.IGNORECASE)
"""Names of variables that hold a secret."""

LEAST_CHARS = 8
"""A shorter value is a number or a word as often as a secret, and would be found everywhere."""

BLOT = "[secret]"

_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values that nobody is to read, the longest first: one may be a part of another."""
    named = {value.strip() for name, value in environment.items() if SECRET.search(name)}
    in_addresses = {found for value in environment.values() for found in _URL_PASSWORD.findall(value)}
    return tuple(sorted((v for v in named | in_addresses if not _is_guessable(v)), key=lambda v: (-len(v), v)))


def blotted(text: str, secrets: Iterable[str]) -> str:
    """A text without secrets, written plainly or as in JSON."""
    for secret in secrets:
        for written in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(written, BLOT)
    return text


def _is_guessable(value: str) -> bool:
    """Whether a value is too short, or a plain number, to be a secret."""
    return len(value) < LEAST_CHARS or value.replace("_", "").isdigit()
