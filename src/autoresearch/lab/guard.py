"""The rules between a researcher's edits and an experiment: pure functions of paths and modes.

The number under study can be trusted only while the researcher cannot touch the code that makes it. So edits pass
when every one of them is to an editable, unprotected, ordinary file, and a refusal says in one sentence what to undo.

Covered: paths outside the editable patterns; protected files, also under another upper or lower case (some file
systems do not tell the two apart); links, submodules and changed file modes; deleted editable files; large files, and
files that are no text.
Not covered: a new editable file whose name shadows an installed module, and whatever the code does when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

LARGEST_FILE_BYTES = 5_000_000
"""A larger file is data, not source, and would stay in the lab's history for good."""

ALWAYS_PROTECTED = ("autoresearch.toml", ".gitattributes", ".gitmodules", "**/.gitattributes")
"""The lab file, and what could make git read other files differently."""

SCRATCH = (
    "**/__pycache__",
    "**/*.pyc",
    "**/.ipynb_checkpoints",
    "**/.pytest_cache",
    "**/.mypy_cache",
    "**/.ruff_cache",
    "**/.DS_Store",
    ".autoresearch",
    "proposal.json",
    "brief.md",
    "brief.json",
)
"""Untracked files that tools and briefs leave in a worktree and that are no part of a change."""

_ORDINARY = ("100644", "100755")
_ABSENT = "000000"
_MOST_NAMES = 5


@dataclass(frozen=True)
class PathChange:
    """One file as it was in the parent and as it is in the candidate; mode 000000 means that it is not there."""

    path: str
    old_mode: str
    new_mode: str
    turns_binary: bool = False
    """Whether it is no text now, and was text before or not there."""


@dataclass(frozen=True)
class PathRules:
    """Which files of a lab a researcher may edit.

    Patterns are relative to the lab and written with `/`. `*` and `?` stay within one folder, `**` crosses
    folders, and a pattern that names a folder means everything in it.
    """

    editable: tuple[str, ...]
    protected: tuple[str, ...] = ()

    def is_editable(self, path: str) -> bool:
        """Whether the path matches an editable pattern and is not protected."""
        return matches(path, self.editable) and not self.is_protected(path)

    def is_protected(self, path: str) -> bool:
        """Whether the path is protected by the lab file, or always."""
        patterns = tuple(pattern.casefold() for pattern in (*self.protected, *ALWAYS_PROTECTED))
        return matches(path.casefold(), patterns)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches at least one pattern, or lies in a folder that does."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def is_scratch(path: str) -> bool:
    """Whether an untracked path is a cache or a brief, and so no part of a change."""
    return matches(path.rstrip("/"), SCRATCH)


def refuse(changes: Sequence[PathChange], rules: PathRules, too_large: Sequence[str] = ()) -> str | None:
    """Say why these edits cannot become an experiment, or None when they can.

    Args:
        changes: Every file that differs from the parent.
        rules: What may be edited.
        too_large: Files left out of the commit for their size.

    Returns:
        One sentence that names the files and says what to do.
    """
    if too_large:
        largest = LARGEST_FILE_BYTES // 1_000_000
        return (
            f"too large: {_names(too_large)} (more than {largest} MB): data does not belong in a change, leave it out"
        )
    if not changes:
        return "no change: the files are as they were in the parent; edit at least one of the editable files"
    for sentence, is_at_fault in _RULES:
        faulty = [change.path for change in changes if is_at_fault(change, rules)]
        if faulty:
            return sentence.format(files=_names(faulty), editable=", ".join(rules.editable))
    return None


def _is_link(change: PathChange, _: PathRules) -> bool:
    return change.new_mode not in (*_ORDINARY, _ABSENT)


def _is_protected(change: PathChange, rules: PathRules) -> bool:
    return rules.is_protected(change.path)


def _is_outside(change: PathChange, rules: PathRules) -> bool:
    return not rules.is_editable(change.path)


def _is_binary(change: PathChange, _: PathRules) -> bool:
    return change.turns_binary


def _is_deleted(change: PathChange, _: PathRules) -> bool:
    return change.new_mode == _ABSENT


def _is_other_mode(change: PathChange, _: PathRules) -> bool:
    return change.old_mode not in (_ABSENT, change.new_mode)


_RULES = (
    ("protected: {files} may not be changed; undo that and edit only: {editable}", _is_protected),
    ("links and submodules are refused: {files}; put the content into an ordinary file", _is_link),
    ("outside the editable files: {files}; undo that and edit only: {editable}", _is_outside),
    ("no text: {files}; a change is text that a person can read, so leave data and weights out", _is_binary),
    ("deleted: {files}; an editable file may be emptied of code, but it has to stay", _is_deleted),
    ("file mode changed: {files}; restore the mode and change the content only", _is_other_mode),
)


def _names(paths: Iterable[str]) -> str:
    """A few names for a sentence, with control characters made visible."""
    listed = [re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", path) for path in paths]
    more = f" and {len(listed) - _MOST_NAMES} more" if len(listed) > _MOST_NAMES else ""
    return ", ".join(listed[:_MOST_NAMES]) + more


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Translate a pattern; a trailing `/**` is implied, so that a folder covers what is in it."""
    pattern = pattern.removeprefix("./").rstrip("/")
    pattern = "**" if pattern in ("", ".") else pattern
    parts, position = [], 0
    for token in re.finditer(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]", pattern):
        parts.append(re.escape(pattern[position : token.start()]))
        parts.append(_translated(token[0]))
        position = token.end()
    parts.append(re.escape(pattern[position:]))
    try:
        return re.compile(f"(?:{''.join(parts)})(?:/.*)?", re.DOTALL)
    except re.error:  # a malformed [range] stands for itself
        return re.compile(f"(?:{re.escape(pattern)})(?:/.*)?", re.DOTALL)


def _translated(token: str) -> str:
    fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if token in fixed:
        return fixed[token]
    body = token[1:-1]
    negated = body.startswith("!")
    inside = "".join(letter if letter == "-" else re.escape(letter) for letter in body.removeprefix("!"))
    return f"(?!/)[{'^' if negated else ''}{inside}]" if inside else re.escape(token)
