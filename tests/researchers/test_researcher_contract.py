"""One contract, three researchers."""

from __future__ import annotations

import sys

import pytest

from autoresearch.researchers.command import CommandResearcher
from autoresearch.researchers.protocol import Researcher
from autoresearch.researchers.tuner import Tuner
from autoresearch.testing.researchers import ResearcherContract, ScriptedResearcher, set_constants

AGENT = """
text = open("train.py").read()
open("train.py", "w").write(text.replace("DEPTH = 4", "DEPTH = 5"))
print("deeper")
"""


class TestTuner(ResearcherContract):
    """The built-in optimiser."""

    @pytest.fixture
    def researcher(self) -> Researcher:
        """As a lab without annotations gets it."""
        return Tuner()


class TestCommand(ResearcherContract):
    """An executable."""

    @pytest.fixture
    def researcher(self) -> Researcher:
        """The least that can be called an agent."""
        return CommandResearcher([sys.executable, "-c", AGENT], timeout_seconds=20)


class TestScripted(ResearcherContract):
    """A script."""

    @pytest.fixture
    def researcher(self) -> Researcher:
        """Two entries, as many as the contract asks for."""
        return ScriptedResearcher([set_constants(DEPTH=5), set_constants(DEPTH=6)])
