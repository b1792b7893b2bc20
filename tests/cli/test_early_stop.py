"""A hopeless candidate in a whole campaign: ended early, discarded with a sentence, and never a score."""

import pytest

TRAIN = """\
import json, math, os, random, time
X = 0.5
noise = random.Random(os.environ["AUTORESEARCH_SEED"]).gauss(0, 0.001)
loss = (X - 0.3) ** 2 + noise
out = open(os.environ["AUTORESEARCH_RUN_DIR"] + "/progress.jsonl", "a")
for i in range(1, 51):
    f = i / 50
    out.write(json.dumps({"fraction": f, "steps": i, "value": loss + 0.5 * math.exp(-9 * f)}) + "\\n")
    out.flush()
    if X > 5 and f == 0.8:
        time.sleep(60)
print(f"METRIC loss={loss}")
"""

AGENT = """\
import json, os, pathlib
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
number = brief["number"]
x = 9.0 if number == 14 else 0.4 + number / 100
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text("\\n".join(f"X = {x}" if l.startswith("X =") else l for l in text.split("\\n")))
json.dump({"hypothesis": f"X = {x}", "kind": "tune", "touches": ["X"]}, open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""


@pytest.fixture
def lab(make_lab):
    """Fourteen candidates, of which the last is hopeless and would go on for a minute."""
    lab = make_lab()
    lab.configure(rest=lab.agent(AGENT), campaign="lookahead = 0")
    lab.commit(train_py=TRAIN)
    return lab


def test_a_hopeless_candidate_is_discarded_with_what_was_seen(lab):
    """It has no score, the incumbent stays, and the campaign goes on."""
    lab.run("--experiments", 14)
    last = lab.log()[14]
    assert (last["verdict"], last["score"]) == ("discard", None)
    assert last["reason"].startswith("stopped early: It reported ") and "not measured" in last["reason"]
    assert lab.outcome_of(14)[0] == "stopped_early"
