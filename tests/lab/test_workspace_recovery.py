"""A campaign that was killed half-way goes on by calling the same things again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from autoresearch.lab.protocol import Change
from autoresearch.lab.worktree import Worktrees
from tests.lab.conftest import TRAIN, Repository


class Killed(BaseException):
    """The end of the process, as far as the code under test can tell."""


def test_open_gives_a_clean_worktree_again(lab: Repository) -> None:
    """Whatever stands where the worktree belongs is replaced."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    (path / "train.py").write_text("half an edit")
    (path / "left over").write_text("x")
    assert workspace.open(1, workspace.base) == path
    assert (path / "train.py").read_text() == TRAIN
    assert not (path / "left over").exists()


@pytest.mark.parametrize("step", ["worktree", "read-tree"])
def test_open_after_a_kill_in_the_middle(lab: Repository, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A worktree that was only half made is no obstacle, and holds nothing to salvage."""
    workspace = lab.workspace()
    real = subprocess.run

    def killed(command: list[str], **keywords: object) -> object:
        done = real(command, **keywords)
        if step in command:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", killed)
        with pytest.raises(Killed):
            workspace.open(1, workspace.base)
    again = lab.workspace()
    assert again.salvage(1, again.base) is None
    path = again.open(1, again.base)
    (path / "train.py").write_text("X = 1\n")
    assert isinstance(again.commit(1, again.base, "went on"), Change)
    again.sweep([])
    assert lab.git("worktree", "list").count("\n") == 0


@pytest.mark.parametrize("step", ["ls-files", "fast-import", "for-each-ref", "update-ref", "diff-tree"])
def test_commit_after_a_kill_in_the_middle(lab: Repository, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A commit that was cut off anywhere is made once, and the refs hold nothing else."""
    workspace = lab.workspace()
    (workspace.open(1, workspace.base) / "train.py").write_text("X = 1\n")
    real = subprocess.run

    def killed(command: list[str], **keywords: object) -> object:
        done = real(command, **keywords)
        if step in command:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", killed)
        with pytest.raises(Killed):
            workspace.commit(1, workspace.base, "idea")
    again = lab.workspace()
    change = again.commit(1, again.base, "idea")
    again.sweep([1])
    assert isinstance(change, Change)
    assert lab.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/autoresearch") == (
        f"refs/autoresearch/night/1 {change.commit}"
    )


def test_open_over_stale_entries(lab: Repository) -> None:
    """A worktree whose folder vanished, even a locked one, does not stop the next."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    lab.git("worktree", "lock", str(path))
    shutil.rmtree(path)
    assert (workspace.open(1, workspace.base) / "train.py").exists()


def test_sweep_says_what_it_did(lab: Repository) -> None:
    """Worktrees of dead experiments, vanished worktrees and stale locks go; live ones and the user's locks stay."""
    workspace = lab.workspace()
    live, dead, vanished = (workspace.open(number, workspace.base) for number in (1, 2, 3))
    shutil.rmtree(vanished)
    for stale in vanished.parent.glob("night-3.*"):
        stale.unlink()
    entry = next(iter(Worktrees(workspace._git).entries_of(live)))
    (entry / "index.lock").touch()
    (lab.root / ".git/refs/heads/autoresearch/night.lock").touch()
    (lab.root / ".git/index.lock").touch()
    done = workspace.sweep([1])
    assert done == [
        "removed the worktree of experiment 2",
        "removed git's entry for the vanished worktree night-3",
        "removed the stale lock night.lock",
        "removed the stale lock index.lock",
    ]
    assert (live.exists(), dead.exists()) == (True, False)
    assert (lab.root / ".git/index.lock").exists()
    assert workspace.sweep([1]) == []


def test_sweep_leaves_other_campaigns_alone(lab: Repository) -> None:
    """A campaign whose name begins like another's keeps its worktrees."""
    other = lab.workspace("night-2")
    path = other.open(1, other.base)
    assert lab.workspace("night").sweep([]) == []
    assert path.exists()


def test_salvage_keeps_what_an_agent_left(lab: Repository) -> None:
    """Interrupted work is committed without a guard, once, and nothing left is nothing salvaged."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    assert workspace.salvage(1, workspace.base) is None
    (path / "prepare.py").write_text("half = 1\n")
    commit = workspace.salvage(1, workspace.base)
    assert workspace.salvage(1, workspace.base) == commit
    assert lab.git("show", "refs/autoresearch/night/1:prepare.py") == "half = 1"


def test_salvage_after_close(lab: Repository) -> None:
    """Without a worktree there is nothing to salvage, and closing twice is closing once."""
    workspace = lab.workspace()
    workspace.open(1, workspace.base)
    workspace.close(1)
    workspace.close(1)
    assert workspace.salvage(1, workspace.base) is None
    assert list((lab.root / ".autoresearch/worktrees").iterdir()) == []


def test_busy_lock_is_waited_for(lab: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another git process holds for a moment delays, and does not stop."""
    workspace = lab.workspace()
    (workspace.open(1, workspace.base) / "train.py").write_text("X = 1\n")
    change = workspace.commit(1, workspace.base, "idea")
    assert isinstance(change, Change)
    lock = lab.root / ".git/refs/heads/autoresearch/night.lock"
    lock.touch()
    monkeypatch.setattr("time.sleep", lambda _: lock.unlink(missing_ok=True))
    workspace.keep(change.commit)
    assert workspace.tip == change.commit


def test_home_elsewhere(lab: Repository, tmp_path: Path) -> None:
    """The campaign's folder may stand outside the lab, and hides itself from git wherever it is."""
    workspace = lab.workspace(home=tmp_path / "elsewhere")
    assert workspace.open(1, workspace.base).is_relative_to(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/.gitignore").read_text() == "*\n"
