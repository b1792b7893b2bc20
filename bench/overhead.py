"""What the harness itself costs: seconds per experiment on a lab that does nothing, and memory over a thousand of them.

    python bench/overhead.py [--repeats 3] [--experiments 1000] [--json FILE]

A real campaign with everything that a night has (git repository, worktrees, supervised processes, the ledger on disk
with its fsyncs, results.tsv), one slot, and two things made trivial: the run prints its metric at once, and the
researcher, in this process, writes one constant. So what is left is the harness. Each repeat is a new process with a
new lab. Every tenth experiment is kept.

How to read the table: `wall` is the median time from one verdict to the next; `bare` is the median time of the same
command without any harness, measured in between, on the same machine under the same load; `overhead` is their
difference, and the target is 0.25 s. `RSS` is the memory of the loop's process after so many experiments, `slope` a
straight line through it from experiment 250 on: flat is the target, but for the history that researchers are shown and
that stays in memory, 5 to 6 KB for each experiment. The second table says where the time goes, per experiment; what
stands under `execute` happens in a thread of its own, beside the rest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import psutil

from autoresearch.campaign.board import Plan
from autoresearch.campaign.scheduler import Scheduler, Task
from autoresearch.campaign.tasks import ThreadTasks
from autoresearch.campaign.verdicts import Notice
from autoresearch.domain.budget import Limits
from autoresearch.domain.metric import Metric, Source
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.host.clock import SystemClock
from autoresearch.judge.policy import Greedy
from autoresearch.lab.workspace import GitWorkspace
from autoresearch.ledger import results_tsv
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.researchers.protocol import Brief
from autoresearch.runner.local import LocalEngine, Recipe
from autoresearch.runner.protocol import Slot

METRIC = Metric("loss", source=Source.METRIC)
MARKS = (100, 250, 500, 1000)
"""Experiments after which memory is read."""
TARGET_SECONDS = 0.25
BARE_EVERY = 10
"""The bare command is timed after so many experiments."""


class NullResearcher:
    """Sets one constant; every tenth proposal is a better one."""

    name = "null"

    def propose(self, brief: Brief) -> Proposal:
        """Write the program anew."""
        loss = 1 - 1e-6 * brief.number if brief.number % 10 == 0 else 2 + brief.number
        (brief.worktree / "run.py").write_text(program(loss))
        return Proposal(f"loss {loss}", Kind.TUNE, ("LOSS",))

    def stop(self) -> None:
        """It is over at once anyway."""


def program(loss: float) -> str:
    """The program under study."""
    return f'LOSS = {loss!r}\nprint(f"METRIC loss={{LOSS}}")\n'


class Stopwatch:
    """Adds up the time inside named calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def watch(self, part: object, *names: str) -> None:
        """Time these methods of an object."""
        for name in names:
            setattr(part, name, self._timed(f"{type(part).__name__}.{name}", getattr(part, name)))

    def _timed(self, title: str, call: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object, **kwargs: object) -> object:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[title] += time.perf_counter() - began
                self.calls[title] += 1

        return timed


