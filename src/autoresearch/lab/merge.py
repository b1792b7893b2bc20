"""Carry a change over to a newer parent: a three-way merge of trees, without a worktree and without git's own.

`git merge-tree` would need git 2.40 for a chosen base, and stops where two people turned neighbouring knobs, which is
what tuning does all night. So trees are merged here, by content, and lines by `git merge-file`; where lines conflict
but the change only sets constants, those constants are set in the newer file: "X is 3" means the same on any parent,
and the moved change is measured again before anything is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoresearch.domain.constants import changed_constants, find_constants, is_constants_only, rewrite_constants
from autoresearch.lab.git import Edit, Entry, Git


def merge_trees(
    git: Git, base: Mapping[str, Entry], ours: Mapping[str, Entry], theirs: Mapping[str, Entry]
) -> tuple[dict[str, Edit], list[str]]:
    """Find the edits that carry what `theirs` changed since `base` over to `ours`.

    Returns:
        The edits to apply to `ours`, and the paths that conflict.
    """
    edits: dict[str, Edit] = {}
    conflicts = []
    for path in sorted({*base, *theirs}):
        old, here, there = base.get(path), ours.get(path), theirs.get(path)
        if there in (old, here):
            continue
        if there is None and here == old:
            edits[path] = Edit("000000", None)
            continue
        merged = _merge_file(git, old, here, there)
        if merged is None:
            conflicts.append(path)
        else:
            edits[path] = merged
    return edits, conflicts


def _merge_file(git: Git, old: Entry | None, here: Entry | None, there: Entry | None) -> Edit | None:
    """One file that `theirs` changed; None on conflict."""
    if there is None or not there.mode.startswith("100"):
        return None
    if here == old:
        content = git.objects([there.blob])[0]
        return None if content is None else Edit(there.mode, content)
    if old is None or here is None or not old.mode == here.mode == there.mode:
        return None
    before, ours, theirs = git.objects([old.blob, here.blob, there.blob])
    if before is None or ours is None or theirs is None:
        return None
    merged = git.merge_texts(ours, before, theirs)
    if merged is None:
        merged = _merge_constants(before, ours, theirs)
    return None if merged is None else Edit(here.mode, merged)


def _merge_constants(before: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Set in `ours` the constants that `theirs` set, when that is all it did."""
    try:
        old, here, there = before.decode(), ours.decode(), theirs.decode()
    except UnicodeDecodeError:
        return None
    if not is_constants_only(old, there):
        return None
    names, present, wanted = changed_constants(old, there), find_constants(here), find_constants(there)
    if not set(names) <= set(present):
        return None
    try:
        return rewrite_constants(here, {name: wanted[name].value for name in names}).encode()
    except ValueError:
        return None
