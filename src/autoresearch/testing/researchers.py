"""Researchers without a model, and the contract that every researcher keeps.

from autoresearch.testing.researchers import ResearcherContract, ScriptedResearcher

class TestMine(ResearcherContract):
    @pytest.fixture
    def researcher(self): return MyResearcher()
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from autoresearch.domain.constants import ConstantValue, rewrite_constants
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.researchers.protocol import Brief, NoProposal, Researcher

Answer = Proposal | NoProposal
Edit = Mapping[str, str] | Answer | Callable[[Brief], "Answer | Mapping[str, str] | None"]
"""One scripted proposal: files to write (path to text), an answer, or a function that edits and may return either."""

PROGRAM = '''"""A program with one knob."""
LEARNING_RATE = 0.1  # per step
DEPTH = 4
BATCH_SIZE = 2**6
print("loss:", (LEARNING_RATE - 0.03) ** 2 + DEPTH / BATCH_SIZE)
'''
"""The editable `train.py` in the contract's worktree."""


class ScriptedResearcher:
    """Hand in what a script says, one entry per proposal, and nothing when it is through.

    Args:
        script: Entries in order, or one function that is called for every brief.
        name: Who it is in the ledger.
    """

    def __init__(
        self, script: Iterable[Edit] | Callable[[Brief], Answer | Mapping[str, str] | None], name: str = "script"
    ) -> None:
        self._function = script if callable(script) else None
        self._script = iter(() if callable(script) else script)
        self._name = name
        self._stopping = threading.Event()
        self.briefs: list[Brief] = []
        """Every brief it was given, oldest first."""

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in reports."""
        return self._name

    def stop(self) -> None:
        """End the proposal that is under way as soon as its entry returns, or else the next one."""
        self._stopping.set()

    def propose(self, brief: Brief) -> Answer:
        """Play the next entry of the script."""
        self.briefs.append(brief)
        entry: Edit | None = self._function or next(self._script, None)
        if entry is None:
            return NoProposal("the script is through")
        answer = entry(brief) if callable(entry) else entry
        if self._stopping.is_set():
            self._stopping.clear()
            return NoProposal("stopped", interrupted=True)
        if isinstance(answer, Proposal | NoProposal):
            return answer
        for path, text in (answer or {}).items():
            target = brief.worktree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        return Proposal(f"scripted change {len(self.briefs)}", touches=tuple(answer or ()))


def set_constants(path: str = "train.py", /, **values: ConstantValue) -> Callable[[Brief], Proposal]:
    """A script's entry that gives constants new values, as `set_constants(DEPTH=9)`."""

    def edit(brief: Brief) -> Proposal:
        target = brief.worktree / path
        target.write_text(rewrite_constants(target.read_text(encoding="utf-8"), values), encoding="utf-8")
        moves = ", ".join(f"{name} = {value!r}" for name, value in values.items())
        return Proposal(f"set {moves}", Kind.TUNE, tuple(values))

    return edit


class ResearcherContract:
    """What every researcher promises. Derive a test class, give it the fixture `researcher`, and run pytest.

    The fixture is a researcher that has something to propose for `PROGRAM`, and may be asked several times.
    """

    def brief(self, folder: Path, number: int = 1) -> Brief:
        """A brief whose worktree is a fresh folder with `PROGRAM` as its only editable file."""
        worktree = folder / f"worktree-{number}"
        worktree.mkdir()
        (worktree / "train.py").write_text(PROGRAM, encoding="utf-8")
        (worktree / "evaluate.py").write_text("METRIC = 1\n", encoding="utf-8")
        return Brief(
            campaign="contract", number=number, seed=number, worktree=worktree, editable=("train.py",),
            metric=Metric("loss"), budget_seconds=1.0, parent="c0ffee",
        )  # fmt: skip

    def test_name_is_stable_and_not_empty(self, researcher: Researcher) -> None:
        """The ledger knows a researcher by its name."""
        assert researcher.name and researcher.name == researcher.name

    def test_propose_edits_editable_files_only(self, researcher: Researcher, tmp_path: Path) -> None:
        """A proposal is an edit of the worktree, and nothing else in it changes or stays behind."""
        brief = self.brief(tmp_path)
        answer = researcher.propose(brief)
        assert isinstance(answer, Proposal), answer
        assert (brief.worktree / "train.py").read_text(encoding="utf-8") != PROGRAM
        assert (brief.worktree / "evaluate.py").read_text(encoding="utf-8") == "METRIC = 1\n"
        assert {path.name for path in brief.worktree.iterdir()} == {"train.py", "evaluate.py"}

    def test_proposal_says_what_and_claims_no_baseline(self, researcher: Researcher, tmp_path: Path) -> None:
        """The plan has a hypothesis of one line; the baseline is the harness's own."""
        answer = researcher.propose(self.brief(tmp_path))
        assert isinstance(answer, Proposal)
        assert answer.hypothesis.strip() and "\n" not in answer.hypothesis
        assert answer.kind is not Kind.BASELINE

    def test_it_can_be_asked_again(self, researcher: Researcher, tmp_path: Path) -> None:
        """One researcher serves a whole campaign."""
        for number in (1, 2):
            assert isinstance(researcher.propose(self.brief(tmp_path, number)), Proposal)

    def test_stop_ends_a_proposal_soon(self, researcher: Researcher, tmp_path: Path) -> None:
        """After `stop`, from any thread, `propose` answers with an interrupted NoProposal or was through already."""
        answers: list[Proposal | NoProposal] = []
        thread = threading.Thread(target=lambda: answers.append(researcher.propose(self.brief(tmp_path))))
        thread.start()
        researcher.stop()
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(answers[0], Proposal) or answers[0].interrupted
