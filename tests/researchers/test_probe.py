"""What `doctor` finds out about agents, played by programs that answer as the real ones do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.researchers.agents import AGENTS, CLAUDE, OPENCODE
from autoresearch.researchers.probe import Probe, probe

MakeProbe = Callable[..., Probe]

PROGRAM = """\
import sys
if sys.argv[1:] == ["--version"]: print("2.1.197 (Claude Code)")
elif "--help" in sys.argv: print({help!r})
elif sys.argv[1:] == ["auth", "status"]: sys.exit({status})
else: sys.exit("a model would have been asked")
"""


@pytest.fixture
def ask(tmp_path: Path) -> MakeProbe:
    """Probe a program that plays Claude Code, with the help and the login that are given."""

    def make(flags: tuple[str, ...] = CLAUDE.flags, status: int = 0, agent: object = CLAUDE, **given: str) -> Probe:
        program = tmp_path / "agent.py"
        program.write_text(
            PROGRAM.format(help="\n".join(f"  {flag} <x>  does something" for flag in flags), status=status)
        )
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **given}
        return probe(agent, [sys.executable, str(program)], environment)  # type: ignore[arg-type]

    return make


def test_version_flags_and_login(ask: MakeProbe) -> None:
    """Three questions, none of them to a model."""
    found = ask()
    assert (found.version, found.missing_flags, found.is_logged_in) == ("2.1.197", (), True)


def test_flags_that_are_gone_are_named(ask: MakeProbe) -> None:
    """A longer flag with the same beginning is another one."""
    others = tuple(flag for flag in CLAUDE.flags if flag != "--tools")
    assert ask(flags=(*others, "--tools-extra", "--disallowed--tools")).missing_flags == ("--tools",)


def test_nobody_is_logged_in(ask: MakeProbe) -> None:
    """As the agent says itself; a key in the environment makes up for it."""
    assert ask(status=1).is_logged_in is False
    found = ask(status=1, ANTHROPIC_API_KEY="k")
    assert found.is_logged_in is True and found.access == "the key in ANTHROPIC_API_KEY"
    assert ask(agent=OPENCODE, OPENROUTER_API_KEY="k").access == "the key in OPENROUTER_API_KEY"


def test_a_login_that_cannot_be_asked_for_is_looked_for(ask: MakeProbe, tmp_path: Path) -> None:
    """A file shows that there was one, and not whether it holds."""
    agent = replace(CLAUDE, status=())
    assert ask(agent=agent).is_logged_in is None and not ask(agent=agent).access
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").touch()
    assert ask(agent=agent).access == "the login in ~/.claude/.credentials.json"


@pytest.mark.parametrize("kind", AGENTS)
def test_an_agent_that_is_not_there(kind: str, tmp_path: Path) -> None:
    """No error, for whoever has no use for it."""
    assert probe(AGENTS[kind], (), {"PATH": str(tmp_path)}) == Probe(None)


def test_a_program_that_is_none(tmp_path: Path) -> None:
    """What cannot answer has no version, and nothing is said against its flags."""
    program = tmp_path / "claude"
    program.write_text("no program")
    program.chmod(0o755)
    found = probe(CLAUDE, (), {"PATH": str(tmp_path)})
    assert (found.version, found.missing_flags, found.is_logged_in) == ("", (), None)
