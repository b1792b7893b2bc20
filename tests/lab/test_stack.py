"""Several earlier changes put together in a worktree, or the reason why they do not fit."""

from __future__ import annotations

import pytest

from autoresearch.lab.protocol import Change
from autoresearch.lab.stack import stack_changes
from tests.lab.conftest import TRAIN, Repository
from tests.lab.test_workspace import kept, propose


def test_changes_of_different_parents_are_put_together(lab: Repository) -> None:
    """Neighbouring constants, distant lines and a new file, each written against another parent."""
    workspace = lab.workspace()
    first = propose(workspace, 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6"), "src/new.py": "N = 1\n"})
    tip = kept(workspace, 2, {"train.py": TRAIN.replace("RATE = 0.1", "RATE = 0.2")})
    second = propose(workspace, 3, {"train.py": lab.git("show", f"{tip}:train.py").replace("64", "96") + "\n"}, tip)
    assert isinstance(first, Change) and isinstance(second, Change)

    worktree = workspace.open(4, tip)
    assert stack_changes(worktree, tip, [first.commit, second.commit]) is None

    change = workspace.commit(4, tip, "together")
    assert isinstance(change, Change)
    assert change.constants == {"DEPTH": 6, "WIDTH": 96, "RATE": 0.2, "SIZE": 1, "N": 1}


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (("DEPTH = 4", "DEPTH = 6"), ("DEPTH = 4", "DEPTH = 8"), "DEPTH was set anew since"),
        (
            ("print(DEPTH * WIDTH)", "print(1)"),
            ("print(DEPTH * WIDTH)", "print(2)"),
            "train.py was changed in the same",
        ),
        (("DEPTH = 4", "DEPTH = 6"), ("DEPTH = 4", "DEPTH = 6"), "DEPTH was set anew since"),
        (("def main", "def start"), ("def main", "def start"), "is contained already"),
    ],
)
def test_what_does_not_fit_leaves_the_worktree_as_it_is(
    lab: Repository, one: tuple[str, str], other: tuple[str, str], reason: str
) -> None:
    """The second change is not merged, so nothing of the first is written either."""
    workspace = lab.workspace()
    changes = [propose(workspace, n, {"train.py": TRAIN.replace(*edit)}) for n, edit in ((1, one), (2, other))]
    worktree = workspace.open(3, workspace.base)

    said = stack_changes(worktree, workspace.base, [change.commit for change in changes if isinstance(change, Change)])

    assert said is not None and reason in said
    assert (worktree / "train.py").read_text() == TRAIN


def test_a_constant_that_was_set_since_is_not_set_back(lab: Repository) -> None:
    """A near-miss of before a keep that set the same constant is stale."""
    workspace = lab.workspace()
    change = propose(workspace, 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 8")})
    tip = kept(workspace, 2, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6")})
    assert isinstance(change, Change)

    assert stack_changes(workspace.open(3, tip), tip, [change.commit]) == "DEPTH was set anew since"


def test_a_commit_that_is_gone_is_said_so(lab: Repository) -> None:
    """Somebody may have cleaned the repository since."""
    workspace = lab.workspace()
    worktree = workspace.open(1, workspace.base)

    assert "not in this repository" in (stack_changes(worktree, workspace.base, ["0" * 40]) or "")
