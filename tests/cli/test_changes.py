"""A lab that changes while a campaign goes on, and limits that change between sessions."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from tests.cli.toylab import Lab, MakeLab


def test_baseline_that_crashes_and_is_mended(make_lab: MakeLab) -> None:
    """The end names crash, cure and logs; after mending and committing, `run` begins another campaign by itself."""
    lab = make_lab(train="X = 1.0\nimport no_such_module\n")
    said = lab.refused("run", "--experiments", 1)
    assert "the baseline did not run (crashed: ModuleNotFoundError: No module named 'no_such_module')" in said
    assert "mend the lab, commit, and start again" in said
    logs = said.rsplit(" ", 1)[-1]
    assert "no_such_module" in next(Path(logs).rglob("run.log")).read_text()
    broken = lab.log()[0]["campaign"]
    lab.write("train.py", "X = 1.0\nprint(f'METRIC loss={X}')\n")
    assert "uncommitted" in lab.refused("run", "--experiments", 1)
    lab.commit()
    lab.run("--experiments", 1)
    assert lab.log()[0]["campaign"] != broken and lab.log()[0]["verdict"] == "keep"
    assert lab.log("--campaign", broken)[0]["verdict"] == "crash"


def test_change_that_makes_results_incomparable(lab: Lab) -> None:
    """Another budget, command, metric or set of files needs another campaign; the old one goes on when it is undone."""
    lab.run("--experiments", 1)
    sound = (lab.root / "autoresearch.toml").read_text()
    changes = {
        "seconds = 2": "seconds = 3",
        '"min"': '"max"',
        'protected = ["judge.py"]': "protected = []",
        '"train.py"]\neditable': '"train.py", "--fast"]\neditable',
    }
    for old, new in changes.items():
        assert old in sound
        lab.commit(autoresearch_toml=sound.replace(old, new))
        said = lab.refused("run", "--experiments", 2)
        assert "--new" in said and "undo the change" in said and "autoresearch.toml" in said
    before = lab.log()
    lab.commit(autoresearch_toml=sound)
    lab.run("--experiments", 2)
    assert lab.log()[: len(before)] == before


def test_change_that_leaves_results_comparable(lab: Lab) -> None:
    """Researchers, limits and the judge's names for things may change within a campaign."""
    lab.run("--experiments", 1)
    before = lab.log()
    lab.configure(lab='name = "another name"', campaign="lookahead = 0\nexperiments = 2", rest=lab.agent())
    lab.commit()
    lab.run()
    after = lab.log()
    assert after[: len(before)] == before
    assert after[-1]["researcher"] == "agent"


def test_a_campaign_is_judged_by_the_rule_it_began_with(make_lab: MakeLab) -> None:
    """Another rule, or another default, in the lab file is for new campaigns, and the first line says so.

    The ledger is brought back to version 1 in between, as a campaign of an earlier release has it.
    """
    lab = make_lab(campaign='policy = "greedy"')
    lab.run("--experiments", 1)
    with contextlib.closing(sqlite3.connect(lab.root / ".autoresearch" / "ledger.db")) as ledger:
        ledger.executescript("ALTER TABLE run DROP COLUMN split; PRAGMA user_version = 1")
    lab.configure()
    lab.commit()
    said = lab.run("--experiments", 3).stdout

    assert "judge greedy (as it began; the lab file's belief is for new campaigns)" in said
    assert not [e for e in lab.log() if "policy" in e["evidence"]]
    with contextlib.closing(sqlite3.connect(lab.root / ".autoresearch" / "ledger.db")) as ledger:
        ledger.execute("UPDATE campaign SET policy = 'oracle'")
        ledger.commit()
    assert "no policy is called 'oracle'" in lab.refused("run", "--experiments", 4)


def test_new_begins_from_the_last_commit(lab: Lab) -> None:
    """`--new` begins a campaign of another name at HEAD; the earlier one can still be gone on with by its name."""
    lab.run("--experiments", 1, "--campaign", "first")
    head = lab.commit(train_py=(lab.root / "train.py").read_text() + "# mine\n")
    lab.run("--experiments", 1, "--new")
    assert lab.log()[0]["commit"] == head
    lab.run("--experiments", 2, "--campaign", "first")
    assert len([e for e in lab.log("--campaign", "first") if e["runs"]]) == 3
    assert "leave out --new" in lab.refused("run", "--new", "--campaign", "first")


def test_limit_below_what_is_there(lab: Lab) -> None:
    """A limit that was passed long ago says so and changes nothing."""
    lab.run("--experiments", 3)
    before = lab.log()
    done = lab.run("--experiments", 2)
    assert "there are 3 experiments, and the limit is 2" in done.stdout
    assert lab.log() == before


def test_time_limit(make_lab: MakeLab) -> None:
    """`--hours` begins nothing new when it is over, lets what runs be judged, and says so."""
    lab = make_lab(train="import time\ntime.sleep(0.3)\nX = 1.0\nprint(f'METRIC loss={X}')\n")
    done = lab.run("--hours", 1 / 3600)
    assert "session are over" in done.stdout
    assert all(run["result"] for e in lab.log() for run in e["runs"])
