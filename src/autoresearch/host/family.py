"""Processes and their descendants: who they are, which of them are alive, how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARKER_VARIABLE = "AUTORESEARCH_RUN"
"""The environment variable by which the processes of a run are known even when their parents are gone."""

STRAY_SECONDS = 10.0
"""How long strays are killed again and again before the rest is given up as unkillable."""

LINUX = sys.platform.startswith("linux")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own (Linux; elsewhere there is no such thing).

    Afterwards "this process has no child" means that no descendant is alive, daemons included.

    Raises:
        OSError: The kernel refuses.
    """
    if not LINUX:
        return
    import ctypes

    set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this kernel has no child subreaper")


def identity_of(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None when no such process is alive.

    On Linux the start in clock ticks and the boot it belongs to, which no correction of the clock can move;
    elsewhere the time of creation.
    """
    if not LINUX:
        return _portable_identity(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = _stat_fields(pid)
    except (OSError, ValueError, IndexError):
        return None
    return None if fields[0] in (b"Z", b"X") else f"{fields[19].decode()}@{boot}"


def descendants() -> set[int]:
    """Every living process that belongs to this one: below it, or carrying the marker of its environment."""
    return _linux_descendants() if LINUX else _portable_descendants()


def end_all(processes: set[int]) -> None:
    """Kill these processes, none of which may be waited for here; those already gone are no error."""
    if sys.platform == "win32":
        number = signal.SIGTERM  # kills outright there
    else:
        number = signal.SIGKILL
    for pid in processes:
        send(pid, number)


def end_descendants() -> set[int]:
    """Kill the whole family, frozen first so that nothing forks away meanwhile; who they were."""
    if sys.platform == "win32" or not LINUX:
        found = descendants()
    else:
        found = set()
        while fresh := descendants() - found:
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            found |= fresh
    end_all(found)
    return found


def end_strays(marker: str) -> int:
    """Kill every process whose environment carries `marker`; how many there were.

    For the rare case that a supervisor itself was killed and what it watched runs on. Ourselves and our
    ancestors are spared: a campaign may well be the run of another campaign.
    """
    import psutil

    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    ended: set[tuple[int, float]] = set()
    give_up_at = time.monotonic() + STRAY_SECONDS
    while time.monotonic() < give_up_at:
        found = [process for process in _marked(marker) if process.pid not in spared]
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
                ended.add((process.pid, process.create_time()))
        time.sleep(0.01)
    return len(ended)


def belongs_to(pid: int, marker: str) -> bool | None:
    """Whether a process is of the execution with this marker: it or an ancestor carries it in its environment.

    Returns:
        None when there is no such process here: it has ended, or its number is that of another container.
    """
    import psutil

    try:
        family = [(process := psutil.Process(pid)), *process.parents()]
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError):
        return False
    for process in family:
        with contextlib.suppress(psutil.Error, OSError):  # what we may not read is somebody else's
            if process.environ().get(MARKER_VARIABLE) == marker:
                return True
    return False


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone already, or belong to somebody else."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _stat_fields(pid: int | str) -> list[bytes]:
    """The fields after the command, which stands in brackets and may hold anything, brackets too."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _linux_descendants() -> set[int]:
    children: dict[int, list[int]] = {}
    unburied: set[int] = set()
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are enough
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                state, parent = _stat_fields(name)[:2]
                children.setdefault(int(parent), []).append(int(name))
                if state in (b"Z", b"X"):
                    unburied.add(int(name))
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        fresh = [pid for pid in children.get(waiting.pop(), ()) if pid not in found]
        found.update(fresh)
        waiting += fresh
    return found - unburied


def _portable_descendants() -> set[int]:
    import psutil

    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    if marker := os.environ.get(MARKER_VARIABLE):
        found |= {process.pid for process in _marked(marker) if process.pid != os.getpid()}
    return found


def _marked(marker: str) -> Iterator[Any]:
    """The living processes that carry the marker, as psutil sees them; the dead have no environment any more."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARKER_VARIABLE) == marker:
                yield process


def _portable_identity(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
