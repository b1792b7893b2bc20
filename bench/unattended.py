"""A thousand experiments without a hand, with a researcher that hangs, crashes and writes garbage.

    python bench/unattended.py [--experiments 1000] [--seed 1] [--slots 1] [--keep FOLDER] [--json FILE]

One campaign through the command line, as a process of its own, with everything real: git, the ledger on disk,
supervised runs and sessions, reviews. The researcher is an executable. By a die that depends on the seed and on the
experiment's number it hangs (a tenth: it sleeps until its session's time-out of half a second ends it), crashes (a
tenth: a traceback, a signal, or an exit status, after half of an edit), writes garbage (a tenth: no Python, a protected
file, a binary file, nothing at all, a plan that is no JSON), or turns a constant as asked. It writes down what it did,
outside of the lab.

Wanted, and checked at the end (exit status 1 if not): the campaign came to its limit by itself; every call of the
researcher is an experiment of the ledger with a verdict; whoever hung or crashed has the verdict `crash` and a sentence
that says so; garbage was refused, or was run and judged; the audit of `autoresearch.testing` finds no contradiction;
and the memory of the loop grows by no more than 20 kB an experiment, which is the history that briefs are made of.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from autoresearch.campaign.session import Home
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.verdict import Verdict
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Ledger
from autoresearch.report.idle import idle_share
from autoresearch.testing.audit import audit

CAMPAIGN = "unattended"
SETTLED_IN = 250
"""Experiments after which memory has to be flat: caches are warm by then."""
MOST_KB = 20.0
"""Growth of the loop's memory for each experiment that still counts as flat."""
LOOK_SECONDS = 1.0

PROGRAM = """\
import os, random
A = 3.0
B = 3.0
C = 3.0
rng = random.Random(repr((A, B, C, os.environ["AUTORESEARCH_SEED"])))
print("METRIC loss=%r" % (A * A + B * B + C * C + rng.gauss(0, 0.1)))
"""

AGENT = """\
import json, os, random, re, sys, time
from pathlib import Path
brief = json.load(sys.stdin)
number = brief["number"]
rng = random.Random("%s:%d" % (sys.argv[1], number))
program, die = Path("train.py"), rng.random()
fate = "hang" if die < 0.1 else "crash" if die < 0.2 else "garbage" if die < 0.3 else "sound"
with open(sys.argv[2], "a") as log:
    log.write("%d %s\\n" % (number, fate))
name = rng.choice("ABC")
text = program.read_text()
edited = re.sub("^%s = .*" % name, "%s = %r" % (name, rng.gauss(0, 1)), text, flags=re.MULTILINE)
if fate == "hang":
    program.write_text(edited[: len(edited) // 2])
    while True:
        time.sleep(60)
if fate == "crash":
    program.write_text(edited[: len(edited) // 2])
    how = rng.randrange(3)
    if how == 0:
        raise RuntimeError("the model answered in %d words" % rng.randrange(1000))
    if how == 1:
        os.kill(os.getpid(), 9)
    sys.exit(3)
plan = json.dumps({"hypothesis": "%s is nearer in %d" % (name, number), "kind": "tune", "touches": [name]})
if fate == "garbage":
    how = rng.randrange(5)
    if how == 0:
        program.write_text("I would suggest to \\x00 lower the rate (%d)" % number)
    if how == 1:
        Path("judge.py").write_text("print('METRIC loss=0')  # %d\\n" % number)
    if how == 2:
        program.write_bytes(bytes(rng.randrange(256) for _ in range(2000)))
    if how == 4:
        program.write_text(edited)
        plan = '{"hypothesis": ' + "no end " * 10000
    print("\\x1b[2J" + "lorem ipsum " * 1000)
else:
    program.write_text(edited)
Path(os.environ["AUTORESEARCH_PROPOSAL"]).write_text(plan)
"""

LAB = """\
[lab]
run = [{python}, "-S", "-E", "train.py"]
editable = ["train.py"]
protected = ["judge.py"]

[metric]
name = "loss"
direction = "min"
source = "metric"

[budget]
seconds = 1

[slots]
gpus = "none"
cpu = {slots}
cores_per_slot = 1

[[researcher]]
kind = "command"
name = "flaky"
count = {slots}
timeout_seconds = {timeout}
command = [{python}, "-S", "-E", {agent}, "{seed}", {log}]
"""


@dataclass
class Night:
    """One campaign, and what was found wrong with it."""

    wall_seconds: float = 0.0
    sessions: int = 0
    """Calls of the researcher."""
    fates: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    measured: int = 0
    reviews: int = 0
    idle_share: float | None = None
    rss_mb: list[tuple[int, float]] = field(default_factory=list)
    """Experiments decided, and the memory of the loop's process then."""
    slope_kb: float | None = None
    """Growth for each experiment once it has settled in."""
    wrong: list[str] = field(default_factory=list)