@dataclass
class Measured:
    """One campaign."""

    experiments: int
    wall_seconds: float = 0.0
    """Median from verdict to verdict."""
    wall_p90_seconds: float = 0.0
    bare_seconds: float = 0.0
    load: float = 0.0
    """Mean load of the machine meanwhile: whatever is above 2 or so was others' work."""
    rss_mb: dict[int, float] = field(default_factory=dict)
    slope_mb: float | None = None
    """Growth per 1,000 experiments, from experiment 250 on."""
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Method → seconds and calls, per experiment."""

    @property
    def overhead_seconds(self) -> float:
        """What the harness adds."""
        return self.wall_seconds - self.bare_seconds


def campaign(experiments: int) -> Measured:
    """Run one campaign in a folder of its own; in a fresh process, or memory means nothing."""
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-overhead-"))
    try:
        return _campaign(folder / "lab", experiments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _campaign(root: Path, experiments: int) -> Measured:
    home = root / ".autoresearch"
    home.mkdir(parents=True)
    (root / "run.py").write_text(program(1.0))
    git = ["git", "-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    for arguments in (["init", "-q"], ["add", "run.py"], ["commit", "-q", "-m", "the null lab"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    clock = SystemClock()
    ledger = Ledger.open(home / "ledger.db", clock)
    workspace = GitWorkspace(root, "null", "HEAD", editable=["run.py"])
    ledger.begin_campaign(Campaign("null", workspace.base, 1, "greedy", METRIC))
    command = [sys.executable, "run.py"]
    stopwatch = Stopwatch()
    stopwatch.watch(workspace, "open", "commit", "close", "keep", "checkout", "discard")
    stopwatch.watch(ledger, "begin_experiment", "record", "begin_run", "finish_run")
    engine = LocalEngine(
        [Slot("cpu0")],
        home / "runs",
        Recipe(command, METRIC),
        checkout=workspace.checkout,
        discard=workspace.discard,
    )
    stopwatch.watch(engine, "execute", "_start")
    measured = Measured(experiments)
    verdicts: list[float] = []
    bare: list[float] = []
    loads: list[float] = []
    process = psutil.Process()

    def observe(notice: Notice) -> None:
        if notice.what not in ("keep", "discard", "crash"):
            return
        done = len(verdicts)
        if done in MARKS:
            measured.rss_mb[done] = process.memory_info().rss / 1e6
        verdicts.append(time.perf_counter())
        if done % BARE_EVERY == 0:
            began = time.perf_counter()
            subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
            bare.append(time.perf_counter() - began)
            loads.append(psutil.getloadavg()[0])

    scheduler = Scheduler(
        Plan("null", METRIC, seed=1, budget_seconds=10, timeout_seconds=10, editable=("run.py",)),
        ledger,
        workspace,
        engine,
        [NullResearcher()],
        Greedy(),
        ThreadTasks[Task](),
        clock,
        Limits(experiments=experiments),
        export=partial(_export, home / "results.tsv"),
        observe=observe,
    )
    scheduler.run()
    ledger.close()
    # The interval after each bare measurement holds that measurement; it is left out.
    steps = [b - a for i, (a, b) in enumerate(itertools.pairwise(verdicts)) if i % BARE_EVERY]
    measured.wall_seconds = statistics.median(steps)
    measured.wall_p90_seconds = statistics.quantiles(steps, n=10)[-1] if len(steps) > 1 else steps[0]
    measured.bare_seconds = statistics.median(bare)
    measured.load = statistics.mean(loads)
    late = {count: rss for count, rss in measured.rss_mb.items() if count >= 250}
    if len(late) > 1:
        measured.slope_mb = 1000 * statistics.linear_regression(list(late), list(late.values())).slope
    count = len(verdicts)
    measured.parts = {
        name: (seconds / count, stopwatch.calls[name] / count) for name, seconds in stopwatch.seconds.items()
    }
    return measured


def _export(path: Path, experiment: object) -> None:
    results_tsv.append(path, experiment, METRIC)  # type: ignore[arg-type]


def print_tables(all_measured: list[Measured]) -> None:
    """Figures by repeat, their median and spread; then where the time goes."""
    print(
        "repeat   load   wall s    p90 s   bare s  overhead s  "
        + "".join(f"{f'RSS@{m}':>9}" for m in MARKS)
        + "  slope"
    )
    for number, one in enumerate(all_measured, 1):
        memory = "".join(f"{one.rss_mb[m]:>9.1f}" if m in one.rss_mb else f"{'':>9}" for m in MARKS)
        slope = "" if one.slope_mb is None else f"{one.slope_mb:+.1f} MB/1000"
        print(
            f"{number:>6} {one.load:>6.1f} {one.wall_seconds:>8.3f} {one.wall_p90_seconds:>8.3f} "
            f"{one.bare_seconds:>8.3f} {one.overhead_seconds:>11.3f}  {memory}  {slope}"
        )
    overheads = [one.overhead_seconds for one in all_measured]
    median, spread = statistics.median(overheads), max(overheads) - min(overheads)
    verdict = "met" if median <= TARGET_SECONDS else "missed"
    print(f"overhead: median {median:.3f} s, spread {spread:.3f} s; target {TARGET_SECONDS} s: {verdict}")
    slopes = [one.slope_mb for one in all_measured if one.slope_mb is not None]
    if slopes:
        print(f"memory: median {statistics.median(slopes):+.2f} MB per 1,000, spread {max(slopes) - min(slopes):.2f}")
    print("\nwhere the time goes (milliseconds per experiment)   ms    calls")
    names = sorted(all_measured[0].parts, key=lambda name: -all_measured[0].parts[name][0])
    for name in names:
        seconds = statistics.median(one.parts[name][0] for one in all_measured)
        print(f"  {name:<45} {1000 * seconds:>7.1f}  {all_measured[0].parts[name][1]:>7.2f}")


def main() -> None:
    """Run the repeats, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--experiments", type=int, default=1000, help="of each repeat; 1,000 for the memory")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        all_measured = list(pool.map(campaign, [chosen.experiments] * chosen.repeats))
    print_tables(all_measured)
    if chosen.json:
        figures = [{**asdict(one), "overhead_seconds": one.overhead_seconds} for one in all_measured]
        chosen.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
