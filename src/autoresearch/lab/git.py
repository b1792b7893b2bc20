"""The git executable, wrapped thinly: one process per question, bytes in, bytes out.

No library stands between: every lab already has git, and its plumbing is stable for decades. The wrapper pins
what a user's settings could change (language, hooks, signing, file watchers), so that a campaign behaves the
same on every machine, and turns git's failures into one sentence with a cure.

Covered: hooks, signing programs and file watchers never run; inherited `GIT_DIR` and the like are dropped.
Not covered: clean and smudge filters that the user's own git settings define still run on checkouts, since a
lab may need them (large-file storage).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from autoresearch.errors import LabError

IDENTITY = "AutoResearch <autoresearch@localhost>"
"""Author and committer of every commit that a campaign makes, whatever the user's own git settings say."""

_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.sparseCheckout=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "worktree.useRelativePaths=false",
)
_KEPT_VARIABLES = ("GIT_CONFIG", "GIT_EXEC_PATH", "GIT_SSL", "GIT_TRACE")
_FIXED_VARIABLES = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "AutoResearch",
    "GIT_AUTHOR_EMAIL": "autoresearch@localhost",
    "GIT_COMMITTER_NAME": "AutoResearch",
    "GIT_COMMITTER_EMAIL": "autoresearch@localhost",
}
_BUSY = re.compile(r"\.lock'?: File exists|cannot lock ref|could not lock|Unable to create '.*\.lock'")
_PATIENCE_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_CURES = (
    (re.compile(r"dubious ownership"), "git does not trust {root}, because another user owns it: "
     "run `git config --global --add safe.directory {root}`"),
    (re.compile(r"not a git repository"), "{root} is not a git repository: run `git init` there and commit the lab"),
    (re.compile(r"No space left on device|Disk quota exceeded"), "git cannot write, because the disk of {root} is "
     "full: free some space and start again"),
    (re.compile(r"Permission denied"), "git may not write in {root}: {line}; give yourself the right to write there"),
    (re.compile(r"Read-only file system"), "{root} is on a read-only file system: move the lab elsewhere"),
    (_BUSY, "another git process holds a lock in {root} ({line}): wait for it to end, or delete the .lock file when "
     "none is running"),
    (re.compile(r"object file .* is empty|is corrupt|bad object|unable to read tree"), "the repository {root} is "
     "damaged ({line}): run `git fsck` there and restore it from a clone"),
)  # fmt: skip


class Entry(NamedTuple):
    """One file of a tree."""

    mode: str
    """Six octal digits: 100644, 100755, 120000 (symbolic link) or 160000 (submodule)."""
    blob: str


class CommitObject(NamedTuple):
    """What a commit says about itself."""

    tree: str
    parents: tuple[str, ...]
    timestamp: int
    """Committer's Unix seconds."""
    message: str


class Edit(NamedTuple):
    """One file of a commit to be written; no content means that the file is deleted."""

    mode: str
    content: bytes | None


