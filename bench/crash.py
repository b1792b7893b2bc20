"""What a kill costs: campaigns killed at random moments, started again, and audited.

    python bench/crash.py [--repeats 4] [--kills 30] [--seed 1] [--slots 1 2] [--json FILE]

Each repeat is one campaign on a small lab with everything real: git, SQLite on disk, `autoresearch run` as a process of
its own, two command researchers, runs under supervisors. It is killed with SIGKILL at a random moment, `--kills`
times, and started again after each. Most kills take the loop alone; some take supervisors too, or every process of the
campaign at once (as a power cut would), and some take only a supervisor, so that the loop has to notice. A quarter of
them fall into the start, when the last session's leavings are being put right.

After most kills the campaign is audited as it lies there, and at the end, when a last session has come to its own end,
once more and thoroughly (`autoresearch.testing.audit`). Printed for each campaign: kills and resumed sessions, what was
done meanwhile, results that were lost and contradictions found. The last two must be 0; with any, exit status 1, and
the lab stays on disk to be looked at.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from autoresearch.campaign.session import Home
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LedgerError, UserError
from autoresearch.host.clock import SystemClock
from autoresearch.host.family import MARKER_VARIABLE
from autoresearch.lab.template import init_lab
from autoresearch.ledger.ledger import Ledger
from autoresearch.testing.audit import audit, fingerprint, lost_results

CAMPAIGN = "crash"
PATIENCE_SECONDS = 120.0
"""A session that has not come so far by then hangs."""
VICTIMS = {"loop": 0.55, "supervisors": 0.15, "everything": 0.2, "supervisor only": 0.1}
"""Who is killed, and how often: the loop alone, with its supervisors, with all its processes, or not at all."""
AT_START = 0.25
"""Share of kills that fall into the start of a session."""
STEPS_SECONDS = 1.5
"""Kills of a working session come within so many seconds of its first line: several experiments."""

PROGRAM = '''"""The program under study: six constants, each best at 0."""

import objective

A = 3.0
B = 3.0
C = 3.0
D = 3.0
E = 3.0
F = 3.0

objective.report([A, B, C, D, E, F])
'''

OBJECTIVE = '''"""The measurement: takes up to 0.3 s, now and then 1.5 s, so that runs outlive a killed loop."""

import os
import random
import time


def report(values):
    """Print the sum of squares with a little noise that follows from the seed."""
    rng = random.Random(repr((values, os.environ["AUTORESEARCH_SEED"])))
    time.sleep(1.5 if rng.random() < 0.1 else rng.uniform(0.0, 0.3))
    print("METRIC loss=%r" % (sum(value * value for value in values) * (1 + rng.gauss(0, 0.01))))
'''

AGENT = '''"""A researcher: turns one constant, mostly for the better; sometimes it does what it must not."""

import json
import os
import random
import re
import sys
import time
from pathlib import Path

brief = json.load(sys.stdin)
rng = random.Random(brief["seed"])
program = Path("run.py")
text = program.read_text()
time.sleep(rng.uniform(0.0, 0.2))
mood = rng.random()
name = rng.choice("ABCDEF")
if mood < 0.8:
    found = re.search(rf"^{name} = (.*)$", text, re.MULTILINE)
    value = float(found[1]) * rng.uniform(0.4, 1.2)
    text = text.replace(found[0], f"{name} = {value!r}")
elif mood < 0.86:
    text += "this is no Python\\n"
elif mood < 0.91:
    Path("objective.py").write_text("print('METRIC loss=0')\\n")
elif mood < 0.95:
    sys.exit(1)
half = len(text) // 2
with program.open("w") as file:
    file.write(text[:half])
    file.flush()
    time.sleep(rng.uniform(0.0, 0.05))
    file.write(text[half:])
plan = {"hypothesis": f"turn {name}", "kind": "tune", "touches": [name]}
Path(os.environ["AUTORESEARCH_PROPOSAL"]).write_text(json.dumps(plan))
'''

LAB_FILE = """
[lab]
name = "crash"
run = ["python", "run.py"]
editable = ["run.py"]
protected = ["objective.py", "agent.py"]

[metric]
name = "loss"
direction = "min"
source = "metric"

[budget]
seconds = 20

[slots]
gpus = "none"
cpu = {slots}
cores_per_slot = {cores}

