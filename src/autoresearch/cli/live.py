"""What `run` shows: a live view on a terminal, plain lines elsewhere.

Verdicts scroll by and stay; below them the live view is drawn anew four times a second and leaves nothing behind.
Whatever a program or an agent says is shown as text, never obeyed. A screen that breaks (a closed pipe, a full disk
behind a redirect) costs the view and not the campaign: the ledger is the record.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoresearch.campaign.scheduler import RunTask
from autoresearch.campaign.session import Session
from autoresearch.campaign.verdicts import Notice
from autoresearch.cli.terminal import Terminal
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.run import Purpose
from autoresearch.domain.verdict import like_with_like
from autoresearch.host.files import read_tail
from autoresearch.researchers.quoting import one_line
from autoresearch.runner.protocol import Slot

_STYLES = {"keep": "bold green", "discard": "dim", "crash": "red"}
_LOUD = {"alarm": "bold white on red", "disturbed": "bold yellow", "slow": "bold yellow", "unfit": "bold yellow"}
_STOPPING_NOW = "stopping now: ending what is under way; `autoresearch run` goes on from here"
_FRAME_ROWS = 8
"""Rows of the terminal that are not for slots: frame, best, progress, researchers, note, and some air."""


class Screen(Protocol):
    """Where a session's news goes."""

    def begin(self, session: Session) -> None:
        """The session is about to run."""
        ...

    def notice(self, notice: Notice) -> None:
        """Something happened; called from the scheduler's thread."""
        ...

    def stopping(self, runs: int, proposals: int) -> None:
        """The first Ctrl-C; called from a signal handler."""
        ...

    def stopping_now(self) -> None:
        """The second one."""
        ...

    def say(self, line: str) -> None:
        """One more line."""
        ...

    def end(self) -> None:
        """The session is over."""
        ...


def open_screen(*, plain: bool) -> Screen:
    """The live view if standard output is a terminal and nobody asked for less."""
    console = Terminal()
    is_live = console.is_terminal and not console.is_dumb_terminal and not plain
    return LiveScreen(console) if is_live else PlainScreen(console)


class PlainScreen:
    """One line for each thing worth knowing: for logs, pipes and terminals without tricks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._teller = _Teller()

    def begin(self, session: Session) -> None:
        """Say what is about to happen, and how to end it."""
        for line in _introduction(session):
            self.say(line)

    def notice(self, notice: Notice) -> None:
        """Print what matters to a reader; the ledger has the rest."""
        for line in self._teller.tell(notice):
            self.say(line)

    def stopping(self, runs: int, proposals: int) -> None:
        """Say what is being waited for."""
        self._say_now(_farewell(runs, proposals))

    def stopping_now(self) -> None:
        """Say that it takes a moment."""
        self._say_now(_STOPPING_NOW)

    def say(self, line: str) -> None:
        """One line with the time."""
        with contextlib.suppress(OSError):
            self._console.print(Text(_stamped(line)), soft_wrap=True)

    def end(self) -> None:
        """Say what was held back."""
        for line in self._teller.rest():
            self.say(line)

    def _say_now(self, line: str) -> None:
        # A signal handler may interrupt a `print`, and Python's files cannot be entered twice: so past them.
        with contextlib.suppress(OSError, ValueError):
            os.write(self._console.file.fileno(), f"{_stamped(line)}\n".encode())


class LiveScreen:
    """Verdicts, and below them the best so far, when it will end, and what each slot does."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._session: Session | None = None
        self._teller = _Teller()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._note = ""
        self._has_ended = False

    def begin(self, session: Session) -> None:
        """Print the introduction, then open the view below it."""
        self._session = session
        for line in _introduction(session):
            self.say(line)
        with contextlib.suppress(OSError):
            self._live.start()

    def notice(self, notice: Notice) -> None:
        """Verdicts scroll by above the view; what runs is seen in it anyway."""
        if notice.what not in ("run", "preflight"):
            for line in self._teller.tell(notice):
                self.say(line, {**_STYLES, **_LOUD}.get(notice.what, ""))

    def stopping(self, runs: int, proposals: int) -> None:
        """Say in the view what is being waited for."""
        self._note = _farewell(runs, proposals)

    def stopping_now(self) -> None:
        """Say that it takes a moment."""
        self._note = _STOPPING_NOW

    def say(self, line: str, style: str = "") -> None:
        """One more line; it stays on the screen."""
        with contextlib.suppress(OSError):
            self._console.print(Text(line, style=style), soft_wrap=self._has_ended)

    def end(self) -> None:
        """Close the view; the lines above it stay."""
        with contextlib.suppress(OSError):
            self._live.stop()
        self._has_ended = True  # from now on a path is not broken into lines, so that it can be copied
        for line in self._teller.rest():
            self.say(line)

    def _render(self) -> Panel | Text:
        if self._session is None:
            return Text("starting")
        return live_panel(self._session, self._console.width, self._console.height, self._note)


