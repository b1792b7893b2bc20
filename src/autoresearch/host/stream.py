"""What a command prints: taken at once, kept within bounds."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from autoresearch.host.files import BINARY


class BoundedLog:
    """Keep the head and the tail of an endless stream, bounded on disk and in memory.

    The head is on disk as it comes; the tail waits in memory until the end, because a program prints its result last.
    The lines that the cut went through carry `CUT`, so that no half number is ever taken for a whole one.
    A disk that refuses a write is remembered in `error` and never blocks the program.
    """

    CUT = "[autoresearch: "

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.seen_bytes = 0
        self.dropped_bytes = 0
        self.error = ""
        self._head_room = limit_bytes // 4
        self._tail_limit = limit_bytes - self._head_room
        self._tail = bytearray()
        self._file = -1
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o644)
        except OSError as error:
            self.error = error.strerror or str(error)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self.seen_bytes += len(chunk)
        if self._head_room:
            head, chunk = chunk[: self._head_room], chunk[self._head_room :]
            self._head_room -= len(head)
            self._put(head)
        self._tail += chunk
        if len(self._tail) > 2 * self._tail_limit + (1 << 16):
            self._trim()

    def close(self) -> None:
        """Write the tail, with a marker in front of it when something was dropped."""
        self._trim()
        if self.dropped_bytes:
            whole_line = max(0, self._tail.find(b"\n"))
            self.dropped_bytes += whole_line
            del self._tail[:whole_line]
            self._put(f" {self.CUT}{self.dropped_bytes} bytes of log were dropped here]".encode())
        self._put(bytes(self._tail))
        if self._file >= 0:
            os.close(self._file)

    def _trim(self) -> None:
        surplus = len(self._tail) - self._tail_limit
        if surplus > 0:
            self.dropped_bytes += surplus
            del self._tail[:surplus]

    def _put(self, data: bytes) -> None:
        while data and not self.error:
            try:
                data = data[os.write(self._file, data) :]
            except OSError as error:
                self.error = error.strerror or str(error)


class Pipe:
    """The reading end of a command's output, drained whenever something happens."""

    def __init__(self, file: int, wake_file: int, write: Callable[[bytes], None]) -> None:
        self._file = file
        self._wake_file = wake_file
        self._write = write
        self._open = True
        if sys.platform == "win32":
            import threading

            self._reader = threading.Thread(target=self._drain_blocking, daemon=True)
            self._reader.start()
        else:
            os.set_blocking(file, False)

    def wait(self, seconds: float) -> None:
        """Take output until it pauses; sleep until there is more, a signal came, or `seconds` are over."""
        if sys.platform == "win32":
            time.sleep(min(seconds, 0.02))
            return
        files = [self._wake_file, self._file] if self._open else [self._wake_file]
        ready, _, _ = select.select(files, [], [], seconds)
        if self._wake_file in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_file, 4096)
        if self._file in ready:
            self._drain()

    def close(self, wait_seconds: float) -> None:
        """Take what is left. All writers are dead, so this ends at once; `wait_seconds` guards against surprises."""
        if sys.platform == "win32":
            self._reader.join(wait_seconds)
            return
        until = time.monotonic() + wait_seconds
        while self._open and (left := until - time.monotonic()) > 0:
            if select.select([self._file], [], [], left)[0]:
                self._drain()
        os.close(self._file)

    def _drain(self) -> None:
        for _ in range(64):  # then the caller looks at its clock again
            try:
                chunk = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return
            if not chunk:
                self._open = False
                return
            self._write(chunk)

    def _drain_blocking(self) -> None:
        while chunk := os.read(self._file, 1 << 16):
            self._write(chunk)
