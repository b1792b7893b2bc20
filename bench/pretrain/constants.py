"""Upper-case constants of a training script, set from a command line by rewriting a copy of its text."""

from __future__ import annotations

import ast
import re


def parse(text: str) -> dict[str, str]:
    """Read "DEPTH=9,PATTERN=SSSL" as constants by name; a value that is no Python literal is meant as a string."""
    settings = {}
    for part in filter(None, re.split(r",(?=\s*[A-Z][A-Z0-9_]*=)", text)):
        name, equals, value = part.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise SystemExit(f"'{part}' is no setting; write NAME=VALUE with the upper-case name of a constant")
        try:
            ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = value if re.fullmatch(r"[\d\s*+/().-]+", value) else repr(value)  # 2**17 is a number too
        settings[name] = value
    return settings


def rewrite(source: str, settings: dict[str, str]) -> str:
    """Return a script with constants set to other values; its comments and everything else stay.

    Raises:
        SystemExit: The script has no such constant.
    """
    for name, value in settings.items():
        pattern = re.compile(rf"^({name}\s*(?::[^=]+)?=\s*)[^#\n]*?(\s*(?:#.*)?)$", re.MULTILINE)
        source, found = pattern.subn(lambda at, value=value: at[1] + value + at[2], source, count=1)
        if not found:
            raise SystemExit(f"the script has no constant {name} on a line of its own; set one that it has")
    return source
