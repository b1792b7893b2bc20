"""Are two slots on two cores twice one, and is each run in them as good as alone?

    python bench/slots.py [--repeats 3] [--experiments 8] [--budget 20] [--slots 2] [--json FILE]

Needs a quiet machine with at least as many cores as slots, and the packages of the pretraining lab. Two copies of that
lab, one with a single CPU slot of one core, one with several, run campaigns in turn (1, 2, 1, 2, …), so that a machine
that warms up or slows down does so in both arms. Each is `autoresearch run` from outside. The researcher only inserts
a comment, so every experiment is the same program and whatever differs is the harness and the machine.

How to read the table: `exp/h` counts experiments from the begin of the first run after the baseline to the last
verdict; `runs/h` counts runs, among them second runs of winners whose parent was overtaken meanwhile (several slots
have those, one slot has none). `steps` is the median number of training steps of a run within its budget, and
`steps/s` what it did per second of that budget. Ratios compare neighbours. Targets: 1.8 × the experiments per hour
with 2 slots (0.9 for each slot), and steps per second within 5 % of those of a run alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from autoresearch.campaign.session import Home
from autoresearch.domain.run import Outcome
from autoresearch.host.clock import SystemClock
from autoresearch.lab.template import init_lab
from autoresearch.ledger.ledger import Ledger

BASELINE_RUNS = 2
TARGET_SHARE = 0.9
"""Of a whole slot's experiments, for each slot."""
TARGET_SPEED = 0.05

RESEARCHER = """
import json, pathlib, sys
number = json.load(sys.stdin)["number"]
path = pathlib.Path("train.py")
lines = path.read_text().splitlines(keepends=True)
at = [i for i, line in enumerate(lines) if line.startswith("def ")]
lines.insert(at[number % len(at)], f"# experiment {number}\\n")
path.write_text("".join(lines))
"""
"""Inserts a comment between two functions, each proposal at another place, so that they merge."""

SETTINGS = """
[slots]
gpus = "none"
cpu = {slots}
cores_per_slot = 1

[campaign]
baseline_runs = {baseline_runs}

[[researcher]]
kind = "command"
count = {slots}
command = [{python}, "-c", {script}]
"""


@dataclass
class Arm:
    """One campaign."""

    slots: int
    experiments: int
    experiments_per_hour: float
    runs_per_hour: float
    steps: float
    steps_per_second: float
    failed: int
    load: float


def make_lab(folder: Path, slots: int, budget: float) -> None:
    """The pretraining lab with so many slots of one core, committed."""
    init_lab(folder, "pretrain", {"cores": [0]}, budget_seconds=budget)
    path = folder / "autoresearch.toml"
    kept, table = [], ""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        table = line.strip() if line.startswith("[") else table
        if table not in ("[slots]", "[campaign]", "[[researcher]]"):
            kept.append(line)
    python, script = json.dumps(sys.executable), json.dumps(RESEARCHER)
    ours = SETTINGS.format(slots=slots, baseline_runs=BASELINE_RUNS, python=python, script=script)
    path.write_text("".join(kept) + ours, encoding="utf-8")
    git = ["git", "-C", str(folder), "-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    subprocess.run([*git, "commit", "-q", "-a", "-m", "slots"], check=True)


def measure(lab: Path, campaign: str, slots: int, experiments: int) -> Arm:
    """Run one campaign and read its pace from the ledger."""
    command = [sys.executable, "-m", "autoresearch", "run", "-C", str(lab), "--new", "--campaign", campaign, "--plain"]
    log = lab.parent / f"{campaign}.log"
    with log.open("wb") as file:
        ended = subprocess.run(
            [*command, "--experiments", str(experiments)], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if ended.returncode:
        raise SystemExit(f"{campaign} ended with {ended.returncode}: {log.read_text(errors='replace')[-2000:]}")
    ledger = Ledger.open_readonly(Home(lab).ledger, SystemClock())
    tried = [e for e in ledger.experiments(campaign) if e.runs and not e.is_baseline]
    began = min(event.at for event in ledger.events(campaign) if event.what == "run began" and event.experiment)
    ledger.close()
    hours = (max(e.decided_at or 0.0 for e in tried) - began) / 3600
    results = [run.result for e in tried for run in e.runs if run.result]
    finished = [result.summary for result in results if result.outcome is Outcome.FINISHED]
    if not finished:
        raise SystemExit(f"{campaign}: no run finished, {results[0].detail}")
    steps = [float(summary["num_steps"]) for summary in finished]
    speeds = [float(s["num_steps"]) / float(s["training_seconds"]) for s in finished]
    return Arm(
        slots=slots,
        experiments=len(tried),
        experiments_per_hour=len(tried) / hours,
        runs_per_hour=len(results) / hours,
        steps=statistics.median(steps),
        steps_per_second=statistics.median(speeds),
        failed=len(results) - len(finished),
        load=psutil.getloadavg()[1],
    )


def print_table(arms: list[Arm]) -> None:
    """Each campaign, then ratios of neighbours with median and spread."""
    print("slots  experiments     exp/h    runs/h    steps  steps/s  failed  load (5 min)")
    for arm in arms:
        print(
            f"{arm.slots:>5} {arm.experiments:>12} {arm.experiments_per_hour:>9.1f} {arm.runs_per_hour:>9.1f} "
            f"{arm.steps:>8.0f} {arm.steps_per_second:>8.2f} {arm.failed:>7} {arm.load:>13.1f}"
        )
    pairs = list(zip(arms[::2], arms[1::2], strict=True))
    slots = arms[1].slots
    rows = (
        ("experiments per hour", [b.experiments_per_hour / a.experiments_per_hour for a, b in pairs]),
        ("runs per hour", [b.runs_per_hour / a.runs_per_hour for a, b in pairs]),
        ("steps per second", [b.steps_per_second / a.steps_per_second for a, b in pairs]),
    )
    print(f"\n{slots} slots against 1    median  spread")
    for name, ratios in rows:
        print(f"{name:<20} {statistics.median(ratios):>8.3f} {max(ratios) - min(ratios):>7.3f}")
    pace, speed = statistics.median(rows[0][1]), statistics.median(rows[2][1])
    is_met = pace >= TARGET_SHARE * slots and abs(speed - 1) <= TARGET_SPEED
    wanted = f"{TARGET_SHARE * slots:g} × the experiments, steps per second within {TARGET_SPEED:.0%}"
    print(f"targets: {wanted}: {'met' if is_met else 'missed'}")


def main() -> None:
    """Run both arms in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="campaigns of each arm")
    parser.add_argument("--experiments", type=int, default=8, help="of each campaign")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of processor time that a run trains for")
    parser.add_argument("--slots", type=int, default=2, help="of the second arm; that many cores are needed")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    if (os.cpu_count() or 1) < chosen.slots:
        raise SystemExit(f"{chosen.slots} slots need as many cores, and this machine has {os.cpu_count()}")
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-slots-"))
    arms = []
    try:
        for slots in (1, chosen.slots):
            make_lab(folder / f"lab{slots}", slots, chosen.budget)
        for repeat in range(chosen.repeats):
            for slots in (1, chosen.slots):
                arms.append(measure(folder / f"lab{slots}", f"night{slots}-{repeat}", slots, chosen.experiments))
                print(f"{len(arms)} of {2 * chosen.repeats} campaigns are done", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(arms)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(arm) for arm in arms], indent=1))


if __name__ == "__main__":
    main()
