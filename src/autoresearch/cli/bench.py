"""Making the runs of a measurement before the person's eyes: a bar with the time left, and a clean end on Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoresearch.campaign.measure import Measuring, Order, close_order
from autoresearch.campaign.scheduler import RunTask
from autoresearch.campaign.session import Bench, open_bench
from autoresearch.campaign.tasks import ThreadTasks
from autoresearch.cli.stopping import stopping_on_signals
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.run import RunResult
from autoresearch.ledger.ledger import Campaign


@dataclass(frozen=True)
class Made:
    """What became of an order."""

    order: Order
    experiments: list[Experiment]
    """The campaign as it now stands."""
    made: int
    """Runs of the order that are made."""
    stopped: str | None
    """Why it is not finished; None when it is."""


def make(
    root: Path,
    campaign: Campaign,
    order: Callable[[Bench], Order],
    *,
    as_json: bool,
    close: Callable[[Bench, Made], None] | None = None,
) -> Made:
    """Make the runs of an order, those that an earlier command left unfinished first.

    Args:
        root: The lab.
        campaign: Whose commits run.
        order: Gives the order, under the lab's lock.
        as_json: Standard output is for the result alone; progress is shown on standard error, if that is a terminal.
        close: Writes down what came of it, under the lock still; by default that it is finished.
    """
    with open_bench(root, campaign.name, is_output_ours=as_json) as bench:
        view = _View(_console(as_json=as_json))
        measuring = Measuring(
            bench.ledger,
            bench.engine,
            campaign.name,
            budget_seconds=bench.config.budget.seconds,
            timeout_seconds=bench.config.budget.run_timeout_seconds,
            tolerance=bench.config.tolerance,
            tasks=ThreadTasks[RunTask](),
            observe=view.observe,
        )
        wanted = order(bench)
        with view.watching(measuring, bench, wanted), stopping_on_signals(measuring, view.finishing, view.stopping):
            stopped = measuring.run(wanted)
        made = Made(wanted, measuring.experiments, measuring.made, stopped if measuring.made < wanted.runs else None)
        if made.stopped is None:
            if close is None:
                close_order(bench.ledger, campaign.name, wanted)
            else:
                close(bench, made)
        return made


def _console(*, as_json: bool) -> Console | None:
    if as_json and not sys.stderr.isatty():
        return None
    return Console(stderr=as_json, highlight=False)


class _View:
    """Progress on a terminal, a line for each run elsewhere, nothing when there is no console.

    A reader who leaves, or a full disk behind a redirect, costs the view and not the measurement.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._measuring: Measuring | None = None
        self._bench: Bench | None = None
        self._began: dict[str, float] = {}
        self._seconds: list[float] = []
        self._note = ""

    @contextmanager
    def watching(self, measuring: Measuring, bench: Bench, order: Order) -> Iterator[None]:
        """Show what happens until it is over."""
        self._measuring, self._bench = measuring, bench
        recent = [run for e in measuring.experiments for run in e.runs if run.result and run.result.wall_seconds]
        self._seconds = [run.result.wall_seconds for run in recent[-20:] if run.result]
        if left := measuring.leftovers():
            self._say(f"picking up {len(left)} run{'s' * (len(left) > 1)} that an earlier command left unfinished")
        slots = ", ".join(slot.name for slot in bench.slots)
        self._say(
            f"campaign {bench.campaign.name}: {order.runs} runs of {bench.config.budget.seconds:g} s on {slots}; "
            "Ctrl-C finishes what is under way, and the same command goes on"
        )
        if self._console is None or not self._console.is_terminal or self._console.is_dumb_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True):
            yield

    def observe(self, task: RunTask, result: RunResult | None) -> None:
        """Note the beginning or the end of a run; called from the main thread."""
        request, name = task.request, task.slot.name
        if result is None:
            self._began[name] = time.time()
            return
        self._began.pop(name, None)
        self._seconds = [*self._seconds[-19:], result.wall_seconds]
        if self._measuring and self._console and not self._console.is_terminal:
            score = "" if result.metric is None else f" {result.metric:.6g}"
            what = f"#{request.experiment} {request.purpose}, seed {request.seed} on {name}: {result.outcome}{score}"
            self._say(f"{what}; about {self._left()} left")

    def finishing(self) -> None:
        """The first Ctrl-C; called from a signal handler."""
        under_way = len(self._measuring.running) if self._measuring else 0
        self._tell(f"finishing {under_way} run{'s' * (under_way != 1)}; Ctrl-C again stops at once")

    def stopping(self) -> None:
        """The second one."""
        self._tell("stopping now")

    def _tell(self, note: str) -> None:
        self._note = note
        if self._console and not self._console.is_terminal:
            self._say(note)

    def _say(self, line: str) -> None:
        if self._console:
            with contextlib.suppress(OSError):
                self._console.print(Text(line), soft_wrap=True)

    def _mean(self) -> float:
        budget = self._bench.config.budget.seconds if self._bench else 1.0
        return sum(self._seconds) / len(self._seconds) if self._seconds else budget

    def _partly(self) -> float:
        """How much of a run those under way have behind them, together."""
        return sum(min(0.95, (time.time() - began) / self._mean()) for began in list(self._began.values()))

    def _left(self) -> str:
        assert self._measuring and self._bench
        runs = self._measuring.total - self._measuring.made - self._partly()
        return str(timedelta(seconds=round(max(0.0, runs) * self._mean() / max(1, len(self._bench.slots)))))

    def _render(self) -> Table:
        assert self._measuring
        made, total = self._measuring.made, self._measuring.total
        tasks = list(self._measuring.running.values())
        now = ", ".join(f"#{task.request.experiment} on {task.slot.name}" for task in tasks[:6])
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, total), completed=min(total, made + self._partly()), width=30)
        table.add_row(bar, Text(f"{made} of {total} runs, about {self._left()} left"), Text(now, style="dim"))
        if self._note:
            table.add_row("", Text(self._note, style="bold yellow"))
        return table
