"""Several earlier changes put together on one parent: three-way merges, one after another, into a worktree.

Each change is what its commit did to its own parent. It is merged by content, as changes are carried over to a newer
incumbent (`merge`), with one difference: a constant that two of them set, or that was set anew since one of them was
tried, is a conflict here. "X is 3" means the same on any parent, but a stack in which the second change undoes the
first is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from autoresearch.domain.constants import changed_constants
from autoresearch.lab.git import Edit, Entry, Git, GitError
from autoresearch.lab.merge import merge_trees


def stack_changes(worktree: Path, parent: str, commits: Sequence[str]) -> str | None:
    """Write into a worktree what several commits changed against their own parents.

    **Thread safety.** Any number of threads, for different worktrees.

    Args:
        worktree: A clean checkout of `parent`; untouched unless all of them fit.
        parent: The commit to build on.
        commits: In the order in which they are merged.

    Returns:
        Why they do not fit together, in one sentence; None when they stand in the worktree.
    """
    git = Git(worktree)
    present = git.tree(parent)
    edits: dict[str, Edit] = {}
    for commit in commits:
        try:
            [written] = git.commit_objects(commit)
            [base] = written.parents
            before, after = git.tree(base), git.tree(commit)
        except GitError:
            return f"the commit {commit[:12]} is not in this repository any more"
        if clash := _clash(git, before, present, after):
            return clash
        merged, conflicts = merge_trees(git, before, present, after)
        if conflicts:
            return f"{', '.join(conflicts)} was changed in the same place"
        gone = [path for path, edit in merged.items() if edit.content is None]
        if gone:
            return f"{', '.join(gone)} would go"
        if not merged:
            return f"the change of {commit[:12]} is contained already"
        edits |= merged
        present |= {path: Entry(edit.mode, _stored(git, edit)) for path, edit in merged.items()}
    _write(worktree, edits)
    return None


def _clash(git: Git, before: Mapping[str, Entry], here: Mapping[str, Entry], after: Mapping[str, Entry]) -> str | None:
    """A constant that the change sets and that is not what it was before the change."""
    for path in sorted(after):
        entries = (before.get(path), here.get(path), after[path])
        if entries[0] == entries[2] or not all(entries):
            continue
        texts = _texts(git, [entry.blob for entry in entries if entry])
        if texts is not None:
            old, present, new = texts
            twice = set(changed_constants(old, new)) & set(changed_constants(old, present))
            if twice:
                return f"{', '.join(sorted(twice))} was set anew since"
    return None


def _texts(git: Git, blobs: Iterable[str]) -> list[str] | None:
    """The contents as text; None when one of them is none."""
    try:
        return [(content or b"").decode() for content in git.objects(blobs)]
    except UnicodeDecodeError:
        return None


def _stored(git: Git, edit: Edit) -> str:
    """The blob of an edit; git forgets it by itself when nothing comes to hold it."""
    assert edit.content is not None
    return git.run("hash-object", "-w", "--stdin", stdin=edit.content).decode().strip()


def _write(worktree: Path, edits: Mapping[str, Edit]) -> None:
    for path, edit in edits.items():
        assert edit.content is not None
        target = worktree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(edit.content)
        target.chmod(0o755 if edit.mode == "100755" else 0o644)
