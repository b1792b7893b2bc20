"""What a run can do to us, end to end: each way ends as an outcome in the ledger, and nothing of it is left behind."""

from __future__ import annotations

import sqlite3

import pytest

from tests.cli.toylab import Lab, MakeLab, processes_below

DAEMON = """\
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
X = 1.0
print(f"METRIC loss={X}")
"""


@pytest.mark.parametrize(
    ("train", "outcome", "said"),
    [
        ("print('METRIC loss=1'); print('METRIC loss=2')", "no_metric", "ambiguous"),
        ("print('METRIC loss=nan')", "diverged", "nan"),
        ("print('METRIC loss=inf')", "diverged", "inf"),
        ("print('METRIC loss=good')", "no_metric", "'good', which is not a number"),
        ("pass", "no_metric", "no line 'METRIC loss=<number>' was printed"),
        ("print('METRIC lost=1')", "no_metric", "no line 'METRIC loss=<number>' was printed"),
        ("1 / 0", "crashed", "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", "out_of_memory", "memory"),
        ("raise MemoryError", "out_of_memory", "MemoryError"),
        ("open('judge.py', 'w').write('JUDGE = 2')\nprint('METRIC loss=0')", "protected_changed", "judge.py"),
        ("import time; time.sleep(60)", "timed_out", "its time was over"),
        (
            "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
            "timed_out",
            "its time was over",
        ),
    ],
)
def test_run_that_gives_no_number(make_lab: MakeLab, train: str, outcome: str, said: str) -> None:
    """The outcome and its reason are recorded; a baseline that fails so ends the campaign with exit code 2."""
    budget = "timeout_seconds = 0.6" if outcome == "timed_out" else ""
    lab = make_lab(train=train)
    text = (lab.root / "autoresearch.toml").read_text().replace("seconds = 2", f"seconds = 0.3\n{budget}")
    lab.commit(autoresearch_toml=text)
    sentence = lab.refused("run", "--experiments", "1")
    assert "baseline" in sentence and "commit, and start again" in sentence
    ended, detail = lab.outcome_of(0)
    assert ended == outcome and said in detail, detail
    assert lab.json("status")["summary"]["verdicts"]["crash"] >= 1
    assert processes_below(lab.root) == []


def test_metric_printed_twice_with_the_same_value(make_lab: MakeLab) -> None:
    """Repeating oneself is no contradiction."""
    lab = make_lab(train="X = 1.0\nprint(f'METRIC loss={X}'); print(f'METRIC loss={X}')")
    lab.run("--experiments", 1)
    assert lab.outcome_of(0)[0] == "finished"


def test_run_that_leaves_children(make_lab: MakeLab) -> None:
    """A run that forks a daemon and exits is over only when the daemon is dead; its number counts."""
    lab = make_lab(train=DAEMON)
    lab.run("--experiments", 1)
    assert lab.outcome_of(0)[0] == "finished"
    assert processes_below(lab.root) == []
    assert lab.log()[0]["runs"][0]["result"]["telemetry"]["survivors_killed"] >= 1


def test_huge_log(make_lab: MakeLab) -> None:
    """200 MB of output end as a log of bounded size, and the number at its end is read."""
    flood = "import sys\nX = 1.0\nline = 'x' * 99 + '\\n'\nfor _ in range(200):\n    sys.stdout.write(line * 10_000)\n"
    lab = make_lab(train=f"{flood}print(f'METRIC loss={{X}}')", budget="log_limit_mb = 1.0")
    lab.run("--experiments", 1)
    result = lab.log()[0]["runs"][0]["result"]
    assert result["metric"] == 1.0 and result["telemetry"]["log_dropped_bytes"] > 190e6
    [log, *_] = sorted((lab.root / ".autoresearch" / "runs").rglob("run.log"))
    assert log.stat().st_size < 1.2e6


def test_folder_with_spaces_and_letters_beyond_ascii(make_lab: MakeLab) -> None:
    """The lab's path may hold what careless code trips over."""
    lab = make_lab("mein Labör 実験 'q' %20?#")
    lab.run("--experiments", 2)
    assert lab.log()[0]["verdict"] == "keep"
    assert lab.cli("report").returncode == 0
    assert lab.cli("diff", "1").stdout.startswith("diff --git")


def test_control_characters_never_reach_the_terminal(make_lab: MakeLab) -> None:
    """What a program or an agent says is data: no escape sequence and no markup of theirs is obeyed."""
    agent = (
        "import json, os, pathlib\n"
        "pathlib.Path('train.py').write_text('1 / 0')\n"
        "plan = {'hypothesis': '[red]evil[/red] [/] \\x1b[2J\\x07 \\u202e ok'}\n"
        "json.dump(plan, open(os.environ['AUTORESEARCH_PROPOSAL'], 'w'))\n"
    )
    lab = make_lab(agent=agent)
    done = lab.run("--experiments", 1)
    said = done.stdout + lab.cli("log").stdout + lab.cli("show", "1").stdout + lab.cli("status").stdout
    assert "[red]evil[/red] [/]" in said
    assert not set(said) & {"\x1b", "\x07", "\u202e"}


def test_nothing_is_lost_in_the_ledger(lab: Lab) -> None:
    """Every run has its intent before its result, and the database passes SQLite's own check."""
    lab.run("--experiments", 3)
    with sqlite3.connect(lab.root / ".autoresearch" / "ledger.db") as connection:
        events = [what for (what,) in connection.execute("SELECT what FROM event ORDER BY id")]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert events.count("run began") == events.count("run ended") > 1
    assert events[0] == "campaign began" and events[-1] == "session ended"
