"""Reviews, open ideas and drift as a person meets them: a real campaign with an agent that looks back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch.testing.audit import audit
from tests.cli.toylab import TRAIN, Lab, MakeLab, processes_below, wait_until

AGENT = """\
import json, os, pathlib, random, sys, time
asked = json.load(sys.stdin)
if path := os.environ.get("AUTORESEARCH_REVIEW"):
    while os.path.exists(os.environ["HOME"] + "/slow"):
        time.sleep(0.05)
    json.dump({"summary": "X pays near 0.3 and nowhere else, whatever the seed.", "patterns": ["X towards 0.3"],
               "next_bets": ["clip the noise"], "dead_ends": ["X above 0.9"]}, open(path, "w"))
    sys.exit()
n = asked["number"]
x = round(random.Random(n).uniform(0.2, 0.9), 3)
train = pathlib.Path("train.py")
lines = [f"X = {x}" if line.startswith("X =") else line for line in train.read_text().split("\\n")]
plan = {"hypothesis": f"X = {x} is nearer", "kind": "tune", "touches": ["X"]}
if n == 2:
    plan = {"hypothesis": "share the weights of all layers", "kind": "architecture", "touches": ["noise"]}
if n == 6 and asked["open_ideas"]:
    plan = {"hypothesis": "tie them", "kind": "other", "idea": "e2", "touches": ["tied", "X"]}
    lines.append("tied = True")
train.write_text("\\n".join(lines))
json.dump(plan, open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""
CAMPAIGN = "prune_every = 0\nretest_share = 0\nplateau = 0\nreview_every = 4\n"


def set_up(lab: Lab, *, reviews: bool = True) -> Lab:
    """A lab whose agent looks back after every four verdicts, or whose harness has to."""
    lab.git("init", "-q", "-b", "main")
    lab.configure(campaign=CAMPAIGN, rest=lab.agent(AGENT, reviews=reviews))
    lab.write("judge.py", "JUDGE = 1\n")
    lab.write("program.md", "Lower loss.\n")
    lab.commit(train_py=TRAIN)
    return lab


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Lab]:
    """A campaign of nine experiments with two reviews; #2 dropped its plan, and #6 took it up."""
    lab = set_up(Lab(tmp_path_factory.mktemp("night") / "lab", environment))
    lab.run("--experiments", 9, "--plain")
    yield lab
    lab.clean_up()


def test_what_was_learnt_stands_in_status_report_and_brief(night: Lab) -> None:
    """The newest review wherever somebody looks for how it stands, and in what the next researcher reads."""
    state, brief = night.json("status"), night.json("brief")
    assert (state["review"]["number"], state["review"]["by"]) == (2, "agent")
    assert "Review 2 (by agent, after 8 verdicts): X pays near 0.3" in night.cli("status").stdout
    assert brief["review"]["next_bets"] == ["clip the noise"]
    page = night.cli("brief").stdout
    assert "## What was learnt" in page and "dead end: X above 0.9" in page
    report = next((night.root / ".autoresearch" / "campaigns").glob("*/report.md")).read_text(encoding="utf-8")
    assert "## What was learnt" in report and "## Plans and diffs" in report


def test_a_dropped_plan_is_told_to_its_author_and_waits_until_somebody_takes_it_up(night: Lab) -> None:
    """#2 said one thing and did another: #3's brief says so, `show` and `status` do, and #6 closed the matter."""
    told = json.loads(next((night.root / ".autoresearch" / "sessions").glob("*-00003/brief.json")).read_text())
    assert told["last_plan"].startswith('In #2 you planned "share the weights of all layers" and changed X instead')
    assert [idea["id"] for idea in told["open_ideas"]] == ["e2"]
    shown = night.cli("show", 2).stdout
    assert "declared as architecture, but only constants changed: X" in shown and "its idea is open" in shown
    assert "takes up    the open idea e2" in night.cli("show", 6).stdout
    assert "(#2): see `autoresearch show`" in night.cli("status").stdout
    assert [idea["id"] for idea in night.json("ideas")] == ["r2.1"]
    changed = {e["number"]: (e["changed"], e["drops_idea"]) for e in night.log()}
    assert changed[2] == (["X"], True) and changed[6] == (["X", "(top level)"], False)


def test_reviews_are_read_with_the_journal(night: Lab) -> None:
    """Every entry in its order, for people and for programs, and what they cost."""
    night.cli("note", "the seed matters little", "--by", "Ada")
    entries = night.json("journal")["entries"]
    assert [entry["kind"] for entry in entries] == ["review", "review", "note"]
    assert [entry["verdicts"] for entry in entries[:2]] == [4, 8]
    said = night.cli("journal", "--last", 2).stdout
    assert "review 2, by agent" in said and "Ada noted" in said and "review 1" not in said


def test_people_put_ideas_on_the_list_and_take_them_off(night: Lab) -> None:
    """What a person wants tried is offered first; a wrong id is one sentence."""
    assert night.cli("ideas", "--add", "sort the data", "--by", "Ada").returncode == 0
    assert night.json("brief")["open_ideas"][0] == {"id": "n1", "idea": "sort the data", "by": "Ada"}
    assert "no open idea is called 'e2'" in night.refused("ideas", "--close", "e2")
    assert night.refused("ideas", "--add", " ").startswith("the idea is empty")
    assert night.cli("ideas", "--close", "n1", "--why", "it is sorted").returncode == 0
    assert "sort the data" not in night.cli("ideas").stdout


def test_without_anybody_who_can_write_the_harness_does(make_lab: MakeLab) -> None:
    """A command that does not say `reviews = true` is never asked; the figures are the review, and say so."""
    lab = make_lab(campaign=CAMPAIGN, agent=AGENT)
    lab.run("--experiments", 5, "--plain")
    [review] = lab.json("journal")["entries"]
    assert (review["by"], review["is_computed"], review["verdicts"]) == ("harness", True, 4)
    assert "Review 1 (computed, no model, after 4 verdicts): Of 4 verdicts" in lab.cli("status").stdout


def test_a_review_that_was_killed_is_asked_for_again(tmp_path: Path, environment: dict[str, str]) -> None:
    """After `kill -9`, nobody is left at work, nothing new was begun, and the review is written before it is."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "slow").touch()
    lab = set_up(Lab(tmp_path / "lab", {**environment, "HOME": str(home)}))
    night = lab.start("run", "--experiments", 9, "--plain")
    night.wait_for("reviewing: agent looks back")
    wait_until(lambda: all(each["stage"] == "settled" for each in lab.log()), "the queue is empty")
    time.sleep(0.3)  # long enough for something new to begin, if anything did
    known = len(lab.log())
    night.signal(signal.SIGKILL)
    night.kill()
    (home / "slow").unlink()

    said = lab.run("--experiments", 9, "--plain").stdout
    assert "review 1: agent was interrupted while writing it, so it is asked for again" in said
    assert said.index("review: 1 by agent") < said.index(f"#{known} ")
    wait_until(lambda: not processes_below(lab.root), "nobody is at work")
    assert audit(lab.root, lab.json("status")["campaign"]) == []
