"""What a researcher left in a worktree, and what a commit changed: both measured, never declared."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from autoresearch.domain.constants import changed_constants, find_constants, is_constants_only
from autoresearch.domain.definitions import Definitions, compare_definitions
from autoresearch.domain.meaning import meaning_of, syntax_fault
from autoresearch.lab.git import Edit, Entry, Git, split_paths
from autoresearch.lab.guard import LARGEST_FILE_BYTES, PathChange, PathRules, is_scratch
from autoresearch.lab.protocol import Change

_LARGEST_TOTAL_BYTES = 10 * LARGEST_FILE_BYTES
_ABSENT = "000000"
_LINK = "120000"


@dataclass
class Leavings:
    """The edits of a worktree, and what cannot go into a commit."""

    edits: dict[str, Edit] = field(default_factory=dict)
    too_large: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    """Repositories within the worktree, which git would store as submodules."""

    def __bool__(self) -> bool:
        """Whether there is anything at all."""
        return bool(self.edits or self.too_large or self.nested)


def read_leavings(
    git: Git, worktree: Path, *, index: Path, common: Path, parent: Mapping[str, Entry], trusts_modes: bool = True
) -> Leavings:
    """Compare a worktree with the parent it was opened at.

    The comparison uses an index of our own: whatever the researcher did with git in there (commit, stash, add, another
    branch, even a deleted `.git`) changes nothing in the answer, which is about files alone.

    Args:
        git: The lab's repository.
        worktree: The researcher's folder.
        index: Our copy of the index as it was when the worktree was opened.
        common: The repository's own folder.
        parent: The files of the parent.
        trusts_modes: Whether the file system keeps executable bits; where it does not, modes stay as they were.
    """
    variables = {"GIT_DIR": str(common), "GIT_WORK_TREE": str(worktree), "GIT_INDEX_FILE": str(index)}
    listed = git.run("ls-files", "-z", "-t", "-m", "-d", "-o", "--exclude-standard", cwd=worktree, variables=variables)
    leavings = Leavings()
    room = _LARGEST_TOTAL_BYTES
    for path in dict.fromkeys(row[2:] for row in split_paths(listed) if row[0] != "?" or not is_scratch(row[2:])):
        if path.endswith("/"):
            leavings.nested.append(path)
            continue
        link = _folder_link(worktree, path)
        if link is not None:
            leavings.edits[link] = Edit(_LINK, os.fsencode((worktree / link).readlink()))
        status = None if link is not None else _status(worktree / path)
        if status is None:
            if path in parent:
                leavings.edits[path] = Edit(_ABSENT, None)
        elif status.st_size > min(LARGEST_FILE_BYTES, room):
            leavings.too_large.append(path)
        else:
            room -= status.st_size
            edit = _edit(worktree / path, status)
            if not trusts_modes and edit.mode != _LINK:
                edit = edit._replace(mode=parent[path].mode if path in parent else "100644")
            leavings.edits[path] = edit
    return leavings


def _folder_link(worktree: Path, path: str) -> str | None:
    """The folder on the way to `path` that is a symbolic link; what lies behind it is not the worktree's."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        folder = "/".join(parts[:count])
        if (worktree / folder).is_symlink():
            return folder
    return None


def _status(place: Path) -> os.stat_result | None:
    """The status of an ordinary file or link; None for anything else, or nothing."""
    try:
        status = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) else None


def _edit(place: Path, status: os.stat_result) -> Edit:
    if stat.S_ISLNK(status.st_mode):
        return Edit(_LINK, os.fsencode(place.readlink()))
    return Edit("100755" if status.st_mode & stat.S_IXUSR else "100644", place.read_bytes())


class Difference(NamedTuple):
    """What one commit changed against another."""

    changes: list[PathChange]
    blobs: dict[str, Entry | None]
    """The changed files as the later commit has them; None for a deleted one."""
    lines_added: int
    lines_removed: int


