"""What can be known of a coding agent without asking its model anything, and so without spending anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.researchers.agents import Agent
from autoresearch.researchers.session import PASSED

PATIENCE_SECONDS = 20.0
"""For each question; an agent takes a second to start."""


@dataclass(frozen=True)
class Probe:
    """What was found out about one agent."""

    path: str | None
    """Its program; None when it is not installed."""
    version: str = ""
    """As it says itself; empty when it would not."""
    missing_flags: tuple[str, ...] = ()
    """Flags that we use and its help does not name."""
    access: str = ""
    """What it would reach its provider with; empty when nothing was found."""
    is_logged_in: bool | None = None
    """None when it cannot be told without asking the provider."""


def probe(agent: Agent, program: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Probe:
    """Ask an agent for its version, its flags and its login; each in a process of its own that is given up in time.

    Args:
        agent: Which one.
        program: How it is started, when not by its own name.
        environment: What its variables are taken from; this process's own if None.
    """
    source = os.environ if environment is None else environment
    found = {name: source[name] for name in (*PASSED, *agent.passes) if source.get(name)}
    command = list(program) or [agent.program]
    path = shutil.which(command[0], path=found.get("PATH"))
    if path is None:
        return Probe(None)
    command[0] = path
    variables = {**found, **agent.sets}
    version = _answer([*command, "--version"], variables)[1]
    status, help_text = _answer([*command, *agent.help], variables)
    missing = tuple(flag for flag in agent.flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", help_text))
    access, is_logged_in = _access(agent, command, found, variables)
    number = re.search(r"\d+(\.\d+)+\S*", version)
    return Probe(path, number[0] if number else "", missing if status == 0 else (), access, is_logged_in)


def _access(
    agent: Agent, command: list[str], found: Mapping[str, str], variables: Mapping[str, str]
) -> tuple[str, bool | None]:
    key = next((key for key in agent.keys if key in found), None)
    if key is not None:
        return f"the key in {key}", True
    if agent.status:
        status, _ = _answer([*command, *agent.status], variables)
        if status is not None:
            return ("its own login", True) if status == 0 else ("", False)
    home = Path(found.get("HOME") or found.get("USERPROFILE") or "~").expanduser()
    login = next((name for name in agent.logins if (home / name).is_file()), None)
    return ("", None) if login is None else (f"the login in ~/{login}", None)


def _answer(command: list[str], variables: Mapping[str, str]) -> tuple[int | None, str]:
    """Exit status and output; no status when it could not be asked or took too long."""
    try:
        done = subprocess.run(
            command,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return done.returncode, f"{done.stdout}\n{done.stderr}"
