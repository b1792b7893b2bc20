"""What an agent can read where it works: no sealed score, no score to the last digit."""

from __future__ import annotations

import json

from tests.cli.toylab import MakeLab

TRAIN = """\
import os, random
X = 1.0
noise = random.Random(os.environ["AUTORESEARCH_SEED"] + str(X)).gauss(0, 0.01)
sealed = 770 if os.environ["AUTORESEARCH_EVAL_SPLIT"] == "test" else 0
print(f"METRIC loss={sealed + (X - 0.3) ** 2 + noise}")
"""

AGENT = """\
import json, os, pathlib, random, subprocess, sys
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
x = round(random.Random(brief["number"]).uniform(0, 1), 1)
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text("\\n".join(f"X = {x}" if l.startswith("X =") else l for l in text.split("\\n")))
json.dump({"hypothesis": f"X = {x} is nearer", "kind": "tune", "touches": ["X"]},
          open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
session = pathlib.Path(os.environ["AUTORESEARCH_BRIEF"]).parent
seen = [sys.stdin.read(), str(dict(os.environ))]
seen += [file.read_text(errors="replace") for place in (session, pathlib.Path()) for file in place.rglob("*")
         if file.is_file()]
seen.append(subprocess.run(["git", "log", "--all", "--notes", "-p"], capture_output=True, text=True).stdout)
with open(pathlib.Path(__file__).with_name("seen.txt"), "a") as out:
    out.write("\\n".join(seen))
"""


def test_an_agent_finds_rounded_validation_scores_and_nothing_else(make_lab: MakeLab) -> None:
    """Its worktree, its session's folder, its environment and git's history, read whole in every session."""
    lab = make_lab(train=TRAIN, agent=AGENT, campaign="audit_every = 1")
    path = lab.root / "autoresearch.toml"
    text = path.read_text().replace('source = "metric"', 'source = "metric"\nsealed = true')
    path.write_text(text.replace("baseline_runs = 1", "baseline_runs = 2"))
    lab.commit()
    lab.run("--experiments", 6)
    runs = [run for e in lab.log() for run in e["runs"]]
    by_split = {
        split: [run["result"]["metric"] for run in runs if run["request"]["split"] == split]
        for split in ("val", "test")
    }
    seen = (lab.root.parent / "seen.txt").read_text()
    assert len(by_split["test"]) >= 4 and min(by_split["test"]) > 700
    assert not [score for score in by_split["test"] if str(score)[:5] in seen]
    assert not [score for score in by_split["val"] if str(score)[:8] in seen]
    assert '"purpose": "audit"' not in seen and '"gain"' in seen
    assert json.dumps(by_split["val"][0])[:4] in seen, "the rounded score is there"
