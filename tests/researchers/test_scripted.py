"""The researcher for tests: what the script says, in order."""

from __future__ import annotations

import pytest

from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.protocol import NoProposal
from autoresearch.testing.researchers import ScriptedResearcher, set_constants
from tests.researchers.conftest import MakeBrief


def test_entries_are_played_in_order(brief: MakeBrief) -> None:
    """Files, answers, functions, and then nothing."""
    told = brief()
    researcher = ScriptedResearcher([{"a/b.py": "x"}, NoProposal("tired"), set_constants(DEPTH=9), lambda _: None])
    assert researcher.propose(told) == Proposal("scripted change 1", touches=("a/b.py",))
    assert (told.worktree / "a" / "b.py").read_text() == "x"
    assert researcher.propose(told) == NoProposal("tired")
    assert researcher.propose(told) == Proposal("set DEPTH = 9", Kind.TUNE, ("DEPTH",))
    assert "DEPTH = 9" in (told.worktree / "train.py").read_text()
    assert isinstance(researcher.propose(told), Proposal)
    assert researcher.propose(told) == NoProposal("the script is through")
    assert researcher.briefs == [told] * 5


def test_a_function_serves_every_brief(brief: MakeBrief) -> None:
    """For campaigns without end."""
    researcher = ScriptedResearcher(lambda told: Proposal(f"number {told.number}"), name="endless")
    assert [researcher.propose(brief(number=n)) for n in (4, 5)] == [Proposal("number 4"), Proposal("number 5")]
    assert researcher.name == "endless"


def test_a_script_may_raise(brief: MakeBrief) -> None:
    """To see how a campaign bears a broken researcher."""

    def break_down(_: object) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        ScriptedResearcher([break_down]).propose(brief())
