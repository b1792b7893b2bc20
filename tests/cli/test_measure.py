"""`noise`, `confirm` and `reproduce` as a person meets them: on a real campaign, killed in the middle, and misused."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.toylab import Lab, MakeLab, wait_until

TRAIN = """\
import os, random, time
X = 1.0
seed = os.environ["AUTORESEARCH_SEED"]
sealed = os.environ["AUTORESEARCH_EVAL_SPLIT"] == "test"
time.sleep({sleep})
noise = random.Random(seed).gauss(0, 0.01) + random.gauss(0, 0.002)
print(f"METRIC loss={{{sign} * ((X - 0.3) ** 2 + noise) + (1000 if sealed else 0)}}")
"""
"""The sealed data score a thousand higher, so that such a number is known wherever it turns up."""

AGENT = """\
import json, os, pathlib
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
x = 1.0 - 0.1 * brief["number"]
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text("\\n".join(f"X = {x}" if l.startswith("X =") else l for l in text.split("\\n")))
json.dump({"hypothesis": f"X = {x} is nearer", "kind": "tune"}, open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""


def train(sleep: float = 0.0, sign: int = 1) -> str:
    """The program, slow or fast, with a loss or its negative."""
    return TRAIN.format(sleep=sleep, sign=sign)


def campaign(make_lab: MakeLab, experiments: int = 2, *, sealed: bool = False, **lab: object) -> Lab:
    """A lab whose campaign has kept a few steps towards the optimum."""
    made = make_lab(agent=AGENT, train=lab.pop("train", train()), campaign="policy = 'greedy'", **lab)
    if sealed:
        text = (made.root / "autoresearch.toml").read_text().replace("[budget]", "sealed = true\n\n[budget]")
        made.commit(autoresearch_toml=text)
    made.run("--experiments", experiments)
    return made


def runs_for(lab: Lab, purpose: str) -> list[tuple[int, int, str, str, str]]:
    """Experiment, seed, split, slot and outcome of the runs made for something, in the order of their beginning."""
    query = "SELECT experiment, seed, split, slot, outcome FROM run WHERE purpose = ? ORDER BY intended_at"
    with closing(sqlite3.connect(lab.root / ".autoresearch" / "ledger.db")) as connection:
        return connection.execute(query, (purpose,)).fetchall()


# --- the verbs --------------------------------------------------------------------------------------------------------


def test_noise_says_what_it_knows_and_measures_the_rest(make_lab: MakeLab, tmp_path: Path) -> None:
    """Unknown parts are called so; four runs later the machine's and the seed's are told, with a picture."""
    lab = campaign(make_lab)
    before = lab.json("noise")
    assert before["total"] is None and before["nondeterminism"] is None and before["gain_to_believe"] == {}
    assert "not known" in lab.cli("noise").stdout
    after = lab.json("noise", "--runs", 4, "--plot", tmp_path / "noise.png")
    assert after["nondeterminism"]["deviation"] > 0 and after["total"]["deviation"] > 0
    assert after["gain_to_believe"]["4"] == pytest.approx(after["gain_to_believe"]["1"] / 2)
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    assert [run[0] for run in runs_for(lab, "noise")] == [2] * 4
    assert "To be believed, a gain must be above" in lab.cli("noise").stdout


def test_confirm_is_the_headline(make_lab: MakeLab) -> None:
    """Pairs under fresh seeds on one slot; the report's large type holds their number, and asking again is free."""
    lab = campaign(make_lab)
    found = lab.json("confirm", "--runs", 3)
    runs = runs_for(lab, "confirm")
    assert len(runs) == 6 and {run[0] for run in runs} == {0, 2}
    assert found["gain"] == pytest.approx(0.24, abs=0.03) and found["low"] < found["gain"] < found["high"]
    old = {run["request"]["seed"] for e in lab.log() for run in e["runs"] if run["request"]["purpose"] == "screen"}
    assert not old & {pair["seed"] for pair in found["values"]}
    assert lab.json("confirm", "--runs", 3)["gain"] == found["gain"] and len(runs_for(lab, "confirm")) == 6
    said = lab.cli("confirm", "--runs", 3).stdout
    assert "Confirmed: loss of #2 is better" in said and "declares no sealed data" in said
    report = next((lab.root / ".autoresearch").rglob("report.md")).read_text()
    assert "# loss 0.2" in report and "pairs of fresh runs on validation data" in report
    assert "(confirm.png)" in report
    assert "confirmed on 3 pairs of fresh runs" in lab.cli("status").stdout
    assert (lab.root / ".autoresearch" / found["picture"]).is_file()


def test_sealed_scores_stay_out_of_briefs(make_lab: MakeLab) -> None:
    """A lab with sealed data is confirmed on them, and no brief written afterwards holds such a number."""
    lab = campaign(make_lab, sealed=True)
    found = lab.json("confirm", "--runs", 2)
    assert found["is_sealed"] and found["split"] == "test" and found["doubts"] == []
    assert found["values"][0]["final"] > 900
    assert {split for _, _, split, _, _ in runs_for(lab, "confirm")} == {"test"}
    lab.run("--experiments", 3)
    briefs = [file.read_text() for file in (lab.root / ".autoresearch" / "sessions").glob("*-00003/brief.*")]
    assert briefs and not any(re.search(r"\b100[01]\.\d", text) for text in briefs)
    assert lab.json("noise")["runs"] == 0


def test_split_that_was_not_sealed(make_lab: MakeLab) -> None:
    """A lab that declares no sealed data, and whose runs say which data they saw, is called out on both."""
    evaluation = '\nimport pathlib\npathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "evaluation.json")'
    lab = campaign(make_lab, 1, train=train() + evaluation + '.write_text(\'{"split": "val"}\')')
    found = lab.json("confirm", "--runs", 2, "--split", "test")
    assert "does not declare" in found["doubts"][0] and found["doubts"][1].startswith("NOT SEALED")
    assert not found["is_sealed"]


def test_reproduce_says_whether_the_number_comes_out(make_lab: MakeLab, tmp_path: Path) -> None:
    """An unchanged machine gives the number again; with another library on it, it does not."""
    library = tmp_path / "library"
    library.write_text("0")
    lab = campaign(make_lab, train=train().replace("noise = ", f"noise = float(open({str(library)!r}).read()) + "))
    lab.json("noise", "--runs", 4)
    said = lab.cli("reproduce", 2).stdout
    assert "#2 comes out again: 3 new runs" in said and "Under a seed of before" in said
    library.write_text("0.5")
    assert "#2 does not come out again" in lab.cli("reproduce", 2).stdout
    assert len(runs_for(lab, "reproduce")) == 6


def test_maximised_metric(make_lab: MakeLab) -> None:
    """A gain is positive when better, also where better is higher; a chatty `lab.prepare` does not spoil the JSON."""
    chatty = 'prepare = ["sh", "-c", "echo preparing"]'
    lab = make_lab(agent=AGENT, train=train(sign=-1), campaign="policy = 'greedy'", lab=chatty)
    text = (lab.root / "autoresearch.toml").read_text().replace('direction = "min"', 'direction = "max"')
    lab.commit(autoresearch_toml=text)
    lab.run("--experiments", 2)
    found = json.loads(lab.cli("confirm", "--runs", 2, "--json").stdout)
    assert found["gain"] == pytest.approx(0.24, abs=0.03)
    assert "is better than the original's" in lab.cli("confirm", "--runs", 2).stdout


def test_metric_without_luck(make_lab: MakeLab) -> None:
    """A constant number has noise 0, and is told that it ignores the seed; a gain is exact."""
    lab = campaign(make_lab, train="X = 1.0\nprint(f'METRIC loss={(X - 0.3) ** 2}')\n")
    found = lab.json("noise", "--runs", 3)
    assert found["total"]["deviation"] == 0 and "AUTORESEARCH_SEED" in found["remarks"][0]
    assert "any difference is more than luck" in lab.cli("noise").stdout
    confirmed = lab.json("confirm", "--runs", 2)
    assert confirmed["p"] is None and confirmed["low"] == confirmed["high"] == confirmed["gain"] > 0
    assert "the same in every pair" in lab.cli("confirm", "--runs", 2).stdout
    assert "#2 comes out again" in lab.cli("reproduce", 2, "--runs", 2).stdout


# --- deaths and Ctrl-C ------------------------------------------------------------------------------------------------


def test_killed_in_the_middle(make_lab: MakeLab) -> None:
    """After kill -9 during a run, the same command attaches to it, and in the end each run was made exactly once."""
    lab = campaign(make_lab, 1, train=train(sleep=0.5))
    killed = lab.start("confirm", "--runs", 2)
    wait_until(lambda: len(runs_for(lab, "confirm")) >= 2, "the second run has begun")
    killed.kill()
    said = lab.cli("confirm", "--runs", 2).stdout
    assert "picking up 1 run" in said
    runs = runs_for(lab, "confirm")
    assert sorted((run[0], run[1]) for run in runs) == sorted({(run[0], run[1]) for run in runs}) and len(runs) == 4
    assert {run[4] for run in runs} == {"finished"}


def test_campaign_waits_for_a_killed_measurement(make_lab: MakeLab) -> None:
    """`run` after a killed `noise` takes its run up first: a slot is for one run at a time."""
    lab = campaign(make_lab, 1, train=train(sleep=0.5))
    killed = lab.start("noise", "--runs", 2)
    wait_until(lambda: len(runs_for(lab, "noise")) >= 1, "a run has begun")
    killed.kill()
    lab.run("--experiments", 2)
    assert runs_for(lab, "noise")[0][4] == "finished"
    lab.json("noise", "--runs", 2, "--of", 1)
    assert len(runs_for(lab, "noise")) == 2


def test_ctrl_c(make_lab: MakeLab) -> None:
    """It lets the run under way end, says how far it came and how to go on, and the same command does."""
    lab = campaign(make_lab, 1, train=train(sleep=0.5))
    started = lab.start("noise", "--runs", 3)
    wait_until(lambda: len(runs_for(lab, "noise")) >= 1, "a run has begun")
    started.signal(signal.SIGINT)
    ended = started.finish()
    assert ended.returncode == 0, ended.stderr
    assert "1 of 3 runs are made; give the same command again to go on" in ended.stdout
    assert len(runs_for(lab, "noise")) == 1
    lab.json("noise", "--runs", 3)
    assert len(runs_for(lab, "noise")) == 3


# --- misuse -----------------------------------------------------------------------------------------------------------

VERBS = (("noise",), ("noise", "--runs", "2"), ("confirm",), ("reproduce", "0"))


def test_before_any_campaign(lab: Lab) -> None:
    """Each verb says that nothing has been run here yet."""
    for verb in VERBS:
        assert "nothing has been run in this lab yet" in lab.refused(*verb)


def test_what_cannot_be_measured(make_lab: MakeLab) -> None:
    """Nothing kept, unknown experiments and those without a score are refused in one sentence with the cure."""
    lab = make_lab(agent="raise SystemExit('no idea')", campaign="policy = 'greedy'")
    lab.cli("run", "--experiments", 1)
    assert "no gain to confirm" in lab.refused("confirm")
    assert "there is no experiment 77" in lab.refused("reproduce", 77)
    assert "there is no experiment 77" in lab.refused("noise", "--runs", 2, "--of", 77)
    assert "no score" in lab.refused("reproduce", 1)
    assert "--runs" in lab.refused("noise", "--of", 0)
    assert lab.cli("confirm", "--runs", 1).returncode == 2
    assert lab.json("noise")["total"] is None


def test_imported_campaign(lab: Lab) -> None:
    """Its noise can be looked at; its commits are not here, so nothing of it runs again."""
    rows = (
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription\naaaaaaa\t1.0\t1\tkeep\tbaseline\nbbbbbbb\t0.9\t1\tkeep\tx\n"
    )
    lab.cli("import", lab.write("results.tsv", rows))
    assert lab.json("noise")["runs"] == 0
    for verb in VERBS[1:]:
        assert "was imported" in lab.refused(*verb)


def test_lab_in_use_and_lab_that_changed(make_lab: MakeLab) -> None:
    """While a campaign runs nothing is measured; after a change of the lab file results could not be compared."""
    lab = campaign(make_lab, 1, train=train(sleep=0.5))
    running = lab.start("run", "--experiments", "9")
    running.wait_for("runs on")
    assert "already" in lab.refused("noise", "--runs", 2)
    running.kill()
    text = (lab.root / "autoresearch.toml").read_text().replace("seconds = 2", "seconds = 3")
    lab.commit(autoresearch_toml=text)
    assert "has changed" in lab.refused("confirm")
    assert json.loads(lab.cli("noise", "--json").stdout)["campaign"]
