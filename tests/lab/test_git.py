"""The wrapper over the git executable; failures come from a stand-in for git on the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch.errors import LabError
from autoresearch.lab.git import Edit, Git
from tests.lab.conftest import Repository


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("fatal: write error: No space left on device", "disk of .* is full: free some space"),
        ("error: unable to create file x: Read-only file system", "read-only file system: move the lab"),
        ("error: insufficient permission: Permission denied", "give yourself the right to write"),
        ("error: object file .git/objects/12/34 is empty", "is damaged .*git fsck"),
        ("fatal: something new\nhint: nothing", "`git log` failed in .*: something new; run it by hand"),
        ("", "it gave no reason"),
    ],
)
def test_failures_become_one_sentence(tmp_path: Path, stderr: str, said: str) -> None:
    """What git says becomes one sentence with a cure."""
    (tmp_path / "said").write_text(stderr)
    fake = tmp_path / "git"
    fake.write_text(f"#!/bin/sh\ncat '{tmp_path}/said' >&2\nexit 128\n")
    fake.chmod(0o755)
    with pytest.raises(LabError, match=said) as raised:
        Git(tmp_path, str(fake)).run("log")
    assert "\n" not in str(raised.value)


def test_lock_that_stays_is_named(lab: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second and a half of patience the user hears of the lock and what to do about it."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    (lab.root / ".git/index.lock").touch()
    with pytest.raises(LabError, match=r"holds a lock.*index\.lock"):
        Git(lab.root).run("add", "-A")
    assert 1 < sum(waited) < 2


def test_inherited_git_variables_are_dropped(lab: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign that is started from a git hook does not write to that hook's repository."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert Git(lab.root).resolve("HEAD")


def test_unknown_revisions(lab: Repository) -> None:
    """A name that is no commit, even one that looks like an option, is told as such."""
    for revision in ("nothing", "--all", "-n1", "HEAD~9", ""):
        with pytest.raises(LabError, match="has no commit"):
            Git(lab.root).resolve(revision)


def test_commits_hold_any_name_and_any_bytes(lab: Repository) -> None:
    """Names with quotes, newlines and bytes that are no text survive, as do contents with NUL and CRLF."""
    git = Git(lab.root)
    names = ['a "b"\\c', "new\nline", "ü 数", "tab\there", "caf\udce9", " lead"]
    edits = {name: Edit("100644", b"\0\r\n" + name.encode("utf-8", "surrogateescape")) for name in names}
    commit = git.write_commit("refs/test", git.resolve("HEAD"), "Größe\n\nbody", edits, 1_700_000_000)
    tree = git.tree(commit)
    assert set(names) < set(tree)
    assert git.objects([tree[name].blob for name in names]) == [edit.content for edit in edits.values()]
    [written] = git.commit_objects(commit)
    assert (written.message, written.timestamp) == ("Größe\n\nbody", 1_700_000_000)
    assert "AutoResearch <autoresearch@localhost>" in lab.git("log", "-1", "--format=%an <%ae>", commit)


def test_file_becomes_folder(lab: Repository) -> None:
    """A deleted file may make room for a folder of its name within one commit."""
    git = Git(lab.root)
    edits = {"train.py/inner.py": Edit("100644", b"x"), "train.py": Edit("000000", None)}
    commit = git.write_commit("refs/test", git.resolve("HEAD"), "m", edits, 1)
    assert "train.py/inner.py" in git.tree(commit)
    assert "train.py" not in git.tree(commit)


def test_missing_objects_are_none(lab: Repository) -> None:
    """An object that is not there is None among those that are."""
    git = Git(lab.root)
    blob = git.tree("HEAD")["prepare.py"].blob
    assert git.objects([blob, "0" * 40, blob]) == [b"DATA = 1\n", None, b"DATA = 1\n"]
