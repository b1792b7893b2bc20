"""What `run` shows: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import time
from collections import deque
from datetime import timedelta
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoresearch.campaign.review import Notice
from autoresearch.campaign.scheduler import RunTask
from autoresearch.campaign.session import Session
from autoresearch.domain.experiment import Experiment
from autoresearch.host.files import read_tail

_STYLES = {"keep": "bold green", "discard": "dim", "crash": "red"}
_LAST_LINES = 8
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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
    console = Console(highlight=False)
    return PlainScreen(console) if plain or not console.is_terminal else LiveScreen(console)


class PlainScreen:
    """One line for each thing worth knowing: for logs, pipes and terminals without tricks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._session: Session | None = None

    def begin(self, session: Session) -> None:
        """Say what is about to happen, and how to end it."""
        self._session = session
        for line in _introduction(session):
            self.say(line)

    def notice(self, notice: Notice) -> None:
        """Print what matters to a reader; the ledger has the rest."""
        line = _line(notice)
        if line is not None:
            self.say(line)

    def stopping(self, runs: int, proposals: int) -> None:
        """Say what is being waited for."""
        self.say(_farewell(runs, proposals))

    def stopping_now(self) -> None:
        """Say that it takes a moment."""
        self.say("stopping now: ending what is under way; `autoresearch run` goes on from here")

    def say(self, line: str) -> None:
        """One line with the time."""
        self._console.print(Text(f"{time.strftime('%H:%M:%S')} {line}"), soft_wrap=True)

    def end(self) -> None:
        """Nothing to clear."""


