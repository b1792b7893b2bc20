"""The campaign's view of a real repository."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from autoresearch.errors import LabError
from autoresearch.lab.protocol import Apply, Change, Refusal, Remove, Switch, Workspace
from autoresearch.lab.workspace import GitWorkspace
from tests.lab.conftest import TRAIN, Repository


def propose(workspace: GitWorkspace, number: int, edit: dict[str, str], parent: str | None = None) -> Change | Refusal:
    """Open, edit, commit: what a researcher does."""
    parent = parent or workspace.tip
    path = workspace.open(number, parent)
    for name, content in edit.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    return workspace.commit(number, parent, f"idea {number}")


def kept(workspace: GitWorkspace, number: int, edit: dict[str, str]) -> str:
    """Propose and keep; the new tip."""
    change = propose(workspace, number, edit)
    assert isinstance(change, Change), change
    workspace.keep(change.commit)
    return change.commit


def test_is_a_workspace(lab: Repository) -> None:
    """The class has the protocol's shape; mypy checks the assignment, this the run-time names."""
    workspace: Workspace = lab.workspace()
    assert workspace.base == workspace.tip == lab.git("rev-parse", "HEAD")


def test_constants_are_measured(lab: Repository) -> None:
    """A changed constant is found by machine, with all other constants of the editable files."""
    change = propose(lab.workspace(), 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6  # deeper")})
    assert isinstance(change, Change)
    assert change.constants == {"DEPTH": 6, "WIDTH": 64, "RATE": 0.1, "SIZE": 1}
    assert (change.changed_constants, change.is_constants_only) == (("DEPTH",), True)
    assert (change.files, change.lines_added, change.lines_removed) == (("train.py",), 1, 1)


def test_structural_change_is_told_apart(lab: Repository) -> None:
    """A changed function is not a change of constants alone."""
    change = propose(lab.workspace(), 1, {"train.py": TRAIN.replace("DEPTH * WIDTH", "DEPTH + WIDTH")})
    assert isinstance(change, Change)
    assert (change.changed_constants, change.is_constants_only) == ((), False)


def test_new_file_in_editable_folder(lab: Repository) -> None:
    """A new file whose name has spaces, quotes and letters beyond ASCII is part of the change."""
    name = 'src/neu "ä" 数\n.py'
    change = propose(lab.workspace(), 1, {name: "NEW = 2\n"})
    assert isinstance(change, Change), change
    assert change.files == (name,)
    assert change.constants["NEW"] == 2


def test_user_is_never_touched(lab: Repository) -> None:
    """Index, HEAD, branches and all files of a dirty tree are byte-identical after a whole cycle."""
    lab.write("train.py", "half an idea")
    lab.write("notes with ü.txt", "untracked")
    lab.write("staged.py", "x = 1\n")
    lab.git("add", "staged.py")
    before = lab.fingerprint()
    workspace = lab.workspace()
    first = kept(workspace, 1, {"train.py": TRAIN.replace("4", "5")})
    second = propose(workspace, 2, {"train.py": TRAIN.replace("64", "65")}, workspace.base)
    assert isinstance(second, Change)
    workspace.rebase(2, second.commit, first)
    workspace.checkout(first, lab.root / ".autoresearch/runs/1")
    workspace.discard(lab.root / ".autoresearch/runs/1")
    workspace.close(1)
    workspace.sweep([])
    assert lab.fingerprint() == before
    assert ".autoresearch" not in lab.git("status", "--porcelain")


def test_hooks_and_signing_stay_out(lab: Repository) -> None:
    """No hook of the repository runs, and no signing program is asked."""
    for hook in ("post-checkout", "pre-commit", "reference-transaction", "post-commit", "post-index-change"):
        path = lab.write(f".git/hooks/{hook}", "#!/bin/sh\ntouch ran\nexit 1\n")
        path.chmod(0o755)
    lab.git("config", "commit.gpgSign", "true")
    lab.git("config", "gpg.program", "false")
    workspace = lab.workspace()
    kept(workspace, 1, {"train.py": "X = 1\n"})
    assert not list(lab.root.rglob("ran"))


@pytest.mark.parametrize(
    ("name", "word"),
    [("prepare.py", "protected"), ("src/locked/table.py", "protected"), ("other.py", "outside"),
     ("Prepare.py", "protected"), ("src/.gitattributes", "protected"), ("autoresearch.toml", "protected")],
)  # fmt: skip
def test_guard_names_the_file(lab: Repository, name: str, word: str) -> None:
    """Edits elsewhere are refused by name, and are reachable all the same."""
    refusal = propose(lab.workspace(), 1, {"train.py": "X = 1\n", name: "X = 2\n"})
    assert isinstance(refusal, Refusal)
    assert name in refusal.reason
    assert word in refusal.reason
    assert lab.git("show", f"refs/autoresearch/night/1:{name}") == "X = 2"
    assert refusal.commit == lab.git("rev-parse", "refs/autoresearch/night/1")


def test_no_change_is_refused(lab: Repository) -> None:
    """An untouched worktree, or a file that was only touched, is no proposal."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    assert workspace.commit(1, workspace.base, "nothing") == Refusal(
        "no change: the files are as they were in the parent; edit at least one of the editable files"
    )
    os.utime(path / "train.py", (1, 1))
    refusal = workspace.commit(1, workspace.base, "touched")
    assert isinstance(refusal, Refusal)
    assert "no change" in refusal.reason


def test_deletion_is_refused(lab: Repository) -> None:
    """A deleted editable file is refused; the commit without it is kept."""
    workspace = lab.workspace()
    (workspace.open(1, workspace.base) / "train.py").unlink()
    refusal = workspace.commit(1, workspace.base, "gone")
    assert isinstance(refusal, Refusal)
    assert "deleted: train.py" in refusal.reason
    assert "train.py" not in lab.git("ls-tree", "--name-only", str(refusal.commit))


def test_links_are_refused(lab: Repository, tmp_path: Path) -> None:
    """A link in place of a file or of a folder is refused, and what it points to is not read."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/größe b.py").write_text("SECRET = 1\n")
    workspace = lab.workspace(protected=[])
    path = workspace.open(1, workspace.base)
    (path / "src").rename(path / "was")
    (path / "src").symlink_to(tmp_path / "secret")
    refusal = workspace.commit(1, workspace.base, "link")
    assert isinstance(refusal, Refusal)
    assert "links and submodules are refused: src" in refusal.reason
    assert "SECRET" not in lab.git("log", "-p", "-1", str(refusal.commit))


