"""One command from its start until nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoresearch.host.family import LINUX, descendants, end_descendants
from autoresearch.host.stream import BoundedLog, Pipe

STOP = "stop"
"""The file that asks for an end where a signal would kill outright (Windows)."""
LINGER_SECONDS = 0.25
"""How long children may outlive their parent of their own accord, e.g. a resource tracker that sees its pipe close."""
DEATH_SECONDS = 30.0
"""How long a killed process may take to die (it may hang in a driver) before that is an error."""


class Interruption:
    """Whether somebody asked for an end, and a file that becomes readable with every signal.

    The file closes the gap between looking at the clock and going to sleep: a signal in between is not lost.
    """

    def __init__(self, directory: Path) -> None:
        self._asked = False
        self._stop_file = directory / STOP if sys.platform == "win32" else None
        self.wake_file = -1
        if sys.platform != "win32":
            self.wake_file, write_end = os.pipe()
            for end in (self.wake_file, write_end):
                os.set_blocking(end, False)
            signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal without a handler would not wake us

    def ask(self, *_: object) -> None:
        """Remember the wish; also a signal handler."""
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked or bool(self._stop_file and self._stop_file.exists())


class Watch:
    """Starts one command, takes its output, and does not return while any of its processes is alive."""

    def __init__(
        self, command: dict[str, Any], cores: list[int], grace_seconds: float, log: BoundedLog,
        interruption: Interruption,
    ) -> None:  # fmt: skip
        self._command = command
        self._cores = cores
        self._grace_seconds = grace_seconds
        self._log = log
        self._interruption = interruption
        self._status: int | None = None
        self._kill_at: float | None = None
        self._linger_until: float | None = None
        self._give_up_at: float | None = None
        self._killed: set[int] = set()
        self._timed_out = self._interrupted = False
        self._cpu_seconds, self._max_rss_bytes = 0.0, 0
        self._error = ""

    def run(self) -> dict[str, Any]:
        """Execute the command; whatever it does is in the record that comes back."""
        started_at, begin, oom_kills = time.time(), time.monotonic(), kernel_oom_kills()
        try:
            self._process, pipe = self._start()
        except (OSError, ValueError) as error:
            self._error = self._explain(error)
        else:
            self._deadline = begin + self._command["timeout_seconds"]
            self._wait(pipe)
            pipe.close(wait_seconds=2.0)
        self._log.close()
        status = self._status
        return {
            "name": self._command["name"],
            "exit_code": status if status is not None and status >= 0 else None,
            "signal": -status if status is not None and status < 0 else None,
            "timed_out": self._timed_out,
            "interrupted": self._interrupted,
            "error": self._error,
            "started_at": started_at,
            "seconds": time.monotonic() - begin,
            "cpu_seconds": self._cpu_seconds,
            "max_rss_bytes": self._max_rss_bytes,
            "oom_kills": kernel_oom_kills() - oom_kills,
            "survivors_killed": len(self._killed),
            "log_bytes": self._log.seen_bytes,
            "log_dropped_bytes": self._log.dropped_bytes,
        }

    def _start(self) -> tuple[subprocess.Popen[bytes], Pipe]:
        for path in self._command["removes"]:
            try:
                Path(path).unlink(missing_ok=True)
            except OSError as error:
                raise ValueError(f"{Path(path).name}, left by an earlier command, cannot be removed") from error
        read_end, write_end = os.pipe()
        try:
            with pinned(self._cores), Path(self._command.get("stdin", os.devnull)).open("rb") as stdin:
                process = subprocess.Popen(
                    self._command["argv"],
                    cwd=self._command["cwd"],
                    stdin=stdin,
                    stdout=write_end,
                    stderr=write_end,
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return process, Pipe(read_end, self._interruption.wake_file, self._log.write)

    def _explain(self, error: Exception) -> str:
        program = self._command["argv"][0] if self._command["argv"] else ""
        if not Path(self._command["cwd"]).is_dir():
            return "its working directory does not exist"
        if isinstance(error, FileNotFoundError):
            return f"the command '{program}' was not found"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"the command '{program}' could not be started: {reason}"

    def _wait(self, pipe: Pipe) -> None:
        while True:
            pipe.wait(self._pause_seconds())
            anything_left = self._reap()
            ended = self._status is not None
            if ended and not anything_left:
                return
            now = time.monotonic()
            if ended and self._linger_until is None:
                self._linger_until = max(now + LINGER_SECONDS, self._kill_at or 0.0)
            if not ended and self._kill_at is None and (self._interruption or now >= self._deadline):
                self._interrupted = bool(self._interruption)
                self._timed_out = not self._interrupted
                self._kill_at = now + self._grace_seconds
                self._terminate()
            kill_at = self._linger_until if ended else self._kill_at
            if kill_at is not None and now >= kill_at:
                self._killed |= end_descendants() - {self._process.pid}
                self._give_up_at = self._give_up_at or now + DEATH_SECONDS
            if self._give_up_at is not None and now >= self._give_up_at:
                self._error = "processes were left that do not die even when killed"
                return

    def _pause_seconds(self) -> float:
        """How long to sleep at most: until the next thing that no signal announces."""
        if self._give_up_at is not None or not LINUX:
            return 0.02
        if self._status is not None:
            due = self._linger_until
        else:
            due = self._deadline if self._kill_at is None else self._kill_at
        return 1.0 if due is None else min(1.0, max(0.0, due - time.monotonic()))

    def _terminate(self) -> None:
        if sys.platform != "win32":  # there, no polite request is understood by every program
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _reap(self) -> bool:
        """Collect every process that has ended; whether any is left alive."""
        if sys.platform == "win32":
            self._status = self._process.poll()
            return self._status is None or bool(descendants())
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return not LINUX and bool(descendants())  # on Linux this is the proof: orphans would be ours
            if pid == 0:
                return True
            self._cpu_seconds += usage.ru_utime + usage.ru_stime
            unit = 1 if sys.platform == "darwin" else 1024
            self._max_rss_bytes = max(self._max_rss_bytes, usage.ru_maxrss * unit)
            if pid == self._process.pid:
                self._status = self._process.returncode = os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def pinned(cores: list[int]) -> Iterator[None]:
    """Run the block on `cores`: a child started in it inherits them before its first thread exists.

    Raises:
        OSError: None of the cores may be used.
    """
    if not cores or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it started; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError), Path("/proc/vmstat").open("rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
