"""The directions of the pretraining lab speak of the program that they are for."""

from __future__ import annotations

import re
from importlib import resources

from autoresearch.domain.constants import find_constants
from autoresearch.researchers.sections import estimated_tokens

LAB = resources.files("autoresearch.labs") / "pretrain"
PROGRAM = (LAB / "program.md").read_text(encoding="utf-8")


def test_every_constant_is_there() -> None:
    """What stands in capitals between backticks is a constant of train.py."""
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)\b", PROGRAM))
    known = find_constants((LAB / "train.py").read_text(encoding="utf-8"))
    assert len(named) > 12 and named <= known.keys()


def test_it_is_read_before_every_idea() -> None:
    """So it takes no more than a fifth of a brief."""
    assert estimated_tokens(PROGRAM) < 2_400


def test_the_phases_come_in_order() -> None:
    """Settle the machine first, simplify last."""
    titles = re.findall(r"^\d\. \*\*(.*?)\.\*\*", PROGRAM, re.MULTILINE)
    assert titles == ["Settle the machine", "Take away", "Architecture", "Polish", "Combine and simplify"]