def test_what_is_no_text_is_refused(lab: Repository) -> None:
    """Weights would be a head start that no run has earned, and no person can read them in a diff."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    (path / "train.py").write_bytes(b"X = 1\n\0\x01\x02")
    refusal = workspace.commit(1, workspace.base, "weights")
    assert isinstance(refusal, Refusal)
    assert "no text: train.py" in refusal.reason


def test_text_that_the_lab_calls_binary_is_text(lab: Repository) -> None:
    """An attribute of the lab hides its lines from a diff, and makes nothing of it unfit."""
    (lab.root / ".gitattributes").write_text("train.py -diff\n")
    lab.git("add", "-A")
    lab.git("commit", "-qm", "attributes")
    workspace = lab.workspace()
    (workspace.open(1, workspace.base) / "train.py").write_text("X = 7\n")
    assert isinstance(workspace.commit(1, workspace.base, "seven"), Change)


def test_changed_mode_is_refused(lab: Repository) -> None:
    """An executable bit on an editable file is not an idea."""
    workspace = lab.workspace()
    (workspace.open(1, workspace.base) / "train.py").chmod(0o755)
    refusal = workspace.commit(1, workspace.base, "mode")
    assert isinstance(refusal, Refusal)
    assert "file mode changed: train.py" in refusal.reason


def test_nested_repository_is_refused(lab: Repository) -> None:
    """A repository within the worktree would become a submodule, so it is refused by name."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    (path / "train.py").write_text("X = 1\n")
    Repository(path / "src/vendor").commit(x="1")
    refusal = workspace.commit(1, workspace.base, "vendored")
    assert isinstance(refusal, Refusal)
    assert "src/vendor/" in refusal.reason


