"""A run on a slow machine as a person meets it: told, made again, counted, and never lost to a kill."""

from __future__ import annotations

import re
from pathlib import Path

from autoresearch.testing.audit import audit, lost_results
from tests.cli.toylab import Lab, MakeLab

TRAIN = """\
import os, pathlib, time
X = 1.0
queue = pathlib.Path({queue!r})
times = queue.read_text().split()
queue.write_text(" ".join(times[1:] or times))
time.sleep({sleep})
print(f"METRIC loss={{(X - 0.3) ** 2 + int(times[0]) * 1e-6}}")
print(f"METRIC median_step_ms={{times[0]}}")
"""
"""Each run takes the next step time of a queue; the last one stays for all that follow."""


def make(make_lab: MakeLab, tmp_path: Path, times: str, sleep: float = 0.0, rest: str = "") -> Lab:
    """A lab whose runs have these step times, in milliseconds."""
    queue = tmp_path / "times"
    queue.write_text(times)
    train = TRAIN.format(queue=str(queue), sleep=sleep)
    lab = make_lab(train=train, campaign='policy = "greedy"', rest=rest)
    text = (lab.root / "autoresearch.toml").read_text().replace("baseline_runs = 1", "baseline_runs = 2")
    lab.commit(autoresearch_toml=text)
    return lab


def endings(lab: Lab, number: int = 0) -> list[tuple[str, bool]]:
    """How each run of an experiment ended, and whether it has a score."""
    results = [run["result"] for run in lab.log()[number]["runs"]]
    return [(result["outcome"], result["metric"] is not None) for result in results]


def test_a_slow_run_is_told_made_again_and_counted(make_lab: MakeLab, tmp_path: Path) -> None:
    """The second run of the untouched lab has steps half as long again: its number counts nowhere."""
    lab = make(make_lab, tmp_path, "100 150 100")

    done = lab.run("--experiments", 1)

    said = "A step took 150 ms, and 100 ms in another run of the same program: 1.50 times as long, and 1.15 is allowed."
    assert f"#0 disturbed: {said} It is made again, 2 times at most." in done.stdout
    assert endings(lab) == [("finished", True), ("disturbed", False), ("finished", True)]
    seeds = [run["request"]["seed"] for run in lab.log()[0]["runs"]]
    assert seeds[0] != seeds[1] == seeds[2]
    status = lab.cli("status").stdout
    assert re.search(r"1 of \d runs was disturbed \(1 by slow steps\) and not judged; it was made again, which", status)
    assert said in lab.cli("show", 0).stdout
    assert "machine: 150 ms a step" in lab.cli("show", 0).stdout
    assert lab.json("status")["summary"]["disturbed"]["causes"] == {"slow steps": 1}
    report = Path(lab.cli("report").stdout.strip()).read_text()
    assert "was disturbed" in report
    name = lab.json("status")["campaign"]
    assert audit(lab.root, name) == [] and lost_results(lab.root, name) == []


def test_a_machine_that_stays_slow_counts_after_a_kill_too(make_lab: MakeLab, tmp_path: Path) -> None:
    """Killed during the repetition, the session goes on from there: the third slow run is judged, with a note."""
    lab = make(make_lab, tmp_path, "100 150", sleep=0.3)
    first = lab.start("run", "--experiments", 1)
    first.wait_for("#0 disturbed")
    first.kill()

    done = lab.run("--experiments", 1)

    assert endings(lab) == [("finished", True), ("disturbed", False), ("disturbed", False), ("finished", True)]
    assert "#0 slow: Judged as measured after 2 disturbed runs before it: A step took 150 ms" in done.stdout
    status = lab.cli("status").stdout
    assert "#0 had a run on a slow machine that was judged as measured" in status
    assert audit(lab.root, lab.json("status")["campaign"]) == []


def test_the_lab_file_decides_what_is_quiet(make_lab: MakeLab, tmp_path: Path) -> None:
    """With a wider band the same run is judged at once."""
    lab = make(make_lab, tmp_path, "100 150 100", rest="[telemetry]\nband = 1.6\n")

    lab.run("--experiments", 1)

    assert endings(lab) == [("finished", True), ("finished", True)]
