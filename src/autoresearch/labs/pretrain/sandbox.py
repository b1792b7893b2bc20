"""The place where the program under study runs: what it may see, what it costs, and its certain end.

With bubblewrap (`bwrap`, Linux) the program sees the system and its own checkout read-only, has no network, and does
not see the user's home, the lab with its ledger and git, the prepared data, or the folder of its own results. Without
it only the paths are kept from it, which keeps out mistakes and not intent.

`bwrap` is probed once for each run with the very mounts it will get: some machines have it and refuse it.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

SECRET_VARIABLES = (
    "AUTORESEARCH_DATA_DIR",
    "AUTORESEARCH_SEALED_DIR",
    "AUTORESEARCH_RUN_DIR",
    "AUTORESEARCH_EVAL_SPLIT",
    "AUTORESEARCH_EVAL_ROTATION",
)
"""What the program is not told: where the data and its results are, and what it is scored on."""

CACHE_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Folders of compilers, kept from run to run: all that a confined program may write to."""

CHILDREN_SECONDS = 0.25
"""How long a list of the program's processes is good for when their processor time is added up."""


def confine(argv: Sequence[str], folder: Path, hidden: Iterable[Path], environment: Mapping[str, str]) -> list[str]:
    """Return the command that runs `argv` confined; empty when that is not possible here.

    Args:
        argv: The program and its arguments.
        folder: Its working directory, which it sees read-only.
        hidden: Files and folders that it must not see.
        environment: Its environment; names the compilers' caches.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None or sys.platform != "linux":
        return []
    python = [Path(sys.prefix), Path(sys.base_prefix), *(Path(p) for p in sys.path if p.endswith("-packages"))]
    caches = [Path(environment[name]) for name in CACHE_VARIABLES if environment.get(name)]
    for cache in caches:
        cache.mkdir(parents=True, exist_ok=True)
    command = [bwrap, "--die-with-parent", "--unshare-all", "--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    command += ["--proc", "/proc", "--tmpfs", "/dev/shm", "--tmpfs", "/tmp"]
    for path in _existing([Path.home(), *_repository_of(folder)]):
        command += ["--tmpfs", str(path)]
    for path in _existing([*python, folder]):
        command += ["--ro-bind", str(path), str(path)]
    for path in _existing([folder / ".git", folder / ".autoresearch", *hidden]):
        command += ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", os.devnull, str(path)]
    for path in _existing(caches):
        command += ["--bind", str(path), str(path)]
    command += ["--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp", "--chdir", str(folder), "--"]
    try:
        works = subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    return [*command, *argv] if works else []


def _existing(paths: Iterable[Path]) -> list[Path]:
    """Those that exist, resolved, each once; never the root."""
    return [p for p in dict.fromkeys(path.resolve() for path in paths if path.exists()) if p != Path("/")]


def _repository_of(folder: Path) -> list[Path]:
    """The repository that a checkout belongs to, with ledger and data in it, when it is not the checkout itself."""
    pointer = folder / ".git"
    if not pointer.is_file():
        return []
    git_directory = Path(folder, pointer.read_text(encoding="utf-8").partition(":")[2].strip())
    common = git_directory / "commondir"
    if not common.is_file():
        return []
    return [Path(git_directory, common.read_text(encoding="utf-8").strip()).resolve().parent]


# ---------------------------------------------------------------------------------------------------------------------
# Processes


def adopt_orphans() -> None:
    """Become the parent of whatever the program leaves behind (Linux), so that `end_family` finds it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`; none where the system does not tell (only Linux does, without help)."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_bytes().split())
    return [*found, *(below for child in found for below in descendants(child))]


def end_family(child: subprocess.Popen[bytes]) -> None:
    """Kill the program and everything that it started, and return when nothing of it is left."""
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


class ProcessorTime:
    """Processor seconds that a process and everything below it have used, but for this process; differences count.

    What the children of this process used that have ended is in it, because orphans of the program become such.

    Raises:
        OSError: This system does not tell, and `psutil`, which knows how to ask others, is not installed.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._living: list[int] = []
        self._reaped_seconds = 0.0
        self._listed_at = -math.inf
        self._most = 0.0
        self()

    def __call__(self) -> float:
        """Return the seconds used so far; never less than before."""
        if sys.platform != "linux":
            return self._portable()
        now = time.monotonic()
        if now - self._listed_at > CHILDREN_SECONDS:
            self._listed_at = now
            self._living = [pid for pid in (self._pid, *descendants(self._pid)) if pid != os.getpid()]
            self._reaped_seconds = sum(_reaped_seconds(pid) for pid in {*self._living, os.getpid()})
        total = self._reaped_seconds
        for pid in self._living:
            with contextlib.suppress(OSError):  # it has ended; its time is added to its parent's
                total += time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3): to the nanosecond
        self._most = max(self._most, total)
        return self._most

    def _portable(self) -> float:
        try:
            import psutil  # noqa: PLC0415 - only needed here
        except ImportError as error:
            raise OSError("psutil is not installed") from error
        total = 0.0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self._pid)
            for process in (root, *root.children(recursive=True)):
                if process.pid != os.getpid():
                    with contextlib.suppress(psutil.Error):
                        total += sum(process.cpu_times()[:2])
        self._most = max(self._most, total)
        return self._most


def _reaped_seconds(pid: int) -> float:
    """Processor seconds of children of a process that have ended, from proc(5): cutime and cstime."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
