"""From somebody's checkout to a verdict: what `autoresearch try` and the server for agents share."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from autoresearch.campaign.session import Home, find_root
from autoresearch.campaign.submission import Submission
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.proposal import Proposal
from autoresearch.errors import UserError
from autoresearch.host.clock import SystemClock
from autoresearch.host.files import read_tail
from autoresearch.lab.config import check_lab, load_config
from autoresearch.lab.git import Git
from autoresearch.lab.merge import merge_trees
from autoresearch.lab.snapshot import Snapshot, main_checkout, take_snapshot
from autoresearch.ledger.ledger import Campaign, Ledger, NothingRecordedError
from autoresearch.researchers.quoting import one_line

YOU = "you"
"""Who stands in the ledger as the researcher when nobody says otherwise."""

ID_CHARS = 8
"""How much of a submission's commit people and agents are shown; the command line takes four."""

MOST_OPEN = 50
"""Submissions without a verdict: an agent that hands in and never looks must not fill a night."""

_LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class HandedIn:
    """A change that is on its way."""

    home: Home
    submission: Submission
    snapshot: Snapshot
    editable: tuple[str, ...]

    @property
    def id(self) -> str:
        """What to ask for it by."""
        return self.submission.commit[:ID_CHARS]


@dataclass(frozen=True)
class Standing:
    """How far a submission has come."""

    submission: Submission | None
    """As long as no session has taken it."""
    experiment: Experiment | None

    @property
    def commit(self) -> str:
        """The submission's identity."""
        if self.submission is not None:
            return self.submission.commit
        assert self.experiment is not None and self.experiment.proposal.submitted is not None
        return self.experiment.proposal.submitted

    @property
    def is_decided(self) -> bool:
        """Whether the verdict stands."""
        return self.experiment is not None and self.experiment.verdict is not None


def lab_and_checkout(lab: Path, worktree: Path | None) -> tuple[Path, Path]:
    """The lab's folder and the checkout whose edits are meant.

    Called from a linked worktree of a lab, that lab is meant and not a second one in the worktree: agents like to work
    in worktrees of their own.

    Raises:
        LabError: There is no lab.
    """
    root = find_root(lab.resolve())
    home = main_lab(root)
    return home, (worktree.resolve() if worktree is not None else root)


def main_lab(root: Path) -> Path:
    """The lab that a linked worktree belongs to, unless campaigns were run in the worktree itself.

    A ledger in a worktree goes when the worktree goes, and agents make and delete theirs as they like.
    """
    if Home(root).ledger.is_file():
        return root
    main = main_checkout(root)
    return main if main is not None and (main / "autoresearch.toml").is_file() else root


def hand_in(lab: Path, worktree: Path | None, since: str, proposal: Proposal, researcher: str) -> HandedIn:
    """Take a checkout's edits and put them where the next session, or the one that runs, finds them.

    Raises:
        UserError: The edits are refused, or the lab is not fit to run; nothing was handed in.
    """
    root, checkout = lab_and_checkout(lab, worktree)
    config = load_config(root)
    check_lab(root, config, proposes=False)
    home = Home(root)
    if proposal.expected_effect is not None and not math.isfinite(proposal.expected_effect):
        raise UserError(f"the expected gain is {proposal.expected_effect}: use a finite number, or leave it out")
    if len(open_submissions(home)) >= MOST_OPEN:
        raise UserError(
            f"{MOST_OPEN} changes that were handed in have no verdict yet: wait for some of them, as "
            "`autoresearch status` shows"
        )
    at = SystemClock().now()
    snapshot = take_snapshot(
        root,
        checkout,
        since,
        editable=config.lab.editable,
        protected=config.protected,
        message=proposal.hypothesis,
        at=int(at),
    )
    _check_is_new(home, snapshot)
    submission = home.submissions.hand_in(Submission(snapshot.commit, researcher, proposal, at))
    return HandedIn(home, submission, snapshot, config.lab.editable)