class _Teller:
    """Turns notices into lines. One failure of a researcher again and again is told once, then counted."""

    def __init__(self) -> None:
        self._reason = ""
        self._repeats = 0

    def tell(self, notice: Notice) -> Iterator[str]:
        """The lines that a notice is worth, often none."""
        experiment = notice.experiment
        if experiment is None:
            yield f"{notice.what}: {notice.text}"
        elif notice.what == "run":
            count = len(experiment.runs)
            again = f" (run {count})" if count > 1 else ""
            if count and experiment.runs[-1].request.purpose is Purpose.AUDIT:
                again = " (audit, on sealed data)"
            yield f"#{experiment.number} runs on {notice.text}{again}: {_idea(experiment, 70)}"
        elif notice.what == "proposed":
            yield from self.rest()
        elif notice.what == "preflight":
            yield f"#{experiment.number} tries a few steps on {notice.text}"
        elif notice.what == "given back":
            yield f"#{experiment.number} goes back to {experiment.researcher}: {one_line(notice.text, 240)}"
        elif notice.what == "unfit":
            yield one_line(notice.text, 400)
        elif notice.what in ("disturbed", "slow"):
            yield f"#{experiment.number} {notice.what}: {one_line(notice.text, 240)}"
        elif notice.what in _STYLES:
            if not experiment.runs and notice.what == "crash":
                if notice.text == self._reason:
                    self._repeats += 1
                    return
                yield from self.rest()
                self._reason = notice.text
            idea = "" if experiment.is_baseline else _idea(experiment, 70)
            verdict = f"#{experiment.number} {notice.what:<7} {one_line(notice.text, 300)}"
            yield f"{verdict} | {idea}" if idea else verdict

    def rest(self) -> Iterator[str]:
        """How often the last failure was not told."""
        if self._repeats:
            yield f"(the same {self._repeats} more time{'s' if self._repeats > 1 else ''})"
        self._reason, self._repeats = "", 0


def _introduction(session: Session) -> list[str]:
    plan = session.config
    metric = session.campaign.metric
    way = "lower" if metric.direction == "min" else "raise"
    slots = ", ".join(slot.name for slot in session.slots)
    team = ", ".join(f"{s.label}{f' x{s.count}' if s.count > 1 else ''}" for s in plan.researcher)
    sets, rotation = plan.metric.rotations, plan.metric.rotation
    fresh = (
        f"it starts from commit {session.campaign.base[:8]} and is scored on validation set {rotation + 1} of {sets}: "
        "its scores cannot be compared with those on other sets"
    )
    judge = session.campaign.policy
    if judge != plan.campaign.policy:
        judge += f" (as it began; the lab file's {plan.campaign.policy} is for new campaigns)"
    errand = session.scheduler.devotion
    aim, who = (errand.errand, "") if errand else (f"{way} {metric.name}", f"researchers {team}, ")
    return [
        f"campaign {session.campaign.name}: {aim}, {plan.budget.seconds:g} s a run, slots {slots}, {who}judge {judge}",
        f"kept changes go to the branch autoresearch/{session.campaign.name}; your own files stay as they are. "
        "Ctrl-C finishes what is under way.",
        *([fresh] if rotation else []),
    ]


def _farewell(runs: int, proposals: int) -> str:
    waits = " and ".join(
        f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((runs, "run"), (proposals, "proposal")) if count
    )
    return f"finishing {waits or 'now'}, beginning nothing new; Ctrl-C again stops at once (nothing is lost either way)"


