"""The constants of a worktree: found in its editable Python files, and written back."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from autoresearch.domain.constants import ConstantValue, find_constants, rewrite_constants
from autoresearch.host.files import read_regular

_LARGEST_TEXT_BYTES = 1 << 20
"""What is larger is no text that anybody edits."""


class Place(NamedTuple):
    """Where a constant stands."""

    file: str
    """Relative to the worktree, with `/`."""
    name: str
    value: ConstantValue


def editable_sources(worktree: Path, editable: Sequence[str]) -> dict[str, str]:
    """The text of every editable Python file, by its path relative to the worktree.

    Links and files that are not UTF-8 are left out.
    """
    sources = {}
    for path in sorted({path for pattern in editable for path in _python_files(worktree, pattern)}):
        try:
            sources[path.relative_to(worktree).as_posix()] = path.read_bytes().decode("utf-8")
        except (OSError, ValueError):
            continue
    return sources


def editable_texts(worktree: Path, editable: Sequence[str]) -> dict[str, str]:
    """The text of every editable file of any sort, by its path relative to the worktree.

    Links, large files and files that are no UTF-8 text are left out.
    """
    texts = {}
    for path in sorted({path for pattern in editable for path in _files(worktree, pattern)}):
        name = path.relative_to(worktree)
        data = read_regular(path, _LARGEST_TEXT_BYTES + 1)
        if data is None or b"\0" in data or len(data) > _LARGEST_TEXT_BYTES or ".git" in name.parts:
            continue
        with contextlib.suppress(UnicodeDecodeError):
            texts[name.as_posix()] = data.decode("utf-8")
    return texts


def located_constants(sources: Mapping[str, str]) -> dict[str, Place]:
    """Every constant by its name, or by `file:NAME` where several files use the name."""
    places = [Place(path, name, c.value) for path, text in sources.items() for name, c in find_constants(text).items()]
    count = Counter(place.name for place in places)
    return {f"{place.file}:{place.name}" if count[place.name] > 1 else place.name: place for place in places}


def write_constants(worktree: Path, sources: Mapping[str, str], change: Mapping[str, ConstantValue]) -> None:
    """Rewrite constants, named as by `located_constants`, in the files of the worktree.

    Raises:
        KeyError: No such constant.
        OSError: A file cannot be written.
    """
    located = located_constants(sources)
    for file in dict.fromkeys(located[key].file for key in change):
        values = {located[key].name: value for key, value in change.items() if located[key].file == file}
        (worktree / file).write_bytes(rewrite_constants(sources[file], values).encode("utf-8"))


def _python_files(worktree: Path, pattern: str) -> Iterator[Path]:
    return (path for path in _files(worktree, pattern) if path.suffix == ".py")


def _files(worktree: Path, pattern: str) -> Iterator[Path]:
    for path in worktree.glob(pattern):
        inside = path.rglob("*") if path.is_dir() else [path]
        yield from (each for each in inside if each.is_file() and not each.is_symlink())