[[researcher]]
kind = "command"
count = 2
command = [{python}, "agent.py"]
timeout_seconds = 60
"""


@dataclass
class Tally:
    """One campaign and what became of it."""

    slots: int
    kills: int = 0
    resumes: int = 0
    audits: int = 0
    victims: dict[str, int] = field(default_factory=dict)
    experiments: int = 0
    kept: int = 0
    runs: int = 0
    recovered: int = 0
    """Things that a start had to put right."""
    lost: int = 0
    contradictions: list[str] = field(default_factory=list)
    seconds: float = 0.0


def make_lab(folder: Path, slots: int) -> None:
    """Make a committed lab, with work of its user's that is not committed."""
    init_lab(folder, "blank")
    cores = 1 if (psutil.cpu_count() or 1) >= slots else '"auto"'
    lab_file = LAB_FILE.format(slots=slots, cores=cores, python=json.dumps(sys.executable))
    for name, text in (
        ("run.py", PROGRAM),
        ("objective.py", OBJECTIVE),
        ("agent.py", AGENT),
        ("autoresearch.toml", lab_file),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    git = ["git", "-C", str(folder), "-c", "user.name=A Person", "-c", "user.email=person@example.org"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "the lab"], check=True)
    (folder / "notes.txt").write_text("mine, staged\n")
    subprocess.run([*git, "add", "notes.txt"], check=True)
    (folder / "notes.txt").write_text("mine, staged and changed\n")


class Victim:
    """A campaign that is started and killed again and again.

    Args:
        lab: Made by `make_lab`.
        rng: Chooses moments and victims.
        tally: Is kept up to date.
    """

    def __init__(self, lab: Path, rng: random.Random, tally: Tally) -> None:
        self.lab = lab
        self.tally = tally
        self._rng = rng
        self._log = lab.parent / f"{lab.name}.log"
        self._start_seconds = 1.0
        self._kinds = list(VICTIMS)

    def session(self, experiments: int = 1_000_000) -> subprocess.Popen[bytes]:
        """Start or resume the campaign; what it prints goes to a file beside the lab."""
        command = [sys.executable, "-m", "autoresearch", "run", "-C", str(self.lab), "--campaign", CAMPAIGN]
        command += ["--allow-dirty", "--plain", "--experiments", str(experiments)]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def kill_once(self) -> None:
        """One session from its start to its violent end, and an audit of what is left of it."""
        process = self.session()
        self.tally.resumes += self.tally.kills > 0
        if self._rng.random() < AT_START:
            self._sleep(process, self._rng.uniform(0.3, 1.3) * self._start_seconds)
        else:
            began = time.monotonic()
            while process.poll() is None and not self._log.stat().st_size:
                time.sleep(0.005)
                if time.monotonic() > began + PATIENCE_SECONDS:
                    break
            self._start_seconds = time.monotonic() - began
            self._sleep(process, self._rng.uniform(0.0, STEPS_SECONDS))
        kind = self._rng.choices(self._kinds, weights=list(VICTIMS.values()))[0]
        if kind == "supervisor only":
            supervisors = self._supervisors()
            for one in self._rng.sample(supervisors, min(1, len(supervisors))):
                kill(one)
                self._count(kind)
            self._sleep(process, self._rng.uniform(0.2, 0.8))
            kind = "loop"
        self._kill(process, kind)
        if self._rng.random() < 0.7:
            self._audit()

    def _sleep(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Sleep, unless the session ends by itself, which it must not."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    def _kill(self, process: subprocess.Popen[bytes], kind: str) -> None:
        if process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-500:]
            self.tally.contradictions.append(f"a session ended by itself with status {process.returncode}: {tail}")
            return
        with suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True) if kind == "everything" else []
        if kind != "loop" and self._rng.random() < 0.5:
            kill(psutil.Process(process.pid))
        if kind != "loop":
            for one in [*family, *(self._marked() if kind == "everything" else self._supervisors())]:
                kill(one)
        process.kill()
        process.wait()
        self.tally.kills += 1
        self._count(kind)

    def _count(self, kind: str) -> None:
        self.tally.victims[kind] = self.tally.victims.get(kind, 0) + 1

    def _marked(self) -> Iterator[psutil.Process]:
        """Every process of this lab's runs and researchers."""
        inside = str(Home(self.lab).folder)
        for one in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if one.environ().get(MARKER_VARIABLE, "").startswith(inside):
                    yield one

    def _supervisors(self) -> list[psutil.Process]:
        found = []
        for one in self._marked():
            with suppress(psutil.Error):
                if any("supervisor.main" in part for part in one.cmdline()):
                    found.append(one)
        return found

    def _audit(self) -> None:
        try:
            found = audit(self.lab, CAMPAIGN, thorough=False)
        except (LedgerError, UserError):
            if self.tally.runs:  # else it was killed before there was a campaign
                raise
            return
        self.tally.audits += 1
        self.tally.contradictions += [f"after kill {self.tally.kills}: {sentence}" for sentence in found]

    def finish(self) -> None:
        """Let a last session come to its own end, after a few more experiments, and audit what is there."""
        ledger = Ledger.open_readonly(Home(self.lab).ledger, SystemClock())
        tried = sum(1 for e in ledger.experiments(CAMPAIGN) if (e.runs or e.commit) and not e.is_baseline)
        ledger.close()
        process = self.session(tried + 4)
        self.tally.resumes += 1
        try:
            status: object = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            process.wait()
            status = "none: it hung"
        if status != 0:
            tail = self._log.read_text(errors="replace")[-1000:]
            self.tally.contradictions.append(f"the last session ended with status {status}: {tail}")
        self.tally.audits += 1
        self.tally.contradictions += [f"at the end: {sentence}" for sentence in audit(self.lab, CAMPAIGN)]
        self.tally.lost = len(lost_results(self.lab, CAMPAIGN))


