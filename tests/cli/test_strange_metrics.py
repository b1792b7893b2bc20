"""Metrics that no textbook has in mind, through every verb: no traceback, no number that is none, no empty claim."""

import re

import pytest

from tests.cli.toylab import MakeLab

PROGRAM = """\
import os, random
X = 1.0
r = random.Random(os.environ["AUTORESEARCH_SEED"])
d = (X - 0.3) ** 2
g = r.gauss(0, 0.05)
{body}
"""

METRIC = 'print(f"METRIC loss={{({value})!r}}")'

WORSE = [2.0, -1.0]
BETTER = [0.3]

AGENT = """\
import json, os, pathlib, re
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
x = {values}[(brief["number"] - 1) % {count}]
path = pathlib.Path("train.py")
path.write_text(re.sub("^X = .*$", f"X = {{x}}", path.read_text(), flags=re.M))
json.dump({{"hypothesis": f"X = {{x}}", "kind": "tune"}}, open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""

NO_NUMBER = re.compile(r"\bnan\b|Traceback|e[+-]3\d\d\b", re.IGNORECASE)

LABS = {
    "constant": ("min", METRIC.format(value="0.5"), False),
    "constant and zero": ("min", METRIC.format(value="0.0"), False),
    "tiny": ("min", METRIC.format(value="1e-9 * (1 + d + g)"), True),
    "huge, maximised": ("max", METRIC.format(value="1e9 * (5 - d + g)"), True),
    "ties": ("max", METRIC.format(value="round(10 - 20 * d + 10 * g)"), True),
    "heavy tails": ("min", METRIC.format(value="1 + d + 0.02 * g / max(abs(r.gauss(0, 1)), 1e-3)"), True),
    "infinite": ("min", METRIC.format(value="float('inf') if X != 1.0 else d + g"), False),
    "missing": ("min", "if X == 1.0:\n    " + METRIC.format(value="d + g"), False),
    "one run only": ("min", METRIC.format(value="1 + d + g"), True),
}


@pytest.mark.parametrize("name", LABS)
def test_a_strange_metric_is_measured_and_told_without_an_empty_claim(make_lab: MakeLab, name: str):
    """What is better by far is kept, confirmed and worth its place; where nothing can be better, nothing is kept."""
    direction, body, can_win = LABS[name]
    values = [*WORSE[:1], *BETTER, *WORSE[1:]]
    lab = make_lab()
    runs = 1 if name == "one run only" else 3
    lab.configure(rest=lab.agent(AGENT.format(values=values, count=len(values))))
    text = (lab.root / "autoresearch.toml").read_text(encoding="utf-8")
    text = text.replace('direction = "min"', f'direction = "{direction}"')
    lab.write("autoresearch.toml", text.replace("baseline_runs = 1", f"baseline_runs = {runs}"))
    lab.commit(train_py=PROGRAM.format(body=body))
    said = [lab.run("--experiments", 3).stdout]
    kept = {each["number"] for each in lab.log() if each["verdict"] == "keep"} - {0}
    assert kept == ({2} if can_win else set()), said

    wants = {"noise": 0, "confirm": 0 if can_win else 2, "ablate": 0 if can_win else 2, "status": 0, "log": 0}
    options = {"noise": ("--runs", 2), "confirm": ("--runs", 3)}
    for verb, code in wants.items():
        done = lab.cli(verb, *options.get(verb, ()))
        assert done.returncode == code, (verb, done)
        said += [done.stdout, done.stderr]
    said += [lab.cli("show", number).stdout for number in (1, 2)]
    lab.cli("report")
    said.append(next(lab.root.glob(".autoresearch/campaigns/*/report.md")).read_text(encoding="utf-8"))
    assert not [text for text in said if NO_NUMBER.search(text)]
    assert any("onfirmed: loss of #2 is better" in text for text in said) == can_win
    assert any("Identical runs gave identical numbers" in text for text in said) == name.startswith("constant")
