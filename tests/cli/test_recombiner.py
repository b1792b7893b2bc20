"""The recombiner in a whole campaign, and the record of who contributed what."""

from __future__ import annotations

import pytest

from tests.cli.toylab import Lab, MakeLab

TRAIN = """\
import os, random
A = 1.0


B = 1.0
noise = random.Random(os.environ["AUTORESEARCH_SEED"]).gauss(0, 0.1)
print(f"METRIC loss={A + B + noise}")
"""

AGENT = """\
import json, os, pathlib
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
name = "AB"[brief["number"] % 2]
path = pathlib.Path("train.py")
text = path.read_text()
assert brief["operator"]["asked"]
path.write_text(text.replace(f"{name} = 1.0", f"{name} = {0.99 - brief['number'] / 1000}"))
json.dump({"hypothesis": f"less {name}", "kind": "tune", "touches": [name], "expected_effect": 0.01},
          open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""


def team(lab: Lab) -> str:
    """A script that finds small gains, and the recombiner beside it."""
    return lab.agent(AGENT, operators=["tune"]) + '\n[[researcher]]\nkind = "recombiner"\n'


def test_two_near_misses_are_put_together_and_the_record_says_by_whom(make_lab: MakeLab) -> None:
    """One change alone is lost in the noise; the recombiner merges two, in the ledger, in status and in the report."""
    lab = make_lab(train=TRAIN)
    lab.configure(rest=team(lab), campaign='policy = "margin"')
    config = lab.root / "autoresearch.toml"
    config.write_text(config.read_text().replace("baseline_runs = 1", "baseline_runs = 3"))
    lab.commit()
    lab.run("--experiments", 6)

    together = [e for e in lab.log() if e["researcher"] == "recombiner" and e["runs"]]
    assert together
    assert together[0]["operator"] == "combine"
    parts = [int(label[1:]) for label in together[0]["proposal"]["notes"]["stacked"].split()]
    constants = {e["number"]: e["constants"] for e in lab.log()}
    both = constants[together[0]["number"]]
    assert len(parts) == 2
    assert {name: both[name] for name in "AB"} == {
        name: min(constants[part][name] for part in parts) for name in "AB"
    }  # both are below 1 at once
    lines = {line["name"]: line for line in lab.json("status")["summary"]["researchers"]}
    assert lines["recombiner"]["operators"][0]["operator"] == "combine"
    assert lines["agent"]["predictions"] > 0 and lines["agent"]["slot_minutes"] > 0
    said = lab.cli("status").stdout
    assert "Asked for: tune" in said and "recombiner: " in said


def test_the_recombiner_alone_says_what_it_waits_for(make_lab: MakeLab) -> None:
    """Nothing was tried, so there is nothing to put together; no experiment is spent on finding that out."""
    lab = make_lab(train=TRAIN)
    done = lab.run("--researcher", "recombiner")
    assert "recombiner: fewer than two changes nearly helped that were not tried together" in done.stdout
    assert len(lab.log()) == 1


@pytest.mark.parametrize(
    ("operator", "sentence"),
    [
        ("wild", "operators asks the tuner for more than it can, which is to tune: remove it"),
        ("dream", 'operators[1] is \'dream\': use a list out of "tune", "ablate"'),
    ],
)
def test_operators_that_a_researcher_cannot_serve_are_refused(make_lab: MakeLab, operator: str, sentence: str) -> None:
    """The sentence says what it can, and where to change it."""
    lab = make_lab(rest=f'[[researcher]]\nkind = "tuner"\noperators = ["{operator}"]\n')
    assert sentence in lab.refused("run")
