"""What an agent may see and change on this machine, kept by bubblewrap where that works.

The agent needs its user's home (its program and its login are there) and the network (its provider), so this is no
cell. It is a curtain before what would spoil the research: the lab's earlier runs, its ledger and its prepared data are
not there, the user's own files of the lab can be read and not written, and there is no GPU to train on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path


def confined(
    argv: Sequence[str], *, writable: Iterable[Path], read_only: Iterable[Path] = (), hidden: Iterable[Path] = ()
) -> list[str]:
    """The command that runs `argv` behind the curtain; `argv` itself where there is no bubblewrap or it is refused.

    Args:
        argv: A program and its arguments.
        writable: Folders within the others that stay as they are: the worktree, the session.
        read_only: Folders to be read and not written.
        hidden: Folders that are empty for it.
    """
    bwrap = shutil.which("bwrap") if sys.platform == "linux" else None
    if bwrap is None or not works(bwrap):
        return list(argv)
    command = [bwrap, "--die-with-parent", "--bind", "/", "/", "--dev", "/dev"]
    for option, folders in (("--ro-bind", read_only), ("--tmpfs", hidden), ("--bind", writable)):
        for folder in folders:
            if folder.is_dir():
                place = str(folder.resolve())
                command += [option, place] if option == "--tmpfs" else [option, place, place]
    return [*command, "--", *argv]


@cache
def works(bwrap: str) -> bool:
    """Whether bubblewrap may make namespaces here: containers and kernels may forbid it. Asked once in a process."""
    trial = [bwrap, "--die-with-parent", "--bind", "/", "/", "--dev", "/dev", "--tmpfs", "/mnt", "--", "true"]
    try:
        return subprocess.run(trial, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
