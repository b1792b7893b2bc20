"""`autoresearch run --rotate`: the best program goes on with validation data that no decision has touched."""

from __future__ import annotations

from tests.cli.toylab import Lab, MakeLab

TRAIN = """\
import os
X = 1.0
print(f"METRIC loss={(X - 0.3) ** 2 + 10 * int(os.environ['AUTORESEARCH_EVAL_ROTATION'])}")
"""


def _rotating(make_lab: MakeLab, rotations: int) -> Lab:
    lab = make_lab()
    lab.write("train.py", TRAIN)
    path = lab.root / "autoresearch.toml"
    path.write_text(path.read_text().replace('source = "metric"', f'source = "metric"\nrotations = {rotations}'))
    lab.commit()
    return lab


def test_a_new_campaign_starts_from_the_best_commit_on_the_next_set(make_lab: MakeLab) -> None:
    """Its baseline is the old incumbent, scored on other data; the first campaign's own branch stays."""
    lab = _rotating(make_lab, 2)
    lab.run("--experiments", 4)
    first = lab.json("status")["campaign"]
    best = lab.git("rev-parse", f"autoresearch/{first}")
    done = lab.run("--rotate", "--experiments", 1)
    assert "is scored on validation set 2 of 2" in done.stdout and best[:8] in done.stdout
    baseline = lab.log()[0]
    assert baseline["commit"] == best and baseline["runs"][0]["result"]["metric"] >= 10
    assert lab.json("status")["campaign"] != first and lab.git("rev-parse", f"autoresearch/{first}") == best


def test_it_goes_on_with_the_set_that_it_began_with(make_lab: MakeLab) -> None:
    """Plain `run` resumes the newest campaign, whatever the lab file says of new ones."""
    lab = _rotating(make_lab, 2)
    lab.run("--experiments", 1)
    lab.run("--rotate", "--experiments", 1)
    lab.run("--experiments", 2)
    scores = [run["result"]["metric"] for e in lab.log() for run in e["runs"]]
    assert len(scores) >= 3 and min(scores) >= 10


def test_no_further_data_is_said_in_one_sentence(make_lab: MakeLab) -> None:
    """After the last set, and where there is but one, and before anything was measured."""
    lab = _rotating(make_lab, 1)
    assert "no campaign has run in this lab yet" in lab.refused("run", "--rotate")
    lab.run("--experiments", 1)
    said = lab.refused("run", "--rotate")
    assert "one set of validation data" in said and "metric.rotations" in said
    assert "leave out --new" in lab.refused("run", "--rotate", "--new")
