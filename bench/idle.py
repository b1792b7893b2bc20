"""Do slots wait for researchers? A thinker who takes as long as a run, here and in a serial loop, on one slot.

    python bench/idle.py [--repeats 3] [--experiments 10] [--think 6] [--run 6] [--json FILE]

Everything is real: a lab in a git repository, `autoresearch run` as a process of its own, the researcher an executable
that thinks (sleeps) and then edits, the run a program that trains (sleeps) and then prints its metric. Beside it the
pattern that most loops have, as a script of this file with the very same executables: think, commit, run, keep or throw
away, think again. The two arms take turns, so that a machine that is busy is so in both. Each arm makes two runs of the
untouched program first; the campaign's researcher thinks meanwhile, the loop's does not.

How to read the table: `idle` is the share of time, from the start to the end of the last run, in which no run was at
work (for a campaign what `autoresearch status --json` says under `idle_share`), `exp/h` counts experiments from the end
of the baseline's runs to the last verdict. Wanted: at most 3 % idle with a thinker of 60 s and runs of 60 s
(`--think 60 --run 60 --repeats 1`); the serial loop is idle for half of the time by construction.

    python bench/idle.py --simulate [--repeats 3]

plays other numbers of slots and researchers in virtual time, and beside each the same with a fixed queue of one
proposal ahead for each slot. `missed` is how many verdicts come while a proposal is written and waits, on average.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from autoresearch.campaign.lookahead import Lookahead
from autoresearch.campaign.session import Home
from autoresearch.campaign.simulation import Physics, World, simulate
from autoresearch.cli.writing import summarise_campaign
from autoresearch.domain.budget import Limits
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Ledger
from autoresearch.report.idle import idle_share

TARGET = 0.03
BASELINE_RUNS = 2

PROGRAM = """\
import os, random, time
X = 0.0
time.sleep({run})
print("METRIC loss=%r" % (abs(1 - X) + random.Random(os.environ.get("AUTORESEARCH_SEED")).gauss(0, 0.001)))
"""

AGENT = """\
import os, random, re, sys, time
from pathlib import Path
time.sleep({think})
path = Path("train.py")
text = path.read_text()
path.write_text(re.sub("^X = .*", "X = %r" % random.random(), text, flags=re.MULTILINE))
print("another X")
"""

LAB = """\
[lab]
run = [{python}, "train.py"]
editable = ["train.py"]

[metric]
name = "loss"
direction = "min"
source = "metric"

[budget]
seconds = {budget}

[slots]
gpus = "none"
cpu = 1
cores_per_slot = 1

[campaign]
baseline_runs = {baseline_runs}
policy = "greedy"