def kill(process: psutil.Process) -> None:
    """SIGKILL, if it is still there."""
    with suppress(psutil.Error):
        process.kill()


def crash_campaign(folder: Path, *, slots: int, kills: int, seed: int) -> Tally:
    """Run one campaign through `kills` kills in an empty `folder`."""
    tally, began = Tally(slots), time.monotonic()
    lab = folder / "lab"
    make_lab(lab, slots)
    before = fingerprint(lab)
    victim = Victim(lab, random.Random(f"{seed}:{slots}"), tally)
    while tally.kills < kills and len(tally.contradictions) < 20:
        victim.kill_once()
    victim.finish()
    after = fingerprint(lab)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    tally.contradictions += [f"the user's {path} was changed" for path in changed]
    ledger = Ledger.open_readonly(Home(lab).ledger, SystemClock())
    experiments = ledger.experiments(CAMPAIGN)
    tally.recovered = sum(event.what == "recovered" for event in ledger.events(CAMPAIGN))
    ledger.close()
    tally.experiments = len(experiments)
    tally.kept = sum(e.verdict is Verdict.KEEP for e in experiments)
    tally.runs = sum(len(e.runs) for e in experiments)
    tally.seconds = time.monotonic() - began
    return tally


def print_table(tallies: list[Tally]) -> None:
    """One line for each campaign, medians and totals."""
    names = ("slots", "kills", "resumes", "audits", "experiments", "kept", "runs", "recovered", "lost", "seconds")
    rows = [[getattr(tally, name) for name in names] for tally in tallies]
    bad = [len(tally.contradictions) for tally in tallies]
    print("campaign  " + "  ".join(f"{name:>11}" for name in names) + "  contradictions")
    for number, (row, count) in enumerate(zip(rows, bad, strict=True), 1):
        print(f"{number:>8}  " + "  ".join(f"{value:>11.0f}" for value in row) + f"  {count:>14}")
    columns = list(zip(*rows, strict=True))
    medians = [statistics.median(column) for column in columns]
    print("  median  " + "  ".join(f"{value:>11.0f}" for value in medians) + f"  {statistics.median(bad):>14.0f}")
    spreads = [max(column) - min(column) for column in columns]
    print("  spread  " + "  ".join(f"{value:>11.0f}" for value in spreads) + f"  {max(bad) - min(bad):>14.0f}")
    totals = [sum(column) for column in columns]
    print("     all  " + f"{'':>11}  " + "  ".join(f"{value:>11.0f}" for value in totals[1:]) + f"  {sum(bad):>14}")
    victims = sum((Counter(tally.victims) for tally in tallies), Counter[str]())
    print("killed: " + ", ".join(f"{count} × {who}" for who, count in victims.most_common()))


def main() -> int:
    """Run the campaigns and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4, help="campaigns; the numbers of slots take turns")
    parser.add_argument("--kills", type=int, default=30, help="kills of each campaign")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2], help="slots of the campaigns, in turn")
    parser.add_argument("--seed", type=int, default=1, help="chooses moments and victims")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    tallies = []
    is_bad = False
    for repeat in range(chosen.repeats):
        folder = Path(tempfile.mkdtemp(prefix="autoresearch-crash-"))
        slots = chosen.slots[repeat % len(chosen.slots)]
        tally = crash_campaign(folder, slots=slots, kills=chosen.kills, seed=chosen.seed + repeat)
        tallies.append(tally)
        for sentence in tally.contradictions:
            print(f"campaign {repeat + 1}: {sentence}")
        if tally.contradictions or tally.lost:
            is_bad = True
            print(f"campaign {repeat + 1}: its lab stays in {folder}")
        else:
            shutil.rmtree(folder)
    print_table(tallies)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(tally) for tally in tallies], indent=1))
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
