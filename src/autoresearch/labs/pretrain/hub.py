"""Fetch files of a Hugging Face dataset, though line, disk or this process may fail at any byte.

A file in flight lies in its folder as `NAME.CONTENT.part`, CONTENT being the hub's name for these very bytes. Whoever
comes next, after a broken line or a kill, goes on at the byte that was reached; a file that has changed at the hub
begins another part. What has arrived is compared with the SHA-256 that the hub gives for large files, and only then
takes its name, with a note of size and hash beside it (`NAME.json`). From then on no network is needed.

HF_ENDPOINT (a mirror) and the usual proxy variables are honoured. Nothing is sent but the names of public files. The
hub's own client starts a file in flight anew after a kill, which at gigabytes is why this module exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONNECTIONS = 4
"""Files fetched at a time: one connection seldom fills a line."""

FAILURES_MAX = 5
"""Failures in a row, without one byte of progress, after which a file is given up."""

TIMEOUT_SECONDS = 30
BLOCK_BYTES = 1 << 20
REPORT_SECONDS = 5.0

REDIRECTS = (301, 302, 303, 307, 308)

Item = TypeVar("Item")
Result = TypeVar("Result")


class HubError(Exception):
    """Files could not be had; one sentence that says why and what to do."""


@dataclass(frozen=True)
class Remote:
    """What the hub says of one file."""

    name: str
    url: str
    size: int
    content: str
    """The hub's name for the content: the SHA-256 of large files, otherwise an entity tag."""

    @property
    def sha256(self) -> str | None:
        """The hash that the content must have, where the hub tells it."""
        return self.content if re.fullmatch("[0-9a-f]{64}", self.content) else None