def read_difference(git: Git, before: str, after: str) -> Difference:
    """Compare two commits file by file; renames count as a deletion and a new file."""
    rows = iter(split_paths(git.run("diff-tree", "-r", "-z", "--raw", "--numstat", "--no-renames", before, after)))
    found = Difference([], {}, 0, 0)
    added = removed = 0
    old_blobs: dict[str, str] = {}
    not_text: list[str] = []
    for row in rows:
        if row.startswith(":"):
            old_mode, new_mode, old_blob, blob, _ = row[1:].split(" ")
            path = next(rows)
            found.changes.append(PathChange(path, old_mode, new_mode))
            found.blobs[path] = None if new_mode == _ABSENT else Entry(new_mode, blob)
            old_blobs |= {path: old_blob} if old_mode.startswith("100") else {}
        else:
            plus, minus, path = row.split("\t", 2)
            not_text += [path] if plus == "-" else []
            added += int(plus) if plus.isdigit() else 0
            removed += int(minus) if minus.isdigit() else 0
    # Attributes of the lab may call text binary; what counts is the content.
    suspects = [path for path in not_text if (entry := found.blobs[path]) and entry.mode.startswith("100")]
    binary = {path for path in suspects if _holds_nul(git, found.blobs[path].blob)}  # type: ignore[union-attr]
    binary -= {path for path in binary & old_blobs.keys() if _holds_nul(git, old_blobs[path])}
    changes = [replace(change, turns_binary=change.path in binary) for change in found.changes]
    return found._replace(changes=changes, lines_added=added, lines_removed=removed)


def _holds_nul(git: Git, blob: str) -> bool:
    """Whether a file is no text, as git itself guesses it."""
    [content] = git.objects([blob])
    return b"\0" in (content or b"")[:8000]


def measure(
    git: Git,
    commit: str,
    difference: Difference,
    *,
    before: Mapping[str, Entry],
    after: Mapping[str, Entry],
    rules: PathRules,
) -> Change:
    """Measure a commit: its lines, and what became of the constants of the editable Python files."""
    paths = sorted(path for path, entry in after.items() if path.endswith(".py") and rules.is_editable(path))
    changed = [change.path for change in difference.changes]
    comparable = [path for path in changed if path in paths and path in before]
    blobs = [*(after[path].blob for path in paths), *(before[path].blob for path in comparable)]
    contents = [content or b"" for content in git.objects(blobs)]
    texts = [content.decode("utf-8", "replace") for content in contents]
    raw, sources = dict(zip(paths, contents, strict=False)), dict(zip(paths, texts, strict=False))
    old = dict(zip(comparable, texts[len(paths) :], strict=True))
    found = {path: find_constants(source) for path, source in sources.items()}
    names = [name for constants in found.values() for name in constants]
    twice = {name for name in names if names.count(name) > 1}
    altered, new = [], []
    for path in comparable:
        known = find_constants(old[path])
        for name in changed_constants(old[path], sources[path]):
            altered.append(f"{path}:{name}" if name in twice else name)
            new += altered[-1:] if name not in known else []
    only = len(comparable) == len(changed) and all(is_constants_only(old[path], sources[path]) for path in comparable)
    return Change(
        commit=commit,
        files=tuple(changed),
        lines_added=difference.lines_added,
        lines_removed=difference.lines_removed,
        constants={
            f"{path}:{name}" if name in twice else name: constant.value
            for path, constants in found.items()
            for name, constant in constants.items()
        },
        changed_constants=tuple(altered),
        new_constants=tuple(new),
        is_constants_only=only and bool(altered),
        meaning=_meaning(sources, after),
        faults=tuple(filter(None, (syntax_fault(raw[path], path) for path in changed if path in raw))),
        definitions=_definitions({path: (old.get(path, ""), sources[path]) for path in changed if path in sources}),
    )


def _meaning(sources: Mapping[str, str], files: Mapping[str, Entry]) -> str:
    """What the program does: Python that researchers may edit by its syntax, everything else as it stands."""
    read = {path: source for path, source in sources.items() if "\N{REPLACEMENT CHARACTER}" not in source}
    return meaning_of(read, {path: f"{each.mode} {each.blob}" for path, each in files.items() if path not in read})


def _definitions(versions: Mapping[str, tuple[str, str]]) -> Definitions | None:
    """What several files define and where they differ, together; None when there is none, or one cannot be read."""
    found = [compare_definitions(before, after) for before, after in versions.values()]
    if not found or None in found:
        return None
    parts = [part for part in found if part]
    return Definitions(
        tuple(dict.fromkeys(name for part in parts for name in part.changed)),
        tuple(dict.fromkeys(name for part in parts for name in part.added)),
        tuple(dict.fromkeys(name for part in parts for name in part.settings)),
        frozenset().union(*(part.known for part in parts)),
        frozenset().union(*(part.words for part in parts)),
    )
