"""One session of somebody else's program that writes a proposal: its folder, its brief, its end.

What a command and a coding agent have in common: a fresh folder for each session, the brief as files, a supervisor
with a time-out, an environment without secrets, and the plan read back as bytes, whatever was left in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch.errors import AutoResearchError
from autoresearch.host.files import read_regular, read_tail, write_text
from autoresearch.host.process import Answer, Command, end, run_supervised
from autoresearch.host.secrets import blotted, secrets_of
from autoresearch.researchers.brief import render_json
from autoresearch.researchers.page import render_markdown
from autoresearch.researchers.protocol import Brief
from autoresearch.researchers.quoting import clean
from autoresearch.researchers.repair import Fault, fault_record, render_fault
from autoresearch.researchers.review import REVIEW_JSON, REVIEW_PROSE, ReviewRequest, render_request, request_record

PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
    "SYSTEMROOT", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP",
)  # fmt: skip
"""Variables that every command needs and that hold no secret."""

LOG = "researcher"
PROPOSAL = "proposal.json"
EARLIER_PROPOSAL = "proposal.earlier.json"
"""The plan of a proposal that came back; it stands unless there is another."""
PROCESS = "process"
"""The supervisor's own folder in a session's: it sets aside whatever it finds in it."""
AGENT_HOME, AGENT_TEMPORARY = "agent-home", "agent-tmp"
"""What an agent keeps for itself during a session; gone with its end."""
_PROSE_BYTES = 20_000


@dataclass(frozen=True)
class Place:
    """A session's folder with the brief in it."""

    folder: Path
    brief: Brief

    @property
    def answer(self) -> Path:
        """Where the program is told to write."""
        return self.folder / PROPOSAL

    @property
    def json(self) -> Path:
        """The brief for programs."""
        return self.folder / "brief.json"

    @property
    def markdown(self) -> Path:
        """The brief as a page to read."""
        return self.folder / "brief.md"

    @property
    def variables(self) -> dict[str, str]:
        """Where brief and plan are, for the program's environment."""
        return {
            "AUTORESEARCH_BRIEF": str(self.json),
            "AUTORESEARCH_BRIEF_MARKDOWN": str(self.markdown),
            "AUTORESEARCH_PROPOSAL": str(self.answer),
        }

    def process(self, attempt: int = 1) -> Path:
        """The supervisor's folder of one attempt."""
        return self.folder / (PROCESS if attempt == 1 else f"{PROCESS}-{attempt}")

    def log(self, attempt: int = 1) -> Path:
        """What the program printed."""
        return self.process(attempt) / f"{LOG}.log"

    def said(self, attempt: int, limit_bytes: int) -> str:
        """The end of what the program printed, fit to be quoted: no control characters, no secret of ours."""
        return quotable(clean(read_tail(self.log(attempt), limit_bytes).decode("utf-8", "replace")))


@dataclass(frozen=True)
class ReviewPlace(Place):
    """The same for a look back: there is nothing to edit."""

    @property
    def answer(self) -> Path:
        """Where the review is to be."""
        return self.folder / REVIEW_JSON

    @property
    def variables(self) -> dict[str, str]:
        """As for a proposal; that there is a variable for a review says that one is asked for."""
        given = {name: path for name, path in super().variables.items() if name != "AUTORESEARCH_PROPOSAL"}
        return {**given, "AUTORESEARCH_REVIEW": str(self.answer)}

    @property
    def prose(self) -> str:
        """What was written in plain words, in place of JSON."""
        for folder in (self.brief.worktree, self.folder):
            if found := read_regular(folder / REVIEW_PROSE):
                return quotable(found[:_PROSE_BYTES].decode("utf-8", "replace"))
        return ""


@dataclass(frozen=True)
class Ended:
    """How one attempt ended."""

    answer: Answer
    plan: bytes | None
    """What it left as its plan; None when there is none."""


@contextlib.contextmanager
def place_for(brief: Brief, sessions: Path | None) -> Iterator[Place]:
    """A fresh folder with the brief in it; a temporary one when sessions are not kept."""
    if sessions is not None:
        yield _told(Place(_fresh_folder(sessions, f"{brief.campaign}-{brief.number:05d}").absolute(), brief))
        return
    with tempfile.TemporaryDirectory(prefix="autoresearch-") as folder:
        yield _told(Place(Path(folder).absolute(), brief))


@contextlib.contextmanager
def review_place(request: ReviewRequest, sessions: Path | None) -> Iterator[ReviewPlace]:
    """A fresh folder with the request in it; a temporary one when sessions are not kept."""
    with contextlib.ExitStack() as stack:
        if sessions is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoresearch-")))
        else:
            folder = _fresh_folder(sessions, review_folder(request.brief.campaign, request.number))
        folder = folder.absolute()
        place = ReviewPlace(folder, request.brief)
        for name in (REVIEW_JSON, REVIEW_PROSE):  # the lab's own, if it has such a file, is no answer
            (request.brief.worktree / name).unlink(missing_ok=True)
        record = json.dumps(request_record(request), ensure_ascii=False, indent=1)
        write_text(place.json, quotable(record), durable=False)
        write_text(place.markdown, quotable(render_request(request)), durable=False)
        stack.callback(forget_private, folder)
        yield place