def test_large_file_is_refused_and_left_out(lab: Repository) -> None:
    """A file over 5 MB would stay in the lab's history for good."""
    refusal = propose(lab.workspace(), 1, {"src/weights.bin": "x" * 5_000_001, "train.py": "X = 1\n"})
    assert isinstance(refusal, Refusal)
    assert "too large: src/weights.bin" in refusal.reason
    assert "weights" not in lab.git("ls-tree", "-r", "--name-only", str(refusal.commit))


def test_caches_and_briefs_are_no_change(lab: Repository) -> None:
    """What tools leave behind is neither committed nor refused."""
    litter = {"src/__pycache__/a.pyc": "", "proposal.json": "{}", ".pytest_cache/x": "", "brief.md": "Read me."}
    change = propose(lab.workspace(), 1, {"train.py": "X = 1\n", **litter})
    assert isinstance(change, Change), change
    assert change.files == ("train.py",)


def test_git_of_the_researcher_does_not_matter(lab: Repository) -> None:
    """Commits, a hidden file and even a deleted .git in the worktree change nothing in what is measured."""
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    (path / "train.py").write_text("X = 1\n")
    inside = Repository.__new__(Repository)
    inside.root = path
    inside.git("commit", "-q", "-a", "-m", "by the agent")
    (path / "prepare.py").write_text("X = 2\n")
    inside.git("update-index", "--assume-unchanged", "prepare.py")
    (path / ".git").unlink()
    refusal = workspace.commit(1, workspace.base, "sly")
    assert isinstance(refusal, Refusal)
    assert "prepare.py" in refusal.reason


def test_repair_is_measured_against_the_parent(lab: Repository) -> None:
    """A second commit of the same worktree replaces the first, which stays reachable as a revision."""
    workspace = lab.workspace()
    first = propose(workspace, 1, {"train.py": "X = 1\n"})
    path = lab.root / ".autoresearch/worktrees/night-1"
    (path / "train.py").write_text("X = 2\n")
    second = workspace.commit(1, workspace.base, "repaired")
    assert isinstance(first, Change)
    assert isinstance(second, Change)
    assert lab.git("rev-parse", "refs/autoresearch/night/1", "refs/autoresearch/night/1.1").split() == [
        second.commit, first.commit
    ]  # fmt: skip
    assert lab.git("rev-parse", f"{second.commit}^") == workspace.base


def test_repeated_commit_is_the_same_commit(lab: Repository) -> None:
    """A commit that was made before a kill is found again and not made twice."""
    workspace = lab.workspace()
    first = propose(workspace, 1, {"train.py": "X = 1\n"})
    assert workspace.commit(1, workspace.base, "idea 1") == first
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/autoresearch") == "refs/autoresearch/night/1"


def test_keep_fast_forwards_once(lab: Repository) -> None:
    """The branch moves to the kept commit, and keeping it again changes nothing."""
    workspace = lab.workspace()
    first = kept(workspace, 1, {"train.py": "X = 1\n"})
    second = kept(workspace, 2, {"train.py": "X = 2\n"})
    workspace.keep(first)
    workspace.keep(second)
    assert lab.git("rev-parse", "autoresearch/night") == second == workspace.tip


def test_keep_refuses_a_moved_branch(lab: Repository) -> None:
    """A branch that somebody else moved is not forced back."""
    workspace = lab.workspace()
    change = propose(workspace, 1, {"train.py": "X = 1\n"})
    assert isinstance(change, Change)
    elsewhere = lab.commit(**{"train.py": "mine"})
    lab.git("branch", "-f", "autoresearch/night", elsewhere)
    with pytest.raises(LabError, match="does not descend"):
        workspace.keep(change.commit)
    assert workspace.tip == elsewhere


def test_checked_out_branch_is_refused(lab: Repository) -> None:
    """The branch does not move under a user who has it checked out."""
    workspace = lab.workspace()
    change = propose(workspace, 1, {"train.py": "X = 1\n"})
    assert isinstance(change, Change)
    lab.git("switch", "-q", "autoresearch/night")
    with pytest.raises(LabError, match=r"checked out in .*git switch -"):
        workspace.keep(change.commit)
    with pytest.raises(LabError, match="checked out"):
        lab.workspace()