def fetch(
    repo: str,
    names: Sequence[str],
    folder: Path,
    *,
    say: Callable[[str], None],
    check: Callable[[Path], object] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Make sure that files of a dataset lie whole in a folder.

    Args:
        repo: The dataset, as `owner/name`.
        names: Files in it.
        folder: Where they go, under their names.
        say: Takes a line of progress.
        check: Raises an exception when a file cannot be what it should be; for mirrors that tell no hash.
        pause: Waits so many seconds before another attempt.

    Returns:
        The paths, in the order of `names`.

    Raises:
        HubError: A file could not be had, arrived damaged twice, or would not fit on the disk.
    """
    missing = [name for name in names if not is_whole(folder / name)]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        remotes = _at_once(lambda name: describe(repo, name, pause), missing)
        there = {remote.name: _part(folder, remote) for remote in remotes}
        have = sum(part.stat().st_size for part in there.values() if part.exists())
        total = sum(remote.size for remote in remotes)
        free = shutil.disk_usage(folder).free
        if total - have > free:
            raise HubError(
                f"{repo} needs {(total - have) / 1e9:.1f} GB more at {folder}, where {free / 1e9:.1f} GB are free; "
                "free some, take fewer --shards, or set XDG_CACHE_HOME to a folder on a larger disk"
            )
        already = f", {have / 1e9:.2f} GB of it already here" if have else ""
        say(f"download: {len(missing)} file(s) of {repo}, {total / 1e9:.2f} GB{already}")
        with Progress(repo, len(missing), total, say) as progress:
            _at_once(lambda remote: Download(remote, folder, progress, check, pause).run(), remotes)
    return [folder / name for name in names]


def is_whole(path: Path) -> bool:
    """Tell whether a file has arrived: it has the size that the note beside it says."""
    note = _note(path)
    try:
        return bool(path.stat().st_size == json.loads(note.read_text())["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def known_sha256(path: Path) -> str | None:
    """Return the SHA-256 that a fetched file had when it arrived; None for files of other origin."""
    try:
        return str(json.loads(_note(path).read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(path: Path) -> None:
    """Remove a fetched file that has been damaged since, so that it is fetched again."""
    _note(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _part(folder: Path, remote: Remote) -> Path:
    content = re.sub(r"\W", "", remote.content)[:16]
    return folder / f"{remote.name}.{content}.part"


def _at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply `work` to all items, a few at a time; the first failure ends it, and what is in flight ends soon after."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# ---------------------------------------------------------------------------------------------------------------------
# Asking


class _Stay(urllib.request.HTTPRedirectHandler):
    """Does not follow: the answer that redirects is the one that names size and hash."""

    def redirect_request(self, *_: Any) -> None:
        return None


def describe(repo: str, name: str, pause: Callable[[float], None] = time.sleep) -> Remote:
    """Ask the hub for size and content of a file.

    Raises:
        HubError: There is no such file, or no answer after several attempts.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/datasets/{repo}/resolve/main/{urllib.parse.quote(name)}"
    opener = urllib.request.build_opener(_Stay)
    failures = 0
    address = url
    while True:
        try:
            request = urllib.request.Request(address, method="HEAD", headers={"Accept-Encoding": "identity"})
            try:
                headers = opener.open(request, timeout=TIMEOUT_SECONDS).headers
            except urllib.error.HTTPError as answer:
                if answer.code not in REDIRECTS:
                    raise
                headers = answer.headers
                further = urllib.parse.urljoin(address, headers.get("Location", ""))
                if headers.get("X-Linked-Size") is None and further != address and failures < FAILURES_MAX:
                    address, failures = further, failures + 1  # a renamed dataset, or a mirror that sends us on
                    continue
            size = headers.get("X-Linked-Size") or headers["Content-Length"]
            content = headers.get("X-Linked-Etag") or headers.get("ETag") or f"size-{size}"
            return Remote(name, url, int(size), content.removeprefix("W/").strip('"'))
        except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
            failures += 1
            if failures >= FAILURES_MAX or not _may_pass(error):
                raise _not_had(name, repo, error) from error
            pause(2.0**failures / 2)


def _may_pass(error: Exception) -> bool:
    """Tell whether another attempt may succeed: not where the hub says that there is no such file."""
    return not isinstance(error, urllib.error.HTTPError) or error.code >= 500 or error.code in (408, 416, 429)


def _not_had(name: str, repo: str, error: Exception) -> HubError:
    reason = str(getattr(error, "reason", "") or error).strip().partition("\n")[0]
    return HubError(
        f"could not download {name} of {repo} ({type(error).__name__}: {reason}); what has arrived is kept, so run "
        "the same command again, or set HF_ENDPOINT to a mirror"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Fetching


class Progress:
    """Counts what arrives on several connections, and says so now and then."""

    def __init__(self, repo: str, num_files: int, total: int, say: Callable[[str], None]) -> None:
        self._repo, self._num_files, self._total, self._say = repo, num_files, total, say
        self._lock = threading.Lock()
        self._files = self._here = self._arrived = 0
        self._started = self._reported = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            seconds = max(1e-9, time.monotonic() - self._started)
            rate = self._arrived / seconds / 1e6
            self._say(f"download: {self._num_files} file(s) are here and whole ({rate:.1f} MB/s)")

    def found(self, size: int) -> None:
        """Count bytes that an earlier attempt left; negative when they turned out useless."""
        with self._lock:
            self._here += size

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        with self._lock:
            self._here += size
            self._arrived += size
            now = time.monotonic()
            if now - self._reported < REPORT_SECONDS:
                return
            self._reported = now
            rate = self._arrived / (now - self._started)
            left = (self._total - self._here) / rate
            self._say(
                f"download: {self._files} of {self._num_files} files, {self._here / 1e9:.2f} of "
                f"{self._total / 1e9:.2f} GB, {rate / 1e6:.1f} MB/s, {left:.0f} s left"
            )

    def done(self) -> None:
        """Count a file that is whole."""
        with self._lock:
            self._files += 1


class Download:
    """One file on its way."""

    def __init__(
        self,
        remote: Remote,
        folder: Path,
        progress: Progress,
        check: Callable[[Path], object],
        pause: Callable[[float], None],
    ) -> None:
        self._remote, self._progress, self._check, self._pause = remote, progress, check, pause
        self._path = folder / remote.name
        self._part = _part(folder, remote)
        self._have = 0
        self._digest = hashlib.sha256()

    def run(self) -> None:
        """Bring the file home, once more from the first byte if it arrives damaged.

        Raises:
            HubError: It could not be had.
        """
        with alone(self._part) as file:
            if is_whole(self._path):  # another process was faster
                self._part.unlink(missing_ok=True)
                self._progress.found(self._remote.size)
            else:
                self._take_up(file)
                damage = self._bring(file)
                if damage:
                    self._rewind(file)
                    damage = self._bring(file)
                if damage:
                    self._part.unlink(missing_ok=True)
                    raise HubError(
                        f"{self._remote.name} arrived damaged twice ({damage}); run the same command again later, or "
                        "set HF_ENDPOINT to another mirror"
                    )
        self._progress.done()

    def _take_up(self, file: BinaryIO) -> None:
        """Count and hash what an earlier attempt left."""
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            self._took(block)
        self._progress.found(self._have)
        if self._have > self._remote.size:
            self._rewind(file)

    def _took(self, block: bytes) -> None:
        self._digest.update(block)
        self._have += len(block)

    def _rewind(self, file: BinaryIO) -> None:
        """Drop what has arrived."""
        file.truncate(0)
        self._progress.found(-self._have)
        self._have, self._digest = 0, hashlib.sha256()

    def _bring(self, file: BinaryIO) -> str:
        """Fetch what is missing and give the file its name. Returns what is wrong with it, or nothing."""
        remote = self._remote
        failures = 0
        while self._have < remote.size:
            before = self._have
            try:
                for block in self._blocks(self._have):
                    file.write(block)
                    self._took(block)
                    self._progress.add(len(block))
                if self._have == before:
                    raise ConnectionError("the connection was closed")
            except _FromTheStart:
                self._rewind(file)
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures = 1 if self._have > before else failures + 1
                if failures >= FAILURES_MAX or not _may_pass(error):
                    raise _not_had(remote.name, remote.url.split("/resolve/")[0], error) from error
                self._pause(2.0**failures / 2)
        file.flush()
        os.fsync(file.fileno())
        arrived = self._digest.hexdigest()
        if remote.sha256 and arrived != remote.sha256:
            return f"its SHA-256 is {arrived[:12]}…, the hub says {remote.sha256[:12]}…"
        try:
            self._check(self._part)
        except Exception as error:  # whatever the caller found wrong with it
            return str(error)
        beside = self._part.with_suffix(".note")
        beside.write_text(json.dumps({"size": remote.size, "sha256": arrived, "content": remote.content}))
        beside.replace(_note(self._path))
        if fcntl is None:
            file.close()  # Windows moves no open file
        self._part.replace(self._path)
        return ""

    def _blocks(self, start: int) -> Iterator[bytes]:
        """Yield the file from a byte on."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        request = urllib.request.Request(self._remote.url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise _FromTheStart  # this server sends whole files only
            left = self._remote.size - start
            while left > 0 and (block := answer.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                yield block


class _FromTheStart(Exception):
    """The server does not continue a file."""


@contextlib.contextmanager
def alone(path: Path) -> Iterator[BinaryIO]:
    """Open a file to append to, once no other process has it; a lock that a killed process cannot leave behind."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if fcntl is None:
                yield file
                return
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had it may have finished and moved it away meanwhile: then this lock is on no part any more.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return