def _stamped(line: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {line}"


def _idea(experiment: Experiment, limit: int) -> str:
    return one_line(experiment.proposal.hypothesis, limit)


# --- the live view -----------------------------------------------------------------------------------------------


def live_panel(session: Session, width: int, height: int, note: str = "") -> Panel:
    """The view, fit for a terminal of `width` columns and `height` rows: no line wraps except the note."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    running = dict(session.scheduler.running)
    # Slots at work first: of many, those are worth the rows.
    slots = sorted(session.slots, key=lambda slot: slot.name not in running)
    shown = max(1, height - _FRAME_ROWS)
    for slot in slots[:shown]:
        task = running.get(slot.name)
        bar, text = _slot_row(session, task, max(6, min(24, width // 5))) if task else ("", _idle(session, slot))
        table.add_row(Text(one_line(slot.name, 20)), bar, text)
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_row(Text(_best(session), style="green"))
    grid.add_row(Text(_progress(session)))
    grid.add_row(table)
    if len(slots) > shown:
        busy = sum(slot.name in running for slot in slots[shown:])
        grid.add_row(Text(f"and {len(slots) - shown} slots more, {busy} of them at work", style="dim"))
    grid.add_row(Text(_researchers_line(session), style="dim"))
    body = Table.grid(expand=True)
    body.add_column(ratio=1)
    body.add_row(grid)
    if note:
        body.add_row(Text(note, style="bold yellow"))
    # Not the whole width: the terminal echoes `^C` behind the last line, and a wrapped line would be left over.
    return Panel(
        body, width=max(20, width - 4), title=Text(session.campaign.name), title_align="left", border_style="blue"
    )


def _best(session: Session) -> str:
    board, metric = session.scheduler.board, session.campaign.metric
    best = board.best
    if best is None or best.score is None:
        return f"{metric.name}: the baseline is not measured yet"
    gain = ""
    if best.number:
        ours, baseline = like_with_like(best.sample, board.get(0).sample)
        gain = f", {metric.gain(ours.mean, baseline.mean):+.4g} over the baseline"
    noise = f", noise ±{board.noise:.2g}" if board.noise else ""
    return f"best {metric.name} {best.score:.6g} (#{best.number}{gain}{noise})"


def _progress(session: Session) -> str:
    """How far it is, and when it will end as far as past runs can tell."""
    limits, board = session.scheduler.limits, session.scheduler.board
    history = list(board.history)
    if (devotion := session.scheduler.devotion) is not None:
        wanted, seconds = devotion.left(board), _mean_seconds(history)
        left = f", about {_clock(wanted * seconds / max(1, len(session.slots)))}" if seconds and wanted else ""
        return f"{wanted} to go{left}, {_clock(time.time() - session.scheduler.began_at)} so far"
    done = sum(1 for e in history if e.runs and not e.is_baseline)
    of = f" of {limits.experiments}" if limits.experiments is not None else ""
    elapsed = time.time() - session.scheduler.began_at
    ends: list[float] = []
    if limits.hours is not None:
        ends.append(limits.hours * 3600 - elapsed)
    seconds = _mean_seconds(history)
    if limits.experiments is not None and seconds is not None:
        ends.append((limits.experiments - done) * seconds / max(1, len(session.slots)))
    left = f", about {_clock(max(0.0, min(ends)))} left" if ends else ""
    cost = f", ${board.cost_usd:.2f}" if board.cost_usd else ""
    return f"{done}{of} experiments done in {_clock(elapsed)}{left}{cost}"


def _mean_seconds(history: list[Experiment]) -> float | None:
    recent = [run.result.wall_seconds for e in history[-20:] for run in e.runs if run.result]
    return sum(recent) / len(recent) if recent else None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _idle(session: Session, slot: Slot) -> Text:
    if session.scheduler.disturbances.is_resting(slot.name, time.time()):
        return Text("rests: somebody else is at work there", style="yellow")
    preflight = session.scheduler.admission.under_way.get(slot.name)
    if preflight is not None:
        return Text(f"a few steps of #{preflight.request.experiment}", style="cyan")
    return Text("idle", style="dim")


def _slot_row(session: Session, task: RunTask, width: int) -> tuple[ProgressBar, Text]:
    board = session.scheduler.board
    experiment = board.get(task.request.experiment)
    expected = max(0.1, _mean_seconds(list(board.history)) or task.request.budget_seconds)
    folder = session.home.runs / task.request.key
    try:
        elapsed = time.time() - (folder / "request.json").stat().st_mtime
    except OSError:
        elapsed = 0.0
    words = read_tail(folder / "run.log", 400).decode(errors="replace").strip().splitlines()
    said = one_line(words[-1], 80) if words else ""
    idea = f"#{experiment.number} {_idea(experiment, 40 if said else 100)}"
    return (
        ProgressBar(total=expected, completed=min(max(elapsed, 0.0), expected), width=width),
        Text.assemble(idea, (f"  {said}", "dim")),
    )


def _researchers_line(session: Session) -> str:
    writing = [f"{name} writes #{task.number}" for name, task in dict(session.scheduler.proposing).items()]
    queued = len(session.scheduler.board.fresh)
    if (looking := session.scheduler.reviews.under_way) is not None:
        writing.append(f"{looking.reviewer} looks back")
    return ", ".join([*writing, f"{queued} proposal{'' if queued == 1 else 's'} waiting for a slot"])