def test_rebase_merges_neighbouring_constants(lab: Repository) -> None:
    """Two experiments that turned adjacent knobs do not conflict."""
    workspace = lab.workspace()
    other = propose(workspace, 2, {"train.py": TRAIN.replace("WIDTH = 64", "WIDTH = 96")})
    tip = kept(workspace, 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6")})
    assert isinstance(other, Change)
    change = workspace.rebase(2, other.commit, tip)
    assert isinstance(change, Change)
    assert change.constants == {"DEPTH": 6, "WIDTH": 96, "RATE": 0.1, "SIZE": 1}
    assert change.changed_constants == ("WIDTH",)
    assert lab.git("rev-parse", f"{change.commit}^") == tip
    assert lab.git("rev-parse", "refs/autoresearch/night/2.1") == other.commit
    assert workspace.rebase(2, other.commit, tip) == change


def test_rebase_merges_distant_lines(lab: Repository) -> None:
    """Edits of different places in one file, and of different files, are merged."""
    workspace = lab.workspace()
    other = propose(workspace, 2, {"train.py": TRAIN.replace("0.1", "0.2 * 1.0"), "src/new.py": "N = 1\n"})
    tip = kept(workspace, 1, {"train.py": "import math\n" + TRAIN})
    assert isinstance(other, Change)
    change = workspace.rebase(2, other.commit, tip)
    assert isinstance(change, Change)
    assert set(change.files) == {"train.py", "src/new.py"}
    assert (change.lines_added, change.lines_removed) == (2, 1)


def test_rebase_sets_a_constant_that_was_set_since(lab: Repository) -> None:
    """A constant's value means the same on any parent, so the proposal's value stands and is measured there."""
    workspace = lab.workspace()
    other = propose(workspace, 2, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 8")})
    tip = kept(workspace, 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6")})
    assert isinstance(other, Change)
    change = workspace.rebase(2, other.commit, tip)
    assert isinstance(change, Change)
    assert change.constants["DEPTH"] == 8


def test_rebase_conflict_names_the_file(lab: Repository) -> None:
    """Two edits of the same line of code cannot both stand."""
    workspace = lab.workspace()
    other = propose(workspace, 2, {"train.py": TRAIN + "print(1)\n"})
    tip = kept(workspace, 1, {"train.py": TRAIN + "print(2)\n"})
    assert isinstance(other, Change)
    refusal = workspace.rebase(2, other.commit, tip)
    assert isinstance(refusal, Refusal)
    assert "train.py" in refusal.reason


def test_rebase_of_a_contained_change(lab: Repository) -> None:
    """The same change twice is contained already."""
    workspace = lab.workspace()
    same = {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6")}
    other = propose(workspace, 2, same)
    tip = kept(workspace, 1, same)
    assert isinstance(other, Change)
    refusal = workspace.rebase(2, other.commit, tip)
    assert isinstance(refusal, Refusal)
    assert "already contained" in refusal.reason


def test_a_kept_change_is_taken_away_by_itself(lab: Repository) -> None:
    """What was kept before and after it stays, and no worktree is needed."""
    workspace = lab.workspace()
    first = kept(workspace, 1, {"train.py": TRAIN.replace("DEPTH * WIDTH", "DEPTH * WIDTH + 1")})
    later = (lab.root / ".autoresearch/worktrees/night-1/train.py").read_text().replace("RATE = 0.1", "RATE = 0.2")
    tip = kept(workspace, 2, {"train.py": later})
    change = workspace.derive(3, Remove(first), tip, "without #1")
    assert isinstance(change, Change)
    assert lab.git("show", f"{change.commit}:train.py") == TRAIN.replace("RATE = 0.1", "RATE = 0.2").strip()
    assert lab.git("rev-parse", f"{change.commit}^", "refs/autoresearch/night/3").split() == [tip, change.commit]
    assert workspace.derive(3, Remove(first), tip, "without #1") == change


def test_taking_a_constant_away_leaves_the_neighbours_that_were_set_since(lab: Repository) -> None:
    """Of two constants that one change set, only the one that still stands goes back."""
    workspace = lab.workspace()
    first = kept(workspace, 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6").replace("= 64", "= 96")})
    text = TRAIN.replace("DEPTH = 4", "DEPTH = 8").replace("= 64", "= 96")
    tip = kept(workspace, 2, {"train.py": text})
    change = workspace.derive(3, Remove(first), tip, "")
    assert isinstance(change, Change)
    assert (change.constants["DEPTH"], change.constants["WIDTH"]) == (8, 64)


@pytest.mark.parametrize(
    ("later", "sentence"),
    [
        ("DEPTH = 9", "nothing left to remove: what was kept since has replaced it"),
        ("DEPTH = 6 * len('x')", "cannot be taken away by itself: train.py was changed in the same place"),
    ],
)
def test_what_cannot_be_taken_away_is_refused(lab: Repository, later: str, sentence: str) -> None:
    """A change that was replaced since has nothing left to remove; one that others build on cannot go alone."""
    workspace = lab.workspace()
    first = kept(workspace, 1, {"train.py": TRAIN.replace("DEPTH = 4", "DEPTH = 6")})
    tip = kept(workspace, 2, {"train.py": TRAIN.replace("DEPTH = 4", later)})
    refusal = workspace.derive(3, Remove(first), tip, "")
    assert isinstance(refusal, Refusal) and refusal.reason.startswith(sentence)
    assert not lab.git("for-each-ref", "refs/autoresearch/night/3")


def test_a_file_goes_with_the_change_that_added_it(lab: Repository) -> None:
    """No researcher may delete a file, but a removed change takes its own along."""
    workspace = lab.workspace()
    first = kept(workspace, 1, {"src/new.py": "N = 1\n"})
    tip = kept(workspace, 2, {"train.py": TRAIN.replace("0.1", "0.2"), "src/new.py": "N = 1\n"})
    change = workspace.derive(3, Remove(first), tip, "")
    assert isinstance(change, Change)
    assert (change.files, change.lines_removed) == (("src/new.py",), 1)


def test_an_earlier_change_is_applied_to_the_incumbent(lab: Repository) -> None:
    """The re-test of a discard: its own diff, on what was kept since; twice is once."""
    workspace = lab.workspace()
    other = propose(workspace, 1, {"train.py": TRAIN.replace("DEPTH * WIDTH", "DEPTH - WIDTH")})
    tip = kept(workspace, 2, {"train.py": TRAIN.replace("RATE = 0.1", "RATE = 0.2")})
    assert isinstance(other, Change)
    change = workspace.derive(3, Apply(other.commit), tip, "once more")
    assert isinstance(change, Change)
    assert (change.constants["RATE"], change.lines_added, change.lines_removed) == (0.2, 1, 1)
    again = workspace.derive(4, Apply(other.commit), change.commit, "")
    assert isinstance(again, Refusal) and again.reason.startswith("already contained")


def test_a_component_is_switched_off(lab: Repository) -> None:
    """A declared constant is set where it is defined; no such constant, or no change, is a refusal."""
    workspace = lab.workspace()
    change = workspace.derive(1, Switch({"SIZE": 0}), workspace.tip, "without SIZE")
    assert isinstance(change, Change)
    assert (change.constants["SIZE"], change.is_constants_only) == (0, True)
    reasons = []
    for number, name, value in ((2, "SIZE", 1), (3, "SMEAR", False)):
        refusal = workspace.derive(number, Switch({name: value}), workspace.tip, "")
        assert isinstance(refusal, Refusal)
        reasons.append(refusal.reason.split(":")[0])
    assert reasons == ["nothing left to remove", "no editable file has an upper-case constant SMEAR"]


def test_concurrent_checkouts(lab: Repository) -> None:
    """Many slots check out and discard at once while the scheduler goes on committing."""
    workspace = lab.workspace()
    first = kept(workspace, 1, {"train.py": "X = 1\n"})

    def cycle(slot: int) -> list[str]:
        seen = []
        for turn in range(4):
            place = lab.root / f".autoresearch/runs/{slot}-{turn}/checkout"
            workspace.checkout(first, place)
            seen.append((place / "train.py").read_text())
            workspace.discard(place)
        return seen

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(cycle, slot) for slot in range(8)]
        for number in range(2, 6):
            assert isinstance(propose(workspace, number, {"train.py": f"X = {number}\n"}), Change)
            workspace.close(number)
        assert [result.result() for result in results] == [["X = 1\n"] * 4] * 8
    workspace.sweep([])
    assert lab.git("worktree", "list").count("\n") == 0


def test_checkout_links_data(lab: Repository) -> None:
    """Linked data is in the checkout, and discarding the checkout leaves it alone."""
    lab.write("data/shard.bin", "tokens")
    workspace = lab.workspace(link=["data"])
    place = lab.root.parent / "elsewhere/run 1"
    workspace.checkout(workspace.base, place)
    assert (place / "data/shard.bin").read_text() == "tokens"
    workspace.discard(place)
    assert not place.exists()
    assert (lab.root / "data/shard.bin").read_text() == "tokens"


def test_checkout_needs_its_links(lab: Repository) -> None:
    """A missing linked path is our failure, told before the run starts."""
    workspace = lab.workspace(link=["data"])
    with pytest.raises(LabError, match=r"lab\.link names 'data'"):
        workspace.checkout(workspace.base, lab.root.parent / "run")


def test_discard_survives_hostile_rights(lab: Repository) -> None:
    """A run that took away the rights to its own folder cannot keep it from being deleted."""
    workspace = lab.workspace()
    place = lab.root.parent / "run"
    workspace.checkout(workspace.base, place)
    (place / "src").chmod(0)
    (place / ".git").write_text("gitdir: /")
    workspace.discard(place)
    assert not place.exists()
    assert lab.git("worktree", "list").count("\n") == 0


def test_protected_hashes_are_of_the_checkout(lab: Repository) -> None:
    """The hashes are of the bytes that a run sees, line-ending rules of the lab applied."""
    lab.write(".gitattributes", "prepare.py text eol=crlf\n")
    workspace = lab.workspace(base=lab.commit())
    place = lab.root.parent / "run"
    workspace.checkout(workspace.base, place)
    hashes = workspace.protected_hashes(workspace.base)
    assert set(hashes) == {"prepare.py", "src/locked/table.py", ".gitattributes"}
    assert hashes == {path: sha256((place / path).read_bytes()).hexdigest() for path in hashes}


def test_bad_campaign_names(lab: Repository) -> None:
    """A campaign's name is safe in refs and paths, or refused."""
    for name in ("", "a/b", "..", "a..b", "-x", "a.lock", "a b", "ends.", "ä"):
        with pytest.raises(LabError, match="no name for a campaign"):
            lab.workspace(name)
    assert lab.workspace("2025-11-20.night_1").tip


def test_branch_in_the_way(lab: Repository) -> None:
    """A branch called autoresearch leaves no room for ours, and the user is told to rename it."""
    lab.git("branch", "autoresearch")
    with pytest.raises(LabError, match="git branch -m autoresearch"):
        lab.workspace()


def test_unrelated_branch_is_refused(lab: Repository) -> None:
    """A campaign's branch from another history is not taken over."""
    lab.workspace()
    lab.git("checkout", "-q", "--orphan", "fresh")
    base = lab.commit(other="1")
    with pytest.raises(LabError, match="choose another campaign name"):
        lab.workspace(base=base)


def test_modes_of_a_careless_file_system(lab: Repository) -> None:
    """Where git is told that executable bits mean nothing, they are no reason to refuse."""
    lab.git("config", "core.fileMode", "false")
    workspace = lab.workspace()
    path = workspace.open(1, workspace.base)
    (path / "train.py").write_text("X = 1\n")
    (path / "train.py").chmod(0o777)
    assert isinstance(workspace.commit(1, workspace.base, "idea"), Change)
