"""Detached worktrees of the lab, made and removed quickly and safely, by any number of threads.

A run or a researcher gets a worktree and not a bare export: a stray `git commit` or `git checkout` in there then
touches that worktree alone, where in a plain folder under the lab it would reach the user's own branch.
Removal deletes the folder and git's entry for it, which is a third of the time of `git worktree remove`, and never
follows what the folder's own `.git` file says, since the code that ran there could have written anything into it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

from autoresearch.errors import LabError
from autoresearch.lab.git import Git

_PATIENCE_SECONDS = (0.05, 0.2, 0.5)


class Worktrees:
    """The worktrees that one process makes of one repository.

    **Thread safety.** `add` and `remove` may be called from any thread, for different destinations.

    **Idempotence.** Either may be repeated after a kill; what a half-made worktree left is removed first.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self.common = (git.root / git.text("rev-parse", "--git-common-dir")).resolve()
        """The repository's own folder, shared by all worktrees."""
        self._entries = threading.Lock()  # git reads all entries when it adds one, also half-removed ones

    def add(self, commit: str, destination: Path) -> None:
        """Check `commit` out at `destination`, replacing whatever is there.

        Raises:
            LabError: The commit does not exist, or the disk does not take it.
        """
        if destination.exists() or destination.is_symlink():
            self.remove(destination)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with self._entries:
            arguments = ("--force", "--force", "--no-checkout", "--detach", "--quiet", str(destination), commit)
            self._git.run("worktree", "add", *arguments)
        self._git.run("read-tree", "--reset", "-u", commit, cwd=destination)

    def remove(self, destination: Path) -> None:
        """Delete the worktree at `destination`, if there is one, and git's entry for it."""
        erase(destination)
        with self._entries:
            for entry in self.entries_of(destination):
                shutil.rmtree(entry, ignore_errors=True)

    def entries_of(self, destination: Path) -> list[Path]:
        """Git's own folders for the worktree at `destination`: one, or none, or several after a kill."""
        link = str(destination.parent.resolve() / destination.name / ".git")
        return [entry for entry, target in self._targets() if target == link]

    def forget_vanished(self, home: Path) -> list[str]:
        """Delete git's entries for worktrees under `home` that are no longer there; the names of those entries."""
        inside = str(home.resolve()) + os.sep
        forgotten = []
        with self._entries:  # an entry that git is just making has no worktree yet either
            for entry, target in self._targets():
                if target.startswith(inside) and not Path(target).exists():
                    shutil.rmtree(entry, ignore_errors=True)
                    forgotten.append(entry.name)
        return sorted(forgotten)

    def _targets(self) -> list[tuple[Path, str]]:
        found = []
        try:
            entries = list((self.common / "worktrees").iterdir())
        except FileNotFoundError:
            return []
        for entry in entries:
            try:
                found.append((entry, os.fsdecode((entry / "gitdir").read_bytes()).rstrip("\n")))
            except OSError:
                continue  # another thread has just removed it
        return found


def erase(path: Path) -> None:
    """Delete a file, link or folder with all that is in it, also where its rights were taken away.

    Raises:
        LabError: It cannot be deleted.
    """
    for patience in (*_PATIENCE_SECONDS, None):
        try:
            if path.is_symlink() or path.is_file():
                path.unlink()
            else:
                shutil.rmtree(path)
        except FileNotFoundError:
            if not path.exists():
                return
        except OSError as error:
            if patience is None:
                raise LabError(f"{path} cannot be deleted ({error.strerror}): delete it by hand") from error
            _unlock(path)
            time.sleep(patience)  # a dying process may still write there
        else:
            return


def _unlock(path: Path) -> None:
    """Give ourselves the right to delete everything under `path`."""
    for folder, _, _ in os.walk(path):
        try:
            Path(folder).chmod(0o700)
        except OSError:
            continue