class LiveScreen:
    """Progress of each slot, the best so far, the last verdicts and when it will end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._session: Session | None = None
        self._lines: deque[Text] = deque(maxlen=_LAST_LINES)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._note = ""

    def begin(self, session: Session) -> None:
        """Print the introduction above the view, then open it."""
        self._session = session
        for line in _introduction(session):
            self._console.print(Text(line))
        self._live.start()

    def notice(self, notice: Notice) -> None:
        """Verdicts scroll through the view; the rest is seen in it anyway."""
        line = _line(notice)
        if line is not None and notice.what not in ("run", "proposed"):
            self._lines.append(Text(line, style=_STYLES.get(notice.what, "")))

    def stopping(self, runs: int, proposals: int) -> None:
        """Say in the view what is being waited for."""
        self._note = _farewell(runs, proposals)

    def stopping_now(self) -> None:
        """Say that it takes a moment."""
        self._note = "stopping now: ending what is under way; `autoresearch run` goes on from here"

    def say(self, line: str) -> None:
        """One line below the view."""
        self._console.print(Text(line), soft_wrap=True)

    def end(self) -> None:
        """Close the view and leave its verdicts on the screen."""
        self._live.stop()
        for line in self._lines:
            self._console.print(line)

    def _render(self) -> Panel | Text:
        session = self._session
        if session is None:
            return Text("starting")
        parts: list[object] = [_slots_table(session), Text(_researchers_line(session), style="dim")]
        parts += [Text(""), *list(self._lines)]
        if self._note:
            parts += [Text(""), Text(self._note, style="bold yellow")]
        return Panel(Group(*parts), title=_title(session), title_align="left", border_style="blue")  # type: ignore[arg-type]


def _introduction(session: Session) -> list[str]:
    plan = session.config
    metric = session.campaign.metric
    way = "lower" if metric.direction == "min" else "raise"
    slots = ", ".join(slot.name for slot in session.slots)
    team = ", ".join(f"{s.label}{f' x{s.count}' if s.count > 1 else ''}" for s in plan.researcher)
    return [
        f"campaign {session.campaign.name}: {way} {metric.name}, {plan.budget.seconds:g} s a run, "
        f"slots {slots}, researchers {team}, judge {session.campaign.policy}",
        f"kept changes go to the branch autoresearch/{session.campaign.name}; your own files stay as they are. "
        "Ctrl-C finishes what is under way.",
    ]


def _line(notice: Notice) -> str | None:
    experiment = notice.experiment
    if experiment is None:
        return f"{notice.what}: {notice.text}"
    name = f"#{experiment.number}"
    idea = _clip(experiment.proposal.hypothesis, 70)
    if notice.what == "run":
        count = len(experiment.runs)
        again = f" (run {count})" if count > 1 else ""
        return f"{name} runs on {notice.text}{again}: {idea}"
    if notice.what in _STYLES:
        return f"{name} {notice.what:<7} {_clip(notice.text, 110)}{f' | {idea}' if idea != 'baseline' else ''}"
    return None


def _clip(text: str, length: int) -> str:
    # Candidates and agents wrote this: no control character of theirs reaches the terminal.
    line = _CONTROL.sub(" ", text)
    return line if len(line) <= length else line[: length - 1] + "…"


def _farewell(runs: int, proposals: int) -> str:
    waits = " and ".join(
        f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((runs, "run"), (proposals, "proposal")) if count
    )
    return f"finishing {waits or 'now'}, beginning nothing new; Ctrl-C again stops at once (nothing is lost either way)"


def _title(session: Session) -> str:
    board = session.scheduler.board
    metric = session.campaign.metric.name
    best = board.best
    score = "baseline not measured yet"
    if best is not None and best.score is not None:
        base = board.get(0).score
        gain = f", {session.campaign.metric.gain(best.score, base):+.4g}" if base is not None and best.number else ""
        noise = f", noise ±{board.noise:.2g}" if board.noise else ""
        score = f"best {metric} {best.score:.6g} (#{best.number}{gain}{noise})"
    return f" {session.campaign.name} · {board.tried} experiments · {score} · {_remaining(session)} "


def _remaining(session: Session) -> str:
    """When it will end, as far as past runs can tell."""
    limits, board = session.scheduler.limits, session.scheduler.board
    elapsed = time.time() - session.scheduler.began_at
    ends: list[float] = []
    if limits.hours is not None:
        ends.append(limits.hours * 3600 - elapsed)
    seconds = _mean_seconds(board.history)
    if limits.experiments is not None and seconds is not None:
        ends.append((limits.experiments - board.tried + 1) * seconds / max(1, len(session.slots)))
    if not ends:
        return f"running for {_clock(elapsed)}"
    return f"{_clock(elapsed)} gone, about {_clock(max(0.0, min(ends)))} left"


def _mean_seconds(history: list[Experiment]) -> float | None:
    recent = [run.result.wall_seconds for e in history[-20:] for run in e.runs if run.result]
    return sum(recent) / len(recent) if recent else None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _slots_table(session: Session) -> Table:
    table = Table.grid(padding=(0, 2))
    running = dict(session.scheduler.running)
    for slot in session.slots:
        task = running.get(slot.name)
        if task is None:
            table.add_row(Text(slot.name, style="bold"), Text("idle", style="dim"), "", "")
        else:
            table.add_row(*_slot_row(session, task))
    return table


def _slot_row(session: Session, task: RunTask) -> tuple[Text, Text, ProgressBar, Text]:
    experiment = session.scheduler.board.get(task.request.experiment)
    expected = _mean_seconds(session.scheduler.board.history) or task.request.budget_seconds
    folder = session.home.runs / task.request.key
    try:
        elapsed = time.time() - folder.stat().st_ctime
    except OSError:
        elapsed = 0.0
    said = read_tail(folder / "run.log", 400).decode(errors="replace").strip().splitlines()
    return (
        Text(task.slot.name, style="bold"),
        Text(f"#{experiment.number} {_clip(experiment.proposal.hypothesis, 40)}"),
        ProgressBar(total=max(expected, 0.1), completed=min(elapsed, expected), width=24),
        Text(_clip(said[-1] if said else "starting", 60), style="dim"),
    )


def _researchers_line(session: Session) -> str:
    writing = [f"{name} writes #{task.number}" for name, task in dict(session.scheduler.proposing).items()]
    queued = len(session.scheduler.board.fresh)
    return ", ".join([*writing, f"{queued} proposal{'s' if queued != 1 else ''} waiting for a slot"])
