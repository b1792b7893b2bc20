"""Files that are whole or absent, and reads that somebody else's program cannot make endless."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

BINARY = getattr(os, "O_BINARY", 0)
"""Windows would otherwise translate line ends."""


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write so that a reader finds all of it or none.

    `durable` waits for the disk (milliseconds), so that a power cut finds it too; a file that means nothing after a
    power cut need not pay for that. Space that `reserve` took for this path is used.

    Raises:
        OSError: No space, no permission; an older file at `path` is untouched.
    """
    draft = draft_of(path)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | BINARY, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.ftruncate(file, len(data))
        if durable:
            os.fsync(file)
    finally:
        os.close(file)
    draft.replace(path)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write text atomically, as UTF-8.

    Raises:
        OSError: As `write_bytes`.
    """
    write_bytes(path, text.encode("utf-8", "replace"), durable=durable)


def write_json(path: Path, content: object, *, durable: bool = True) -> None:
    """Write JSON atomically, readable by a person.

    Raises:
        OSError: As `write_bytes`.
        TypeError: `content` holds something that JSON does not know.
    """
    write_text(path, json.dumps(content, indent=1), durable=durable)


def reserve(path: Path, size_bytes: int) -> None:
    """Take disk space now for a file that must be written later, so that even a full disk leaves room for it.

    Raises:
        OSError: There is no room already.
    """
    file = os.open(draft_of(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o644)
    try:
        os.write(file, b" " * size_bytes)
    finally:
        os.close(file)


def read_regular(path: Path, limit_bytes: int = 1 << 20, offset: int = 0) -> bytes | None:
    """Read at most `limit_bytes` from `offset` on of a file that somebody else's program may have made.

    Returns:
        None when there is no such file, or it is no regular file: a link could lead anywhere, a pipe never ends.
    """
    flags = os.O_RDONLY | BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        file = os.open(path, flags)
    except (OSError, ValueError):
        return None
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        stream.seek(offset)
        return stream.read(limit_bytes)


def read_tail(path: Path, limit_bytes: int) -> bytes:
    """Read the last `limit_bytes` of a file; empty when there is none."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - limit_bytes))
        return stream.read(limit_bytes)
    return b""


def read_json(path: Path, limit_bytes: int = 1 << 20) -> dict[str, Any] | None:
    """Read a JSON object that may be absent, half written by a candidate, or hostile; None when it is not one."""
    data = read_regular(path, limit_bytes)
    if data is None:
        return None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where `path` is, or would be.

    Raises:
        OSError: Not even a parent of `path` exists.
    """
    place = path.absolute()
    while not place.exists() and place.parent != place:
        place = place.parent
    return shutil.disk_usage(place).free


def draft_of(path: Path) -> Path:
    """Where `path` is written before it gets its name."""
    return path.with_name(f"{path.name}.tmp")