def standing_of(home: Home, commit: str) -> Standing:
    """How far the submission of a commit has come."""
    with reading(home) as ledger:
        experiment = None if ledger is None else ledger.submitted(commit)
    waiting = [each for each in home.submissions.waiting() if each.commit == commit]
    return Standing(waiting[0] if waiting and experiment is None else None, experiment)


def open_submissions(home: Home) -> list[Standing]:
    """Everything handed in that has no verdict: what waits, then what the newest campaign has taken."""
    with reading(home) as ledger:
        if ledger is None:
            return [Standing(each, None) for each in home.submissions.waiting()]
        waiting = [Standing(each, None) for each in home.submissions.waiting() if ledger.submitted(each.commit) is None]
        campaign = newest_campaign(ledger)
        taken = [] if campaign is None else ledger.open_submissions(campaign.name)
        return [*waiting, *(Standing(None, each) for each in taken)]


@contextmanager
def reading(home: Home) -> Iterator[Ledger | None]:
    """The lab's ledger, None where nothing has been recorded yet."""
    try:
        ledger = Ledger.open_readonly(home.ledger, SystemClock())
    except NothingRecordedError:
        yield None
        return
    try:
        yield ledger
    finally:
        ledger.close()


def newest_campaign(ledger: Ledger | None) -> Campaign | None:
    """The campaign that a submission will be part of; None when the first one has yet to begin."""
    campaigns = [] if ledger is None else ledger.campaigns()
    return next((campaign for campaign in reversed(campaigns) if campaign.origin == "run"), None)


# --- somebody has to carry it out -------------------------------------------------------------------------------


def start_attendant(home: Home) -> None:
    """Have a process in the background carry out whatever waits; where one is there already, it ends at once."""
    log = home.folder / "submitted" / "session.log"
    mode = "w" if log.exists() and log.stat().st_size > _LOG_BYTES else "a"
    command = [sys.executable, "-m", "autoresearch", "try", "--waiting", "--plain", "--lab", str(home.root)]
    try:
        with log.open(mode) as output:
            subprocess.Popen(
                command,
                cwd=home.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # it outlives the terminal, and the agent, that asked for it
            )
    except OSError as error:
        raise UserError(
            f"the change is handed in, but nothing could be started to carry it out ({error.strerror or error}): "
            "run `autoresearch try --waiting`"
        ) from error


def last_word(home: Home) -> str:
    """The last thing that the background process said; empty when there was none."""
    lines = read_tail(home.folder / "submitted" / "session.log", 2000).decode("utf-8", "replace").splitlines()
    return one_line(lines[-1]) if lines else ""


def is_held(home: Home) -> bool:
    """Whether a process runs a campaign or a measurement on the lab just now."""
    return home.running_process() is not None


@contextmanager
def attending(home: Home) -> Iterator[bool]:
    """Be the one process that attends to submissions; False when there is one."""
    lock = filelock.FileLock(home.folder / "submitted" / "attendant.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    except OSError as error:
        raise UserError(f"{home.folder} cannot be locked ({error.strerror}): make it writable") from error
    try:
        yield True
    finally:
        lock.release()


def patiently(is_over: Callable[[], bool], seconds: float = 0.5) -> Iterator[None]:
    """Come back every so often until something is over."""
    while not is_over():
        yield
        time.sleep(seconds)


def _check_is_new(home: Home, snapshot: Snapshot) -> None:
    """The best program itself is no change, whatever it was compared with.

    Raises:
        UserError: The files are as the newest campaign's branch has them.
    """
    with reading(home) as ledger:
        campaign = newest_campaign(ledger)
    if campaign is None:
        return
    git = Git(home.root)
    branch = f"autoresearch/{campaign.name}"
    best = git.tree(git.resolve(branch))
    edits, conflicts = merge_trees(git, git.tree(snapshot.parent), best, git.tree(snapshot.commit))
    if not edits and not conflicts:
        raise UserError(f"no change: {branch}, the best program so far, has all of it already; edit the files first")
