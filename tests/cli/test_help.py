"""Every verb explains itself, and none loads what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from autoresearch.cli.main import app
from tests.cli.toylab import Lab

COMMANDS: dict[str, typer.main.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_verb_and_option_has_help(name: str) -> None:
    """A sentence for the verb and one for each option and argument, which end like sentences."""
    command = COMMANDS[name]
    assert command.help and command.help.strip()
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text and text.strip().endswith("."), f"{name}: {parameter.name} has no help"


def test_it_is_a_module_too(lab: Lab) -> None:
    """`python -m autoresearch` and the installed command are the same."""
    ended = lab.cold("--version")
    assert ended.returncode == 0 and ended.stdout.startswith("autoresearch ")
    assert "Usage: autoresearch" in lab.cold("--help").stdout


def test_no_arguments_and_wrong_ones(lab: Lab) -> None:
    """Without a verb there is help; a wrong verb or option is named, in exit code 2."""
    assert "Usage: autoresearch" in "".join(lab.cli()[1:])
    for arguments in (("rnu",), ("run", "--experimnets", "3"), ("run", "--experiments", "many"), ("show",)):
        ended = lab.cli(*arguments)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
        assert "Error: " in ended.stderr


def test_heavy_packages_are_loaded_when_they_are_needed() -> None:
    """The command line starts without torch, matplotlib, Optuna and NumPy: they cost more than all the rest."""
    script = (
        "import sys, autoresearch.cli.main\n"
        "print(*sorted({'torch', 'matplotlib', 'optuna', 'numpy', 'pynvml'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