def make_lab(folder: Path, *, slots: int, seed: int, timeout_seconds: float) -> Path:
    """A lab with the flaky researcher beside it, committed."""
    lab, agent, log = folder / "lab", folder / "agent.py", folder / "fates.txt"
    lab.mkdir(parents=True)
    agent.write_text(AGENT)
    log.touch()
    (lab / "train.py").write_text(PROGRAM)
    (lab / "judge.py").write_text("JUDGE = 1\n")
    (lab / "program.md").write_text("Lower loss.\n")
    names = {"python": json.dumps(sys.executable), "agent": json.dumps(str(agent)), "log": json.dumps(str(log))}
    text = LAB.format(**names, slots=slots, seed=seed, timeout=timeout_seconds)
    (lab / "autoresearch.toml").write_text(text)
    git = ["git", "-C", str(lab), "-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "the lab"]):
        subprocess.run([*git, *arguments], check=True)
    return lab


def play(folder: Path, experiments: int, *, seed: int = 1, slots: int = 1, timeout_seconds: float = 0.5) -> Night:
    """Run one campaign in an empty folder to its end, watch its memory, and compare its ledger with what happened."""
    lab, night = make_lab(folder, slots=slots, seed=seed, timeout_seconds=timeout_seconds), Night()
    command = [sys.executable, "-m", "autoresearch", "run", "-C", str(lab), "--campaign", CAMPAIGN, "--plain"]
    began = time.monotonic()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--experiments", str(experiments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
                with suppress(psutil.Error, sqlite3.Error):
                    night.rss_mb.append((_decided(lab), psutil.Process(process.pid).memory_info().rss / 1e6))
        finally:
            process.kill()
    night.wall_seconds = time.monotonic() - began
    said = (folder / "output.txt").read_text(errors="replace")
    if process.returncode:
        night.wrong.append(f"it ended with {process.returncode}: {said[-2000:]}")
    elif f"{experiments} experiments" not in said[-3000:]:
        night.wrong.append(f"it did not end at its limit: {said[-1000:]}")
    _compare(night, lab, folder / "fates.txt", experiments)
    return night


def _decided(lab: Path) -> int:
    with sqlite3.connect(f"file:{Home(lab).ledger}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT COUNT(*) FROM experiment WHERE decided_at IS NOT NULL").fetchone()
    connection.close()
    return int(rows[0])


def _compare(night: Night, lab: Path, log: Path, experiments: int) -> None:
    """The ledger beside what the researcher wrote down."""
    ledger = Ledger.open_readonly(Home(lab).ledger, SystemClock())
    records = {e.number: e for e in ledger.experiments(CAMPAIGN)}
    events = ledger.events(CAMPAIGN)
    ledger.close()
    calls = [(int(number), fate) for number, fate in (line.split() for line in log.read_text().splitlines())]
    night.sessions, night.fates = len(calls), dict(Counter(fate for _, fate in calls))
    others = [e for e in records.values() if not e.is_baseline]
    night.verdicts = dict(Counter(str(e.verdict) for e in others))
    night.measured = sum(bool(e.evidence_runs) for e in others)
    night.reviews = sum(event.what == "review" for event in events)
    night.idle_share = idle_share(records.values())
    night.wrong += [f"#{n}: {what}" for n, fate in calls if (what := _fault(records.get(n), fate))]
    night.wrong += [f"#{e.number} is still {e.stage}" for e in records.values() if e.stage is not Stage.SETTLED]
    if night.measured < experiments:
        night.wrong.append(f"{night.measured} experiments were measured, {experiments} asked for")
    night.wrong += audit(lab, CAMPAIGN)
    late = [(count, rss) for count, rss in night.rss_mb if count >= SETTLED_IN]
    if len({count for count, _ in late}) > 2:
        counts, sizes = zip(*late, strict=True)
        night.slope_kb = 1000 * statistics.linear_regression(counts, sizes).slope
        if night.slope_kb > MOST_KB:
            night.wrong.append(f"its memory grows by {night.slope_kb:.1f} kB an experiment")


def _fault(experiment: Experiment | None, fate: str) -> str | None:
    """What is wrong with the record of one call; None when nothing is."""
    if experiment is None:
        return f"{fate}, and not in the ledger"
    if experiment.verdict is None or not experiment.reason:
        return f"{fate}, and no verdict with a sentence"
    says = {"hang": "no proposal within", "crash": "ended with"}.get(fate, "")
    if says and (experiment.verdict is not Verdict.CRASH or says not in experiment.reason):
        return f"{fate}, and the ledger says {experiment.verdict}: {experiment.reason}"
    return None


def print_table(night: Night, experiments: int) -> None:
    """What happened, and what was found wrong."""
    failed = sum(count for fate, count in night.fates.items() if fate != "sound")
    each = night.wall_seconds / max(1, night.sessions)
    print(f"experiments measured   {night.measured} of {experiments}")
    print(f"sessions               {night.sessions}, {failed} of them flaky: {night.fates}")
    print(f"verdicts               {night.verdicts}, reviews {night.reviews}")
    print(f"wall                   {night.wall_seconds:.0f} s, {each:.2f} s a session")
    if night.idle_share is not None:
        print(f"slots idle             {100 * night.idle_share:.0f} % (runs of a tenth of a second)")
    marks = [100, 250, 500, 1000, 1400]
    sizes = [
        next((f"{rss:.1f} MB after {count}" for count, rss in night.rss_mb if count >= mark), "") for mark in marks
    ]
    print(f"memory of the loop     {', '.join(size for size in sizes if size)}")
    if night.slope_kb is not None:
        print(f"                       {night.slope_kb:+.1f} kB an experiment from {SETTLED_IN} on")
    for sentence in night.wrong[:20]:
        print(f"WRONG: {sentence}")
    print("nothing lost, nothing wrong" if not night.wrong else f"{len(night.wrong)} things wrong")


def main() -> int:
    """Play one night and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000, help="that had a run")
    parser.add_argument("--seed", type=int, default=1, help="of the researcher's dice")
    parser.add_argument("--slots", type=int, default=1, help="and as many researchers")
    parser.add_argument("--keep", type=Path, help="an absent folder for the lab, which stays")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="autoresearch-unattended-"))
    night = play(folder, chosen.experiments, seed=chosen.seed, slots=chosen.slots)
    print_table(night, chosen.experiments)
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(night), indent=1))
    if night.wrong:
        print(f"the lab stays in {folder}")
    elif chosen.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(night.wrong))


if __name__ == "__main__":
    sys.exit(main())
