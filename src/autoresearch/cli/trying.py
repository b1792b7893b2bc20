"""`try`, `note` and `brief`: research by hand, or from inside an agent, with the same guard, judge and ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from autoresearch.campaign.choice import Choice
from autoresearch.campaign.journal import write_entry
from autoresearch.campaign.session import Home
from autoresearch.campaign.submission import Errand
from autoresearch.cli.briefing import current_brief
from autoresearch.cli.errand import carry_out
from autoresearch.cli.inspect import explained
from autoresearch.cli.reading import AsJson, Lab, Name, opened, print_json
from autoresearch.cli.submitting import (
    YOU,
    HandedIn,
    Standing,
    attending,
    hand_in,
    is_held,
    lab_and_checkout,
    open_submissions,
    patiently,
    standing_of,
    start_attendant,
)
from autoresearch.cli.terminal import Terminal
from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LabIsBusyError, UserError
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Ledger
from autoresearch.researchers.brief import render_json
from autoresearch.researchers.page import render_markdown
from autoresearch.researchers.quoting import one_line
from autoresearch.researchers.session import quotable


class WrittenKind(StrEnum):
    """What somebody may call a change of his own: every kind but those that the harness computes."""

    TUNE = "tune"
    ARCHITECTURE = "architecture"
    OPTIMISER = "optimiser"
    DATA = "data"
    SIMPLIFY = "simplify"
    OTHER = "other"


By = Annotated[str, typer.Option("--by", help="Who stands in the ledger as the researcher.")]
_HYPOTHESIS_CHARS, _NAME_CHARS = 500, 60


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command("try")(try_change)
    app.command()(note)
    app.command()(brief)


def try_change(
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="The hypothesis: what is changed and why it should help.")
    ] = None,
    lab: Lab = Path(),
    worktree: Annotated[
        Path | None, typer.Option(help="Take the edits of this checkout of the lab, not of the lab's own folder.")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="COMMIT", help="Take what differs from this commit, so committed work too.")
    ] = "HEAD",
    kind: Annotated[WrittenKind, typer.Option(help="What sort of change it is.")] = WrittenKind.OTHER,
    touches: Annotated[
        list[str] | None, typer.Option(help="A constant, function or file that it means to touch.")
    ] = None,
    expect: Annotated[
        float | None, typer.Option(help="The gain expected, in the metric's unit; positive is better.")
    ] = None,
    by: By = YOU,
    detach: Annotated[bool, typer.Option("--detach", help="Hand it in and do not wait.")] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Hand in nothing; carry out what was handed in and has no verdict.")
    ] = False,
    as_json: AsJson = False,
    plain: Annotated[bool, typer.Option(help="Plain lines even on a terminal.")] = False,
) -> None:
    """Run the edits in your checkout as one experiment: guarded, measured, judged, recorded like any other.

    Your files are never touched, whatever the verdict; a kept change goes to the campaign's branch. Where a campaign
    runs, it takes the change in; where none does, a session of its own is opened. Killed, nothing is lost and nothing
    runs twice.

    Example: autoresearch try -m "a smaller step near the end"
    """
    if waiting:
        _carry_out_waiting(lab, plain=plain)
        return
    hypothesis = one_line(message or "", _HYPOTHESIS_CHARS)
    if not hypothesis:
        raise UserError('say what you are trying and why, in one sentence: autoresearch try -m "…"')
    proposal = Proposal(hypothesis, Kind(kind.value), tuple(touches or ()), expect)
    handed_in = hand_in(lab, worktree, since, proposal, one_line(by, _NAME_CHARS) or YOU)
    console = Terminal()
    if not as_json:
        for line in _received(handed_in):
            console.print(Text(line), soft_wrap=True)
    if detach:
        start_attendant(handed_in.home)
        if as_json:
            print_json(record(handed_in, standing_of(handed_in.home, handed_in.submission.commit)))
        else:
            console.print(
                Text(f"it runs in the background; see how it stands: autoresearch show {handed_in.id}"), soft_wrap=True
            )
        return
    standing = _await(handed_in, plain=plain, quiet=as_json)
    if as_json:
        print_json(record(handed_in, standing))
        return
    for line in _verdict(handed_in, standing):
        console.print(Text(line), soft_wrap=True)


def note(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What was learnt, in a sentence or two.")],
    lab: Lab = Path(),
    campaign: Name = None,
    by: Annotated[str, typer.Option("--by", help="Who wrote it.")] = YOU,
) -> None:
    """Write something down for every researcher that comes later: the newest notes stand in each brief.

    Example: autoresearch note "anything above LR 0.1 diverges on this machine"
    """
    with opened(lab, campaign) as (home, _, chosen):
        pass
    add_note(home, chosen.name, by, text)
    Terminal().print(Text("noted; the next briefs carry it (autoresearch brief)"))


def brief(lab: Lab = Path(), campaign: Name = None, as_json: AsJson = False) -> None:
    """Print the brief that a researcher would be handed now."""
    with opened(lab, campaign) as (home, ledger, chosen):
        found = current_brief(home, ledger, chosen)
    print(quotable(render_json(found) if as_json else render_markdown(found)), end="\n" if as_json else "")


def add_note(home: Home, campaign: str, by: str, text: str) -> None:
    """Put an entry into a campaign's journal.

    One short transaction that changes no row, so it does no harm beside the session that writes the ledger.
    """
    ledger = Ledger.open(home.ledger, SystemClock())
    try:
        write_entry(ledger, campaign, by, text)
    finally:
        ledger.close()


# --- carrying it out --------------------------------------------------------------------------------------------


def _carry_out_waiting(lab: Path, *, plain: bool) -> None:
    """Attend to everything without a verdict, until there is none; one process of a lab is enough for that."""
    root, _ = lab_and_checkout(lab, None)
    home = Home(root)
    console = Terminal()

    def is_over() -> bool:
        return not open_submissions(home)

    if is_over():
        console.print(Text("nothing that was handed in waits"))
        return
    while not is_over():
        with attending(home) as is_first:
            if not is_first:
                console.print(Text("another process attends to it already"))
                return
            for _ in patiently(is_over, 1.0):
                if not is_held(home):
                    with contextlib.suppress(LabIsBusyError):
                        _own_session(home, plain=plain, quiet=False)


def _await(handed_in: HandedIn, *, plain: bool, quiet: bool) -> Standing:
    """Wait for the verdict: of whichever session holds the lab, or of one of our own."""
    home, commit = handed_in.home, handed_in.submission.commit
    is_live = Terminal().is_terminal and not plain and not quiet
    shown = _Waiting(home, commit, is_live=is_live, is_quiet=quiet)
    try:
        for _ in patiently(lambda: standing_of(home, commit).is_decided):
            if not is_held(home):
                shown.stop()
                with contextlib.suppress(LabIsBusyError):
                    _own_session(home, plain=plain, quiet=quiet)
            else:
                shown.update()
    except KeyboardInterrupt:
        if not standing_of(home, commit).is_decided:
            start_attendant(home)
            raise UserError(
                "not waiting any more; it goes on without you: see how it stands with "
                f"`autoresearch show {handed_in.id}`"
            ) from None
    finally:
        shown.stop()
    return standing_of(home, commit)


def _own_session(home: Home, *, plain: bool, quiet: bool) -> None:
    """Carry out what waits in a session of our own; what is handed in at its very end is for the next one.

    Raises:
        LabIsBusyError: Another process holds the lab.
        UserError: It ended, and something that was there from the beginning is still undecided.
    """
    before = {each.commit for each in open_submissions(home)}
    reason = carry_out(home.root, Choice(allow_dirty=True), Errand(home.submissions), plain=plain, quiet=quiet)
    if before & {each.commit for each in open_submissions(home)}:
        raise UserError(
            f"not decided yet: {reason.removesuffix('; the same command goes on')}; nothing is lost, go on with "
            "`autoresearch try --waiting`"
        )


class _Waiting:
    """What is shown while somebody else's session has the change: a bar on a terminal, else a line for each step."""

    def __init__(self, home: Home, commit: str, *, is_live: bool, is_quiet: bool) -> None:
        self._home, self._commit, self._is_live, self._is_quiet = home, commit, is_live, is_quiet
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._said = ""

    def stop(self) -> None:
        """Take the bar away, for a view of our own or for good."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def update(self) -> None:
        """Say what it waits for."""
        text, run = self._state()
        if not self._is_live:
            if not self._is_quiet and text != self._said:
                Terminal().print(Text(text), soft_wrap=True)
            self._said = text
            return
        if self._progress is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Terminal(), transient=True)
            self._task = self._progress.add_task(text, total=None)
            self._progress.start()
        seconds, elapsed = (None, 0.0) if run is None else _progress_of(self._home, run)
        self._progress.update(self._task, description=text, total=seconds, completed=min(elapsed, seconds or 0.0))

    def _state(self) -> tuple[str, Run | None]:
        experiment = standing_of(self._home, self._commit).experiment
        holder = self._home.running_process()
        if experiment is None:
            return f"process {holder} holds the lab and will take it in" if holder else "waits for a session", None
        run = next((run for run in experiment.runs if run.result is None), None)
        if run is None:
            return f"#{experiment.number} waits for a slot", None
        return f"#{experiment.number} runs on {run.slot} (run {len(experiment.runs)})", run


def _progress_of(home: Home, run: Run) -> tuple[float, float]:
    """Budget and time so far of a run, in seconds."""
    try:
        began = (home.runs / run.request.key / "request.json").stat().st_mtime
    except OSError:
        return run.request.budget_seconds, 0.0
    return run.request.budget_seconds, max(0.0, time.time() - began)


# --- telling it -------------------------------------------------------------------------------------------------


def record(handed_in: HandedIn, standing: Standing) -> dict[str, object]:
    """A submission for programs."""
    experiment = standing.experiment
    return {
        "id": handed_in.id,
        "commit": handed_in.submission.commit,
        "files": list(handed_in.snapshot.paths),
        "left_out": list(handed_in.snapshot.left_out),
        "campaign": experiment.campaign if experiment else None,
        "experiment": experiment.number if experiment else None,
        "verdict": experiment.verdict if experiment else None,
        "reason": experiment.reason if experiment else "",
        "score": experiment.score if experiment else None,
        "gain": experiment.evidence.get("gain") if experiment else None,
    }


def _received(handed_in: HandedIn) -> Iterator[str]:
    snapshot = handed_in.snapshot
    yield f"handed in as {handed_in.id}: what differs from {snapshot.parent[:8]} in {', '.join(snapshot.paths)}"
    if snapshot.left_out:
        more = f" and {len(snapshot.left_out) - 5} more" if len(snapshot.left_out) > 5 else ""
        names = one_line(", ".join(snapshot.left_out[:5]))
        yield f"left out, since they are untracked and not editable: {names}{more}"
    yield f"your files stay as they are, whatever the verdict; git keeps this state of them as commit {handed_in.id}"


def _verdict(handed_in: HandedIn, standing: Standing) -> Iterator[str]:
    experiment = standing.experiment
    assert experiment is not None
    yield f"#{experiment.number} {experiment.verdict}: {experiment.reason}"
    with opened(handed_in.home.root, experiment.campaign) as (_, ledger, chosen):
        yield from explained(experiment, ledger.experiments(chosen.name), chosen)
    yield from what_next(handed_in.id, handed_in.editable, experiment)


def what_next(submission: str, editable: tuple[str, ...], experiment: Experiment) -> Iterator[str]:
    """Where the change is now, and how to go on from the best program without losing anything."""
    branch, files = f"autoresearch/{experiment.campaign}", " ".join(editable)
    if experiment.verdict is Verdict.KEEP:
        yield f"it is on the branch {branch} now; your own files are as you left them"
    else:
        yield f"the branch {branch} is as it was, and so are your own files"
    yield f"to go on from the best program: git restore --source {branch} -- {files}"
    yield f"to have this change again at any time: git restore --source {submission} -- {files}"
