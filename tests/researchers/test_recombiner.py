"""The recombiner proposes the first stack that fits, and says what it is made of."""

from dataclasses import replace

import pytest

from autoresearch.domain.near_miss import STACKED, NearMiss
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.protocol import NoProposal
from autoresearch.researchers.recombiner import Recombiner
from autoresearch.testing.researchers import PROGRAM, ResearcherContract


def miss(number, gain, kind=Kind.TUNE):
    """A change that nearly helped."""
    label = f"#{number}"
    return NearMiss(label, f"c{number}", gain, 0.01, f"idea {number}", kind, frozenset((label,)), frozenset(("DEPTH",)))


STACKS = ((miss(1, 0.03), miss(2, 0.02)), (miss(1, 0.03), miss(3, 0.01, Kind.DATA)))


def merge(worktree, parent, commits):
    """Every change is a line at the end."""
    (worktree / "train.py").write_text(PROGRAM + "".join(f"# {commit}\n" for commit in commits))


class TestRecombiner(ResearcherContract):
    """It keeps the contract of all researchers, as long as there is something to combine."""

    @pytest.fixture
    def researcher(self):
        """One whose merges always succeed."""
        return Recombiner(merge)

    def brief(self, folder, number=1):
        """With something to combine."""
        return replace(super().brief(folder, number), operator=Operator.COMBINE, stacks=STACKS)

    def test_the_hypothesis_names_the_parents(self, researcher, tmp_path):
        """And the plan says what it is made of, so that nobody tries it again."""
        plan = researcher.propose(self.brief(tmp_path))

        assert isinstance(plan, Proposal)
        assert plan.hypothesis == "#1 and #2 together: #1 idea 1; #2 idea 2"
        assert (plan.kind, plan.expected_effect, plan.notes[STACKED]) == (Kind.TUNE, 0.05, "#1 #2")

    def test_what_does_not_fit_is_passed_over(self, tmp_path):
        """And not merged again on the same parent."""
        calls = []

        def stack(worktree, parent, commits):
            calls.append(tuple(commits))
            return "train.py was changed in the same place" if "c2" in commits else merge(worktree, parent, commits)

        researcher = Recombiner(stack)
        plans = [researcher.propose(self.brief(tmp_path, number)) for number in (1, 2)]

        assert [plan.notes[STACKED] for plan in plans if isinstance(plan, Proposal)] == ["#1 #3", "#1 #3"]
        assert plans[0].kind is Kind.OTHER  # they are of two kinds
        assert calls.count(("c1", "c2")) == 1

    def test_nothing_that_fits_is_said_with_a_reason(self, tmp_path):
        """The ledger then tells which pair failed and why."""
        answer = Recombiner(lambda *_: "train.py was changed in the same place").propose(self.brief(tmp_path))

        assert isinstance(answer, NoProposal)
        assert answer.reason == (
            "none of 2 combinations fits together: #1 and #2: train.py was changed in the same place"
        )