class GitError(LabError):
    """Git refused; the message is the sentence for the user, `stderr` is what git said."""

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class Git:
    """One repository's git.

    **Thread safety.** Holds no state but the paths, so any number of threads may share it.
    """

    def __init__(self, root: Path, executable: str = "git") -> None:
        self.root = root
        self._executable = executable

    def run(
        self, *arguments: str, stdin: bytes = b"", cwd: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> bytes:
        """Run one git command and return what it printed; a busy lock is waited for, 1.5 s in all.

        Raises:
            GitError: Git is missing, or the command failed.
        """
        for patience in (*_PATIENCE_SECONDS, None):
            done = self._once(arguments, stdin, cwd or self.root, variables or {})
            if done.returncode == 0:
                return done.stdout
            stderr = done.stderr.decode("utf-8", "replace").strip()
            if patience is None or not _BUSY.search(stderr):
                break
            time.sleep(patience)
        raise GitError(self._sentence(arguments, stderr), stderr)

    def text(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run one git command and return its output as text without the final newline."""
        return self.run(*arguments, cwd=cwd).decode("utf-8", "surrogateescape").rstrip("\n")

    def succeeds(self, *arguments: str) -> bool:
        """Whether a git command that answers by its exit code says yes (0) or no (1).

        Raises:
            GitError: Any other exit code.
        """
        done = self._once(arguments, b"", self.root, {})
        if done.returncode in (0, 1):
            return done.returncode == 0
        stderr = done.stderr.decode("utf-8", "replace").strip()
        raise GitError(self._sentence(arguments, stderr), stderr)

    def resolve(self, revision: str) -> str:
        """The full name of the commit that `revision` means.

        Raises:
            GitError: There is no such commit.
        """
        try:
            # No option can hide in a revision: "-x^{commit}" is none that rev-parse knows.
            return self.text("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        except GitError as failure:
            if failure.stderr:
                raise
            raise GitError(
                f"{self.root} has no commit {revision!r}: commit the lab first, or name another commit"
            ) from None

    def tree(self, commit: str) -> dict[str, Entry]:
        """Every file of a commit by its path."""
        files = {}
        for row in split_paths(self.run("ls-tree", "-r", "-z", "--full-tree", commit)):
            head, path = row.split("\t", 1)
            mode, _, blob = head.split(" ")
            files[path] = Entry(mode, blob)
        return files

    def objects(self, names: Iterable[str]) -> list[bytes | None]:
        """The contents of objects, in the order asked for; None for one that is not there."""
        wanted = list(names)
        if not wanted:
            return []
        output = self.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in wanted).encode())
        return _parse_batch(output, len(wanted))

    def checked_out(self, commit: str, paths: Iterable[str], common: Path) -> dict[str, bytes]:
        """What a checkout of `commit` would write for some of its files, line-ending and large-file rules applied.

        Really written, to a temporary folder, because `cat-file --filters` reports the sizes of unfiltered contents.
        """
        wanted = list(paths)
        with tempfile.TemporaryDirectory(prefix="autoresearch-files-") as folder:
            place = Path(folder, "files")
            place.mkdir()
            variables = {
                "GIT_DIR": str(common),
                "GIT_WORK_TREE": str(place),
                "GIT_INDEX_FILE": str(Path(folder, "index")),
            }
            request = "".join(f"{path}\0" for path in wanted).encode("utf-8", "surrogateescape")
            self.run("read-tree", commit, cwd=place, variables=variables)
            self.run("checkout-index", "-z", "--stdin", stdin=request, cwd=place, variables=variables)
            return {path: (place / path).read_bytes() for path in wanted if (place / path).is_file()}

    def merge_texts(self, ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
        """Merge two edits of one file line by line; None when they conflict or are not text."""
        with tempfile.TemporaryDirectory(prefix="autoresearch-merge-") as folder:
            paths = [Path(folder, name) for name in ("ours", "base", "theirs")]
            for path, content in zip(paths, (ours, base, theirs), strict=True):
                path.write_bytes(content)
            done = self._once(("merge-file", "-p", "-q", *map(str, paths)), b"", self.root, {})
        return done.stdout if done.returncode == 0 else None

    def commit_objects(self, *commits: str) -> list[CommitObject]:
        """What commits say about themselves.

        Raises:
            GitError: One of them is not there.
        """
        found = []
        for commit, raw in zip(commits, self.objects(commits), strict=True):
            if raw is None:
                raise GitError(f"{self.root} has lost the commit {commit}: run `git fsck` there")
            found.append(_parse_commit(raw))
        return found

    def write_commit(self, ref: str, parent: str, message: str, edits: Mapping[str, Edit], timestamp: int) -> str:
        """Write a commit with one parent and point `ref` at it; returns the commit.

        One `fast-import` process writes blobs, trees, commit and ref, byte for byte: it reads no index, knows no
        filters and runs no hooks, and it is quicker than the six commands it replaces.

        Args:
            ref: Full name of the ref, made or moved.
            parent: The commit that the edits apply to.
            message: The commit's message.
            edits: Changed files by path.
            timestamp: Author's and committer's Unix seconds.
        """
        text = message.encode("utf-8", "replace")
        person = f"{IDENTITY} {timestamp} +0000"
        stream = [
            f"commit {ref}\nmark :1\nauthor {person}\ncommitter {person}\n".encode(),
            b"data %d\n%s\nfrom %s\n" % (len(text), text, parent.encode()),
        ]
        # A file may become a folder: deletions go first, as fast-import applies lines in order.
        for path, edit in sorted(edits.items(), key=lambda item: item[1].content is not None):
            if edit.content is None:
                stream.append(b"D %s\n" % _quote(path))
            else:
                stream.append(b"M %s inline %s\n" % (edit.mode.encode(), _quote(path)))
                stream.append(b"data %d\n%s\n" % (len(edit.content), edit.content))
        stream.append(b"\nget-mark :1\ndone\n")
        return self.run("fast-import", "--quiet", "--force", "--done", stdin=b"".join(stream)).decode().strip()

    def _once(
        self, arguments: tuple[str, ...], stdin: bytes, cwd: Path, variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [self._executable, "--no-optional-locks", *settings, *arguments]
        try:
            while True:
                # In a session of its own, because a terminal sends Ctrl-C to all of ours: it is for us, and git is to
                # end its work. Where Ctrl-C comes before the child has that session, there is no git yet: once more.
                ended = subprocess.run(
                    command, input=stdin, capture_output=True, cwd=cwd, env=_environment(variables), check=False,
                    start_new_session=True,
                )  # fmt: skip
                if ended.returncode != -signal.SIGINT:
                    return ended
        except FileNotFoundError:
            if not cwd.is_dir():
                raise GitError(f"{cwd} does not exist: name the lab's folder") from None
            raise GitError("git is not installed, or not on PATH: install git 2.25 or newer") from None
        except OSError as error:
            raise GitError(
                f"git cannot be started ({error}): see that the machine has memory and processes left"
            ) from error

    def _sentence(self, arguments: tuple[str, ...], stderr: str) -> str:
        lines = [line for line in stderr.splitlines() if line.startswith(("fatal:", "error:"))] or stderr.splitlines()
        line = lines[0].removeprefix("fatal: ").removeprefix("error: ") if lines else "it gave no reason"
        for pattern, sentence in _CURES:
            if pattern.search(stderr):
                return sentence.format(root=self.root, line=line)
        return f"`git {arguments[0]}` failed in {self.root}: {line}; run it by hand there to see more"


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
    }
    return {**inherited, **_FIXED_VARIABLES, **variables}


def split_paths(output: bytes) -> list[str]:
    """The NUL-separated fields of git's `-z` output; undecodable bytes survive as surrogates."""
    return [field for field in output.decode("utf-8", "surrogateescape").split("\0") if field]


def _parse_batch(output: bytes, count: int) -> list[bytes | None]:
    contents: list[bytes | None] = []
    position = 0
    for _ in range(count):
        end = output.index(b"\n", position)
        fields = output[position:end].split(b" ")
        position = end + 1
        if len(fields) != 3 or not fields[2].isdigit():
            contents.append(None)
            continue
        size = int(fields[2])
        contents.append(output[position : position + size])
        position += size + 1
    return contents


def _quote(path: str) -> bytes:
    escaped = (
        path.encode("utf-8", "surrogateescape").replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    )
    return b'"' + escaped + b'"'


def _parse_commit(raw: bytes) -> CommitObject:
    head, _, message = raw.partition(b"\n\n")
    tree, parents, timestamp = "", [], 0
    for line in head.decode("utf-8", "replace").split("\n"):
        key, _, value = line.partition(" ")
        if key == "tree":
            tree = value
        elif key == "parent":
            parents.append(value)
        elif key == "committer":
            timestamp = int(value.rsplit(" ", 2)[1])
    return CommitObject(tree, tuple(parents), timestamp, message.decode("utf-8", "replace"))
