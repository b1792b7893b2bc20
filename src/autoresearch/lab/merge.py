"""Carry a change over to a newer parent, or take it away: three-way merges of trees, without a worktree.

`git merge-tree` would need git 2.40 for a chosen base, and stops where two people turned neighbouring knobs, which is
what tuning does all night. So trees are merged here, by content, and lines by `git merge-file`; where lines conflict
but the change only sets constants, those constants are set in the newer file: "X is 3" means the same on any parent,
and the moved change is measured again before anything is kept. Taking a change away is the same merge backwards (base:
the change, theirs: what was there before it), except that a constant which was set once more since stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autoresearch.domain.constants import (
    ConstantValue,
    changed_constants,
    find_constants,
    is_constants_only,
    rewrite_constants,
)
from autoresearch.lab.git import Edit, Entry, Git


def merge_trees(
    git: Git,
    base: Mapping[str, Entry],
    ours: Mapping[str, Entry],
    theirs: Mapping[str, Entry],
    *,
    backwards: bool = False,
) -> tuple[dict[str, Edit], list[str]]:
    """Find the edits that carry what `theirs` changed since `base` over to `ours`.

    Args:
        git: The repository.
        base: The tree that the change started from.
        ours: The tree that the change is carried over to.
        theirs: The tree that the change led to.
        backwards: Whether the change is the taking away of an earlier one, so that constants of `ours` which were
            set again since are nobody's business here.

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
        merged = _merge_file(git, old, here, there, backwards=backwards)
        if merged is None:
            conflicts.append(path)
        else:
            edits.update((path, edit) for edit in merged)
    return edits, conflicts


def set_constants(
    git: Git, tree: Mapping[str, Entry], paths: Iterable[str], values: Mapping[str, ConstantValue]
) -> tuple[dict[str, Edit], list[str]]:
    """Find the edits that give upper-case constants new values wherever these files define them.

    Returns:
        The edits, none where the values are there already, and the names that no file defines.
    """
    edits: dict[str, Edit] = {}
    missing = set(values)
    for path in paths:
        content = git.objects([tree[path].blob])[0]
        try:
            text = (content or b"").decode()
        except UnicodeDecodeError:
            continue
        here = {name: value for name, value in values.items() if name in find_constants(text)}
        missing -= set(here)
        changed = rewrite_constants(text, here)
        if changed != text:
            edits[path] = Edit(tree[path].mode, changed.encode())
    return edits, sorted(missing)


def _merge_file(
    git: Git, old: Entry | None, here: Entry | None, there: Entry | None, *, backwards: bool
) -> list[Edit] | None:
    """One file that `theirs` changed: its edit, nothing when `ours` stays as it is, None on conflict."""
    if there is None or not there.mode.startswith("100"):
        return None
    if here == old:
        content = git.objects([there.blob])[0]
        return None if content is None else [Edit(there.mode, content)]
    if old is None or here is None or not old.mode == here.mode == there.mode:
        return None
    before, ours, theirs = git.objects([old.blob, here.blob, there.blob])
    if before is None or ours is None or theirs is None:
        return None
    merged = git.merge_texts(ours, before, theirs)
    if merged is None:
        merged = _merge_constants(before, ours, theirs, backwards=backwards)
    if merged is None:
        return None
    return [] if merged == ours else [Edit(here.mode, merged)]


def _merge_constants(before: bytes, ours: bytes, theirs: bytes, *, backwards: bool) -> bytes | None:
    """Set in `ours` the constants that `theirs` set, when that is all it did; backwards, those that still stand."""
    try:
        old, here, there = before.decode(), ours.decode(), theirs.decode()
    except UnicodeDecodeError:
        return None
    if not is_constants_only(old, there):
        return None
    names, present, wanted = changed_constants(old, there), find_constants(here), find_constants(there)
    if not set(names) <= set(present):
        return None
    if backwards:
        replaced = changed_constants(old, here)
        names = tuple(name for name in names if name not in replaced)
    try:
        return rewrite_constants(here, {name: wanted[name].value for name in names}).encode()
    except ValueError:
        return None
