"""The scheduler in virtual time: 10,000 experiments on 64 slots, and the same integer gives the same bytes.

    python bench/simulated.py [--repeats 3] [--experiments 10000] [--slots 64] [--seed 7] [--json FILE]

Each repeat is a process of its own with another PYTHONHASHSEED, so that neither the order of a set nor an earlier
repeat can hide a difference. The ledger is SQLite in memory; all else is the campaign's own code.

How to read the table: `seconds` of simulation (target: below 60) and the processor time in them, which is what it would
take on an idle machine; the virtual hours that passed; the share of all slot time that was used, and the same from the
first run after the baseline on; the process's peak memory; and the SHA-256 of `ledger.history("sim")`, every event and
record. All digests must be equal; with any difference, exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from autoresearch.campaign.simulation import World, simulate
from autoresearch.domain.budget import Limits

TARGET_SECONDS = 60.0


def measure(experiments: int, slots: int, seed: int) -> dict[str, float | str]:
    """One simulated campaign in this process."""
    world = World(seed, slots=slots)
    began, cpu = time.perf_counter(), time.process_time()
    # A proposal takes a quarter of a run's time at most, but a kept one makes others stale: one researcher per slot.
    ledger = simulate(world, researchers=slots, limits=Limits(experiments=experiments))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    digest = hashlib.sha256()
    for line in ledger.history("sim"):
        digest.update(line.encode() + b"\n")
    recorded = ledger.experiments("sim")
    results = [run.result for e in recorded for run in e.runs if run.result]
    busy = sum(result.wall_seconds for result in results)
    first = min(r.result.started_at for e in recorded[1:] for r in e.runs if r.result)
    late = sum(r.result.wall_seconds for e in recorded[1:] for r in e.runs if r.result)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "experiments": len(recorded),
        "virtual_hours": world.clock.now() / 3600,
        "used": busy / (slots * world.clock.now()),
        "used_after_baseline": late / (slots * (world.clock.now() - first)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
        "sha256": digest.hexdigest(),
    }


def main() -> int:
    """Run the repeats and compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # a repeat: figures as JSON, no table
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.experiments, chosen.slots, chosen.seed)))
        return 0
    figures = []
    print("repeat  seconds  cpu s  experiments  virtual hours   used  after baseline  peak MB  sha256 of the history")
    for repeat in range(chosen.repeats):
        command = [sys.executable, __file__, "--one", "--experiments", str(chosen.experiments)]
        command += ["--slots", str(chosen.slots), "--seed", str(chosen.seed)]
        environment = {**os.environ, "PYTHONHASHSEED": str(1000 + repeat)}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        one = json.loads(done.stdout)
        figures.append(one)
        print(
            f"{repeat + 1:>6} {one['seconds']:>8.1f} {one['cpu_seconds']:>6.1f} {one['experiments']:>12} "
            f"{one['virtual_hours']:>14.1f} {one['used']:>6.1%} {one['used_after_baseline']:>15.1%} "
            f"{one['peak_mb']:>8.0f}  {one['sha256']}",
            flush=True,
        )
    seconds = [one["seconds"] for one in figures]
    median = statistics.median(seconds)
    verdict = "met" if median < TARGET_SECONDS else "missed"
    print(f"median {median:.1f} s, spread {max(seconds) - min(seconds):.1f} s; target {TARGET_SECONDS:g} s: {verdict}")
    is_same = len({one["sha256"] for one in figures}) == 1
    print("histories: byte for byte the same" if is_same else "histories: THEY DIFFER")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1))
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
