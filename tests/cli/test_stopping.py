"""Ctrl-C, SIGTERM and `kill -9` at any time: nothing is lost, nothing is done twice, nothing is left behind."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.cli.toylab import AGENT, Lab, MakeLab, processes_below, wait_until

SLEEPY = """\
import os, pathlib, time
X = 1.0
begun = pathlib.Path(os.environ["BEGUN"])
begun.write_text(begun.read_text() + os.environ["AUTORESEARCH_RUN_DIR"] + "\\n" if begun.exists() else "first\\n")
while not pathlib.Path(os.environ["GO"]).exists():
    time.sleep(0.01)
print(f"METRIC loss={X}")
"""
"""Runs until the file GO is there, having left a line in BEGUN."""


@pytest.fixture
def sleepy(make_lab: MakeLab) -> Lab:
    """A lab whose runs last until `go` is called."""
    lab = make_lab(train=SLEEPY)
    text = (lab.root / "autoresearch.toml").read_text()
    outside = f'environment = {{ GO = "{lab.root.parent}/go", BEGUN = "{lab.root.parent}/begun" }}\n'
    lab.commit(autoresearch_toml=text.replace("protected =", f"{outside}protected ="))
    return lab


def go(lab: Lab) -> None:
    """Let all runs end."""
    (lab.root.parent / "go").touch()


def begun(lab: Lab) -> int:
    """How many runs have begun."""
    file = lab.root.parent / "begun"
    return len(file.read_text().splitlines()) if file.exists() else 0


def assert_sound(lab: Lab, experiments: list[dict[str, Any]]) -> None:
    """Every experiment is settled, numbers have no gaps, no run is without an answer, no process is left."""
    assert [e["number"] for e in experiments] == list(range(len(experiments)))
    assert all(e["stage"] == "settled" for e in experiments)
    assert all(run["result"] for e in experiments for run in e["runs"])
    assert processes_below(lab.root) == []


def test_first_interrupt_finishes_what_is_under_way(sleepy: Lab) -> None:
    """The run under way ends and is judged, the screen says what is waited for, and exit code is 0."""
    process = sleepy.start("run", "--experiments", 5)
    wait_until(lambda: begun(sleepy) == 1, "the baseline runs")
    process.signal(signal.SIGINT)
    process.wait_for("finishing 1 run")
    go(sleepy)
    done = process.finish()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ctrl-C again stops at once" in done.stdout and "ended: stopped by Ctrl-C" in done.stdout
    [baseline] = [e for e in sleepy.log() if e["runs"]]
    assert baseline["verdict"] == "keep" and len(baseline["runs"]) == 1
    assert begun(sleepy) == 1
    sleepy.run("--experiments", 2)
    experiments = sleepy.log()
    assert experiments[0] == baseline
    assert_sound(sleepy, experiments)
    assert sum(len(e["runs"]) for e in experiments) == begun(sleepy)


@pytest.mark.parametrize(
    "signals", [[(signal.SIGINT, "finishing"), (signal.SIGINT, "stopping now")], [(signal.SIGTERM, "stopping now")]]
)
def test_second_interrupt_and_sigterm_stop_at_once(sleepy: Lab, signals: list[tuple[signal.Signals, str]]) -> None:
    """The run is ended and recorded as interrupted; the next session makes it again with the same seed."""
    process = sleepy.start("run", "--experiments", 1)
    wait_until(lambda: begun(sleepy) == 1, "the baseline runs")
    for number, answer in signals:
        process.signal(number)
        process.wait_for(answer)
    done = process.finish()
    assert (done.returncode, done.stderr) == (0, "")
    assert processes_below(sleepy.root) == []
    [first] = sleepy.log()[0]["runs"]
    assert first["result"]["outcome"] == "interrupted"
    go(sleepy)
    assert "recovered: #0: its last run was interrupted" in sleepy.run("--experiments", 1).stdout
    experiments = sleepy.log()
    [_, again] = experiments[0]["runs"]
    assert again["result"]["outcome"] == "finished" and again["request"]["seed"] == first["request"]["seed"]
    assert experiments[0]["verdict"] == "keep"
    assert_sound(sleepy, experiments)


def test_kill_and_resume(sleepy: Lab) -> None:
    """After `kill -9` the run goes on; the next session takes its answer in instead of running it again."""
    process = sleepy.start("run", "--experiments", 1)
    wait_until(lambda: begun(sleepy) == 1, "the baseline runs")
    process.kill()
    assert "go on with `autoresearch run`" in sleepy.cli("status").stdout
    assert processes_below(sleepy.root), "the run outlives the campaign's process"
    go(sleepy)
    done = sleepy.run("--experiments", 1)
    assert "recovered" in done.stdout
    experiments = sleepy.log()
    assert_sound(sleepy, experiments)
    assert len(experiments[0]["runs"]) == 1 and sum(len(e["runs"]) for e in experiments) == begun(sleepy)


def test_kill_at_many_moments(make_lab: MakeLab) -> None:
    """Killed again and again wherever it happens to be, a campaign still comes to the same sound end."""
    lab = make_lab(agent="import time; time.sleep(0.05)\n" + AGENT)
    for delay in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8):
        process = lab.start("run", "--experiments", 6)
        wait_until((lab.root / ".autoresearch" / "session.json").exists, "it has begun")
        time.sleep(delay)
        process.kill()
    lab.run("--experiments", 6)
    experiments = lab.log()
    assert len([e for e in experiments if e["runs"]]) == 7
    assert_sound(lab, experiments)
    [tip] = lab.git("for-each-ref", "--format=%(objectname)", "refs/heads/autoresearch/").splitlines()
    assert tip == max((e for e in experiments if e["verdict"] == "keep"), key=lambda e: e["decided_at"])["commit"]
    assert lab.git("worktree", "list").splitlines()[1:] == []


def test_interrupt_while_an_agent_writes(make_lab: MakeLab) -> None:
    """An agent's session is let end by the first Ctrl-C and ended by the second; its edits stay in git."""
    agent = (
        "import pathlib, time\np = pathlib.Path('train.py')\np.write_text(p.read_text() + '# half')\ntime.sleep(600)\n"
    )
    lab = make_lab(agent=agent)
    process = lab.start("run", "--experiments", 1)
    wait_until(lambda: lab.cli("log").returncode == 0 and len(lab.log()) == 2, "the agent writes")
    wait_until(lambda: lab.log()[0]["verdict"] == "keep", "the baseline is measured")
    process.signal(signal.SIGINT)
    process.wait_for("finishing 1 proposal")
    process.signal(signal.SIGINT)
    done = process.finish()
    assert (done.returncode, done.stderr) == (0, "")
    assert processes_below(lab.root) == []
    assert lab.log()[1]["verdict"] == "crash" and "stopped" in lab.log()[1]["reason"]
