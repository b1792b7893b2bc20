"""A checkout of somebody's own as a commit, with nothing in it touched: the way in for work that is not ours.

A person, or an agent that a person is talking to, edits files wherever they are. A snapshot is a commit of what is
there against the commit that it is compared with, under `refs/autoresearch/_submitted/`, where no branch, index or
working tree of the user's knows of it and where it stays for good. So whatever becomes of the experiment, the work as
it was handed in can be had again.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import LabError, UserError
from autoresearch.lab.edits import Leavings, read_leavings
from autoresearch.lab.git import Entry, Git, GitError
from autoresearch.lab.guard import PathChange, PathRules, refuse

REFS = "refs/autoresearch/_submitted"
"""No campaign can be called so: their names begin with a letter or a digit."""

_MOST_NAMED = 5


@dataclass(frozen=True)
class Snapshot:
    """What differed, as a commit whose only parent is what it was compared with."""

    commit: str
    parent: str
    paths: tuple[str, ...]
    """The files that differ."""
    left_out: tuple[str, ...]
    """Untracked files that no pattern of `lab.editable` means, and that are therefore no part of it."""


def take_snapshot(
    root: Path, worktree: Path, since: str, *, editable: Sequence[str], protected: Sequence[str], message: str, at: int
) -> Snapshot:
    """Commit how a checkout differs from a commit, for good and beside the user's own work.

    Args:
        root: The lab.
        worktree: A checkout of the lab's repository: the lab's folder itself, or a linked worktree.
        since: The commit that it is compared with, by any name that git understands in `worktree`.
        editable: Patterns of files that may differ.
        protected: Patterns of files that may not.
        message: The commit's message.
        at: Its time in Unix seconds.

    Raises:
        UserError: There is no change, or one that the guard refuses; nothing was recorded.
        LabError: `worktree` is no checkout of this repository.
    """
    git = Git(root)
    common = (root / git.text("rev-parse", "--git-common-dir")).resolve()
    _check_worktree(root, worktree, common)
    parent = Git(worktree).resolve(since)
    tree = git.tree(parent)
    found = _compare(git, worktree, common, parent, tree)
    rules = PathRules(tuple(editable), tuple(protected))

    def is_part(path: str) -> bool:
        return path in tree or rules.is_editable(path)

    edits = {path: edit for path, edit in found.edits.items() if is_part(path)}
    left_out = [path for path in (*found.edits, *found.too_large, *found.nested) if not is_part(path)]
    too_large = [path for path in found.too_large if is_part(path)]
    absent = Entry("000000", "")
    changes = [PathChange(path, tree.get(path, absent).mode, edit.mode) for path, edit in edits.items()]
    if (reason := refuse(changes, rules, too_large)) is not None:
        raise UserError(_for_a_person(reason, is_empty=not changes and not too_large, parent=parent, rules=rules))
    scratch = f"{REFS}/new-{secrets.token_hex(8)}"
    commit = git.write_commit(scratch, parent, message, edits, at)
    steps = f"update {REFS}/{commit} {commit}\ndelete {scratch}\n"
    git.run("update-ref", "--stdin", stdin=steps.encode())
    return Snapshot(commit, parent, tuple(edits), tuple(left_out))


def main_checkout(folder: Path) -> Path | None:
    """The main checkout of the repository that `folder` is a linked worktree of; None when it is none."""
    git = Git(folder)
    try:
        own, common = git.text("rev-parse", "--git-dir"), git.text("rev-parse", "--git-common-dir")
    except GitError:
        return None
    apart = (folder / own).resolve() != (folder / common).resolve()
    return (folder / common).resolve().parent if apart else None


def _check_worktree(root: Path, worktree: Path, common: Path) -> None:
    if not worktree.is_dir():
        raise UserError(f"{worktree} is no folder: give a checkout of the lab")
    try:
        theirs = (worktree / Git(worktree).text("rev-parse", "--git-common-dir")).resolve()
        top = Path(Git(worktree).text("rev-parse", "--show-toplevel")).resolve()
    except GitError as error:
        raise LabError(f"{worktree} is no checkout of {root}: make one with `git worktree add`") from error
    if theirs != common:
        raise LabError(f"{worktree} is no checkout of {root} but of another repository: use `git worktree add` there")
    if top != worktree.resolve():
        raise UserError(f"{worktree} lies inside the checkout {top}: give the top folder")


def _compare(git: Git, worktree: Path, common: Path, parent: str, tree: dict[str, Entry]) -> Leavings:
    """What differs, whatever the user's own index says of it: `git add` changes nothing in the answer."""
    with tempfile.TemporaryDirectory(prefix="autoresearch-index-") as folder:
        index = Path(folder, "index")
        variables = {"GIT_DIR": str(common), "GIT_WORK_TREE": str(worktree), "GIT_INDEX_FILE": str(index)}
        git.run("read-tree", parent, cwd=worktree, variables=variables)
        trusts_modes = git.text("config", "--type=bool", "--default=true", "core.fileMode") == "true"
        return read_leavings(git, worktree, index=index, common=common, parent=tree, trusts_modes=trusts_modes)


def _for_a_person(reason: str, *, is_empty: bool, parent: str, rules: PathRules) -> str:
    """The guard's sentence with the cure that a person has: his other work is his, and need not be undone."""
    if is_empty:
        return (
            f"no change: the files are as they are in {parent[:8]}; edit {', '.join(rules.editable[:_MOST_NAMED])} "
            "first, or name the commit that your work began at with --since"
        )
    reason = reason.replace("undo that and edit only", "only these may differ")
    return f"{reason}; only what differs from {parent[:8]} counts, so what has nothing to do with it can be committed"