def review_folder(campaign: str, number: int | None = None) -> str:
    """The name of the folder of one review, or the beginning of all of them."""
    return f"{campaign}-review-{'' if number is None else f'{number:04d}'}"


class Kept:
    """A session that may be gone on with: its place and how often its program was started, until it is let go."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.place: Place | None = None
        self.attempts = 0
        """Starts of the program so far; each has a folder of its own."""

    def begin(self, brief: Brief, sessions: Path | None) -> Place:
        """Let go of the session before, and make a fresh place."""
        self.let_go()
        self.place = self._stack.enter_context(place_for(brief, sessions))
        return self.place

    def next_attempt(self) -> int:
        """The number of the start that follows."""
        self.attempts += 1
        return self.attempts

    def let_go(self) -> None:
        """Forget what the program kept for itself; harmless when nothing is kept."""
        if self.place is not None:
            forget_private(self.place.folder)
        self._stack.close()
        self.place, self.attempts = None, 0


def tell_fault(place: Place, fault: Fault) -> None:
    """Put a fault into the brief, for whoever reads it as JSON or as a page; the plan so far is set aside."""
    with contextlib.suppress(FileNotFoundError):
        (place.folder / PROPOSAL).replace(place.folder / EARLIER_PROPOSAL)
    record = json.loads(render_json(place.brief)) | {"repair": fault_record(fault)}
    write_text(place.json, quotable(json.dumps(record, ensure_ascii=False, indent=1)), durable=False)
    write_text(place.markdown, quotable(f"{render_fault(fault)}\n{render_markdown(place.brief)}"), durable=False)


def run_session(
    place: Place,
    argv: Sequence[str],
    *,
    stdin: Path,
    env: Mapping[str, str],
    timeout_seconds: float,
    stopping: threading.Event,
    attempt: int = 1,
    log_limit_bytes: int = 4 << 20,
) -> Ended:
    """Run one program in the worktree until nothing of it is left, and take its plan from wherever it put it."""
    stray = place.brief.worktree / place.answer.name
    is_theirs = stray.exists() or stray.is_symlink()  # a file of the lab's own is no plan
    command = Command(LOG, tuple(argv), place.brief.worktree, timeout_seconds, stdin=stdin)
    answer = run_supervised(
        place.process(attempt), [command], env=env, stopping=stopping, log_limit_bytes=log_limit_bytes
    )
    plan = read_regular(place.answer)
    if not is_theirs:
        plan = read_regular(stray) if plan is None else plan
        if stray.is_symlink() or not stray.is_dir():
            stray.unlink(missing_ok=True)
    return Ended(answer, plan and quotable(plan.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))


def quotable(text: str) -> str:
    """A text that others may read: without the secrets of this process's environment."""
    return blotted(text, secrets_of(os.environ))


def why_it_failed(answer: Answer, program: str, timeout_seconds: float) -> str:
    """Why a session that failed did so, as the beginning of a sentence."""
    ended = answer.commands[0] if answer.commands else None
    if ended is None or answer.error:
        return f"the session failed: {answer.error or 'nothing was started'}"
    if ended.error:
        return f"{program} could not be started: {ended.error}"
    if ended.timed_out:
        return f"no proposal within {timeout_seconds:g} s"
    status = f"signal {ended.signal}" if ended.signal else f"exit status {ended.exit_code}"
    return f"{program} ended with {status}"


def end_sessions(sessions: Path, campaign: str, number: int) -> None:
    """End what a killed campaign left at work on one proposal: it would go on thinking, paying and writing unheard."""
    _end_all(sessions.glob(f"{campaign}-{number:05d}*"))


def end_reviews(sessions: Path, campaign: str) -> None:
    """End what a killed campaign left at work on a review."""
    _end_all(sessions.glob(f"{review_folder(campaign)}*"))


def _end_all(sessions: Iterable[Path]) -> None:
    for session in sessions:
        for process in session.glob(f"{PROCESS}*"):
            end(process)
        forget_private(session)


def forget_private(session: Path) -> None:
    """Remove what an agent kept for itself: nobody reads it, and a provider's settings are no part of the record."""
    for name in (AGENT_HOME, AGENT_TEMPORARY):
        shutil.rmtree(session / name, ignore_errors=True)


def _told(place: Place) -> Place:
    write_text(place.json, quotable(render_json(place.brief)), durable=False)
    write_text(place.markdown, quotable(render_markdown(place.brief)), durable=False)
    return place


def _fresh_folder(parent: Path, name: str) -> Path:
    """A folder that no session has used: a repeated proposal is a new session with a log of its own."""
    for number in range(1, 10_000):
        folder = parent / (name if number == 1 else f"{name}.{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AutoResearchError(f"{parent / name} was used too often; remove old sessions")