[[researcher]]
kind = "command"
name = "agent"
command = [{python}, {agent}]
"""


@dataclass
class Arm:
    """One campaign, or one serial loop."""

    name: str
    experiments: int
    idle_share: float
    experiments_per_hour: float
    load: float


def make_lab(folder: Path, think: float, run: float) -> Path:
    """A lab with one slot, committed; and the agent beside it."""
    lab, agent = folder / "lab", folder / "agent.py"
    lab.mkdir(parents=True)
    agent.write_text(AGENT.format(think=think))
    (lab / "train.py").write_text(PROGRAM.format(run=run))
    (lab / "program.md").write_text("Lower loss.\n")
    python = json.dumps(sys.executable)
    text = LAB.format(python=python, agent=json.dumps(str(agent)), budget=max(1.0, run), baseline_runs=BASELINE_RUNS)
    (lab / "autoresearch.toml").write_text(text)
    git(lab, "init", "-q", "-b", "main")
    git(lab, "add", "-A")
    git(lab, "commit", "-q", "-m", "the lab")
    return lab


def git(lab: Path, *arguments: str) -> None:
    """Run one git command."""
    who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    subprocess.run(["git", "-C", str(lab), *who, *arguments], check=True, stdout=subprocess.DEVNULL)


def campaign(lab: Path, name: str, experiments: int) -> Arm:
    """`autoresearch run`, and what its ledger says of the slot."""
    command = [sys.executable, "-m", "autoresearch", "run", "-C", str(lab), "--new", "--campaign", name, "--plain"]
    command += ["--experiments", str(experiments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    ledger = Ledger.open_readonly(Home(lab).ledger, SystemClock())
    chosen = next(one for one in ledger.campaigns() if one.name == name)
    summary = summarise_campaign(ledger, chosen)
    records = ledger.experiments(name)
    ledger.close()
    tried = [e for e in records if e.runs and not e.is_baseline]
    began = max(r.result.started_at + r.result.wall_seconds for r in records[0].runs if r.result)
    hours = (max(e.decided_at or 0.0 for e in tried) - began) / 3600
    assert summary.idle_share is not None
    return Arm("campaign", len(tried), summary.idle_share, len(tried) / hours, psutil.getloadavg()[1])


def serial(lab: Path, experiments: int) -> Arm:
    """Think, commit, run, keep or throw away, and again, with the same executables."""
    agent, work = lab.parent / "agent.py", lab.parent / "serial"
    subprocess.run(["git", "clone", "-q", str(lab), str(work)], check=True)
    busy, best, start = 0.0, float("inf"), time.monotonic()
    measured = start
    for number in range(-BASELINE_RUNS, experiments):
        if number >= 0:
            subprocess.run([sys.executable, str(agent)], cwd=work, check=True, stdout=subprocess.DEVNULL)
            git(work, "commit", "-q", "-a", "-m", f"experiment {number}")
        began = time.monotonic()
        done = subprocess.run([sys.executable, "train.py"], cwd=work, check=True, capture_output=True, text=True)
        end = time.monotonic()
        busy += end - began
        loss = float(done.stdout.partition("loss=")[2])
        if number < 0:
            measured, best = end, min(best, loss)
        elif loss < best:
            best = loss
        else:
            git(work, "reset", "-q", "--hard", "HEAD~1")
    shutil.rmtree(work)
    pace = experiments / (end - measured) * 3600
    return Arm("serial", experiments, 1 - busy / (end - start), pace, psutil.getloadavg()[1])


CASES = (
    (1, 1, (0.01, 0.02), (310.0, 330.0)),
    (1, 1, (20.0, 120.0), (310.0, 330.0)),
    (1, 1, (200.0, 400.0), (310.0, 330.0)),
    (1, 2, (200.0, 400.0), (310.0, 330.0)),
    (1, 5, (250.0, 350.0), (60.0, 61.0)),
    (8, 8, (20.0, 120.0), (310.0, 330.0)),
    (8, 2, (20.0, 60.0), (310.0, 330.0)),
    (8, 16, (300.0, 500.0), (310.0, 330.0)),
)
"""Slots, researchers, seconds that one thinks, seconds that a run takes."""


def simulated(case: tuple[int, int, tuple[float, float], tuple[float, float]], seed: int) -> tuple[float, float]:
    """The idle share of one campaign in virtual time, and the verdicts that a proposal misses."""
    slots, researchers, thinking, running = case
    world = World(seed, slots=slots, physics=Physics(proposal_seconds=thinking, run_seconds=running))
    ledger = simulate(world, researchers=researchers, limits=Limits(experiments=60 if slots == 1 else 30 * slots))
    records = [e for e in ledger.experiments("sim") if e.runs]
    share = idle_share(records, [(0.0, world.clock.now())])
    decided = sorted(e.decided_at or 0.0 for e in records)
    spans = [(e.created_at, e.runs[0].result.started_at) for e in records[1:] if e.runs[0].result]
    missed = statistics.mean(bisect(decided, ran) - bisect(decided, asked) for asked, ran in spans)
    return share or 0.0, missed


def print_simulated(repeats: int) -> None:
    """One line for each case: medians, adapted and with a fixed queue."""
    print("slots  researchers     think s      run s   idle  fixed   missed  fixed")
    for case in CASES:
        adapted = [simulated(case, seed) for seed in range(1, repeats + 1)]
        rule, bound = Lookahead.is_due, Lookahead.most
        Lookahead.is_due = lambda *_: True  # type: ignore[method-assign,assignment]
        Lookahead.most = lambda _, free, slots, __: free + slots  # type: ignore[method-assign,assignment]
        try:
            fixed = [simulated(case, seed) for seed in range(1, repeats + 1)]
        finally:
            Lookahead.is_due, Lookahead.most = rule, bound  # type: ignore[method-assign]
        idle, missed = (statistics.median(column) for column in zip(*adapted, strict=True))
        fixed_idle, fixed_missed = (statistics.median(column) for column in zip(*fixed, strict=True))
        slots, researchers, thinking, running = case
        spans = [f"{low:g}-{high:g}" for low, high in (thinking, running)]
        print(
            f"{slots:>5} {researchers:>12} {spans[0]:>11} {spans[1]:>10} {100 * idle:>5.1f}% {100 * fixed_idle:>5.1f}% "
            f"{missed:>7.2f} {fixed_missed:>6.2f}",
            flush=True,
        )


def print_table(arms: list[Arm]) -> None:
    """Each arm, then ratios of neighbours with median and spread."""
    print("arm       experiments     idle     exp/h  load (5 min)")
    for arm in arms:
        idle = f"{100 * arm.idle_share:.2f} %"
        print(f"{arm.name:<9} {arm.experiments:>11} {idle:>8} {arm.experiments_per_hour:>9.1f} {arm.load:>13.1f}")
    print("\n                                            median    spread")
    for name in ("campaign", "serial"):
        shares = [100 * arm.idle_share for arm in arms if arm.name == name]
        print(f"idle, {name:<34} {statistics.median(shares):>7.2f} % {max(shares) - min(shares):>7.2f}")
    ratios = [a.experiments_per_hour / b.experiments_per_hour for a, b in zip(arms[::2], arms[1::2], strict=True)]
    what = "experiments per hour, campaign : serial"
    print(f"{what:<40} {statistics.median(ratios):>7.3f}   {max(ratios) - min(ratios):>7.3f}")
    share = statistics.median(arm.idle_share for arm in arms if arm.name == "campaign")
    print(f"target: at most {TARGET:.0%} idle: {'met' if share <= TARGET else 'missed'}")


def main() -> None:
    """Run both arms in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of each arm")
    parser.add_argument("--experiments", type=int, default=10, help="of each campaign and loop")
    parser.add_argument("--think", type=float, default=6.0, help="seconds that the researcher thinks")
    parser.add_argument("--run", type=float, default=6.0, help="seconds that a run takes")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--simulate", action="store_true", help="other sizes, in virtual time")
    chosen = parser.parse_args()
    if chosen.simulate:
        print_simulated(chosen.repeats)
        return
    folder = Path(tempfile.mkdtemp(prefix="autoresearch-idle-"))
    arms: list[Arm] = []
    try:
        for repeat in range(chosen.repeats):
            lab = make_lab(folder / str(repeat), chosen.think, chosen.run)
            for arm in (campaign(lab, "idle", chosen.experiments), serial(lab, chosen.experiments)):
                arms.append(arm)
                print(f"{len(arms)} of {2 * chosen.repeats} are done", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(arms)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(arm) for arm in arms], indent=1))


if __name__ == "__main__":
    main()
