"""A checkout of somebody's own as a commit: what is taken, what is left, what is refused, and that nothing moves."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from autoresearch.errors import LabError, UserError
from autoresearch.lab.snapshot import REFS, Snapshot, main_checkout, take_snapshot
from tests.lab.conftest import TRAIN, Repository

OTHER = TRAIN.replace("DEPTH = 4", "DEPTH = 6")


def take(lab: Repository, worktree: Path | None = None, since: str = "HEAD") -> Snapshot:
    """A snapshot with the rules of the other tests."""
    rules = {"editable": ["train.py", "src/**"], "protected": ["prepare.py", "src/locked/**"]}
    return take_snapshot(lab.root, worktree or lab.root, since, **rules, message="an idea", at=1_700_000_000)


def names_in(lab: Repository, snapshot: Snapshot) -> list[str]:
    """The files that a snapshot changes."""
    return lab.git("-c", "core.quotePath=false", "diff", "--name-only", snapshot.parent, snapshot.commit).splitlines()


def test_the_user_sees_nothing_of_it(lab: Repository) -> None:
    """Staged and unstaged edits are both in it; index, HEAD, branches and files are as before, byte for byte."""
    lab.write("train.py", OTHER)
    lab.git("add", "train.py")
    lab.write("train.py", OTHER.replace("WIDTH = 64", "WIDTH = 32"))
    before = lab.fingerprint()

    snapshot = take(lab)
    assert lab.fingerprint() == before
    assert lab.git("show", f"{snapshot.commit}:train.py") == OTHER.replace("WIDTH = 64", "WIDTH = 32").strip()
    assert lab.git("rev-parse", f"{snapshot.commit}^") == lab.git("rev-parse", "HEAD") == snapshot.parent
    assert (
        lab.git("for-each-ref", REFS, "--format=%(refname) %(objectname)")
        == f"{REFS}/{snapshot.commit} {snapshot.commit}"
    )


def test_new_files_are_taken_where_they_may_be(lab: Repository) -> None:
    """An editable new file is part of it, staged or not; a stray one, a cache and an ignored one are not."""
    lab.write("train.py", OTHER)
    lab.write("src/new part.py", "NEW = 1\n")
    lab.write("src/staged.py", "NEW = 1\n")
    lab.write("data.bin", b"\0" * 6_000_000)
    lab.write("notes.txt", "mine\n")
    lab.write("staged.txt", "mine\n")
    lab.write("src/locked/own.py", "mine\n")
    lab.write("__pycache__/train.pyc", "x")
    lab.write(".git/info/exclude", "secret*\n")
    lab.write("secret.txt", "x")
    lab.git("add", "src/staged.py", "staged.txt")

    snapshot = take(lab)
    assert names_in(lab, snapshot) == ["src/new part.py", "src/staged.py", "train.py"]
    assert sorted(snapshot.left_out) == ["data.bin", "notes.txt", "src/locked/own.py", "staged.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes")
@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        (None, "", "no change: the files are as they are in"),
        ("prepare.py", "DATA = 2\n", "protected: prepare.py may not be changed"),
        ("src/locked/table.py", "TABLE = 2\n", "protected: src/locked/table.py"),
        ("program.md", "Raise it.\n", "outside the editable files: program.md"),
        ("train.py", "# " + "x" * 5_000_001, "too large: train.py"),
        ("train.py", "LINK", "links and submodules are refused: train.py"),
        ("train.py", "GONE", "deleted: train.py"),
        ("train.py", "MODE", "file mode changed: train.py"),
    ],
)
def test_what_the_guard_refuses_leaves_no_trace(lab: Repository, path: str | None, content: str, sentence: str) -> None:
    """One sentence with a cure that costs nobody his work, and no ref."""
    if path is not None:
        place = lab.root / path
        if content in ("LINK", "GONE"):
            place.unlink()
        if content == "LINK":
            place.symlink_to("prepare.py")
        elif content == "MODE":
            place.chmod(0o755)
        elif content != "GONE":
            place.write_text(content)
    with pytest.raises(UserError) as refused:
        take(lab)
    assert str(refused.value).startswith(sentence)
    assert "undo" not in str(refused.value)
    assert lab.git("for-each-ref", REFS) == ""


def test_committed_work_is_taken_since_a_commit(lab: Repository) -> None:
    """Of two commits and an edit, everything since the first one; a commit that is not there is named."""
    base = lab.git("rev-parse", "HEAD")
    lab.commit(**{"train.py": OTHER})
    lab.write("src/größe b.py", "SIZE = 2\n")

    assert names_in(lab, take(lab)) == ["src/größe b.py"]
    assert names_in(lab, take(lab, since=base)) == ["src/größe b.py", "train.py"]
    with pytest.raises(LabError, match="has no commit 'nowhere'"):
        take(lab, since="nowhere")


def test_linked_worktrees_belong_to_the_lab(lab: Repository, tmp_path: Path) -> None:
    """Their edits are taken against their own HEAD; another repository, a folder in it and nothing are no checkouts."""
    other = tmp_path / "other"
    lab.git("worktree", "add", "-q", "--detach", str(other))
    (other / "train.py").write_text(OTHER)
    assert names_in(lab, take(lab, other)) == ["train.py"]
    assert main_checkout(other) == lab.root.resolve()
    assert main_checkout(lab.root) is None

    stranger = Repository(tmp_path / "stranger")
    stranger.commit(**{"train.py": OTHER})
    for place, sentence in (
        (stranger.root, "of another repository"),
        (other / "src", "lies inside the checkout"),
        (tmp_path / "nowhere", "is no folder"),
        (Path(os.sep), "is no checkout of"),
    ):
        with pytest.raises(UserError, match=sentence):
            take(lab, place)


def test_the_same_again_is_the_same(lab: Repository) -> None:
    """Handed in twice within a second, an edit is one commit, and so one submission."""
    lab.write("train.py", OTHER)
    assert take(lab) == take(lab)
    assert len(lab.git("for-each-ref", REFS).splitlines()) == 1
