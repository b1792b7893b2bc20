"""Changes that people and agents hand in from checkouts of their own, and how they reach a session.

A submission is a commit and a file of its own beside the ledger, because the ledger has one writer, and that is
whichever session holds the lab. So handing in works at any time, and outlives whoever did it:

    submitted/<commit>.json   waits for a session
    the ledger                an experiment whose proposal names the commit: it has been taken, once and for all

The commit is the submission's identity in both places. The record in the ledger comes before the file goes, so that a
kill in between leaves a file which the ledger knows already, and nothing is ever run twice.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autoresearch.campaign.board import Board
from autoresearch.campaign.derive import Wish
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.errors import UserError
from autoresearch.host import files

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

FORMAT = 1
"""Version of the file; grows when a key changes its meaning."""


@dataclass(frozen=True)
class Submission:
    """One change that waits to become an experiment."""

    commit: str
    """Its snapshot, whose only parent is what it was written against; this is its identity, too."""
    researcher: str
    proposal: Proposal
    """The plan; it names the commit."""
    at: float
    """When it was handed in, in Unix seconds."""


class Submissions:
    """The folder where submissions wait.

    **Safety.** Any number of processes hand in and look; only the session that holds the lab forgets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hand_in(self, submission: Submission) -> Submission:
        """Put a submission where the next session finds it; once this returns, nothing short of a lost disk undoes it.

        Raises:
            UserError: The folder cannot be written.
        """
        proposal = replace(submission.proposal, submitted=submission.commit)
        record = {"format": FORMAT, **asdict(replace(submission, proposal=proposal))}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            files.write_json(self._place(submission.commit), record)
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written ({error.strerror}): make it writable") from error
        return replace(submission, proposal=proposal)

    def waiting(self) -> list[Submission]:
        """Everything that no session has taken yet, oldest first; what is no submission is left alone."""
        read = (_read(path) for path in self._folder.glob("*.json"))
        return sorted((each for each in read if each is not None), key=lambda each: (each.at, each.commit))

    def forget(self, commit: str) -> None:
        """Take a submission out; the ledger has it."""
        self._place(commit).unlink(missing_ok=True)

    def _place(self, commit: str) -> Path:
        return self._folder / f"{commit}.json"


def _read(path: Path) -> Submission | None:
    record = files.read_json(path)
    if record is None or record.get("format") != FORMAT or record.get("commit") != path.stem:
        return None
    if not _COMMIT.fullmatch(path.stem):
        return None
    try:
        plan = record["proposal"]
        proposal = Proposal(**{**plan, "kind": Kind(plan["kind"]), "touches": tuple(plan["touches"])})
        return Submission(record["commit"], str(record["researcher"]), proposal, float(record["at"]))
    except (KeyError, TypeError, ValueError):
        return None


class Errand:
    """What a session does that is opened for submissions alone."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    @property
    def errand(self) -> str:
        """What it is about, in words."""
        return "tries what was handed in"

    def next(self, board: Board, room: bool) -> Wish | None:
        """Nothing is computed beside them."""
        return None

    def left(self, board: Board) -> int:
        """Those that wait, and those without a verdict; other threads may ask."""
        open_ones = [e for e in list(board.live.values()) if e.proposal.submitted is not None and e.verdict is None]
        return len(self._submissions.waiting()) + len(open_ones)
