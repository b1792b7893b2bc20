"""`ablate` and `retest` on a real lab: what a person sees, and that kills and repeats change nothing."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch.domain.run import seed_of
from autoresearch.testing.audit import audit
from tests.cli.toylab import Lab, MakeLab

TRAIN = """\
import os, random
X = 1.0
Y = 1.0
USE_SMEAR = True
noise = random.Random(os.environ["AUTORESEARCH_SEED"]).gauss(0, 0.001)
print(f"METRIC loss={(X - 0.3) ** 2 + (Y - 0.3) ** 2 - 0.1 * USE_SMEAR + noise}")
print(f"METRIC speed={1000 * (2 - Y)}")
"""

AGENT = """\
import json, os, pathlib
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
name, value = [("X", 0.4), ("X", 0.45), ("Y", 0.4), ("Y", 0.8)][(brief["number"] - 1) % 4]
text = pathlib.Path("train.py").read_text()
text = "\\n".join(f"{name} = {value}" if line.startswith(f"{name} =") else line for line in text.split("\\n"))
pathlib.Path("train.py").write_text(text)
json.dump({"hypothesis": f"{name} = {value}", "kind": "tune", "touches": [name]},
          open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""
"""#1 and #3 are kept, #2 and #4 are not."""

SWITCHES = "switches = { USE_SMEAR = false }"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The folder of a lab with four decided experiments; copied for each test."""
    lab = Lab(tmp_path_factory.mktemp("derive") / "lab", environment)
    lab.git("init", "-q", "-b", "main")
    lab.configure(lab=SWITCHES, campaign="retest_share = 0.0", rest=lab.agent(AGENT))
    lab.commit(train_py=TRAIN, judge_py="JUDGE = 1\n", program_md="Lower loss.\n")
    lab.run("--experiments", 4, "--campaign", "night")
    assert [e["verdict"] for e in lab.log()] == ["keep", "keep", "discard", "keep", "discard"]
    return lab.root


@pytest.fixture
def lab(finished: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[Lab]:
    """A copy of it."""
    lab = Lab(tmp_path / "lab", environment)
    shutil.copytree(finished, lab.root, symlinks=True, dirs_exist_ok=True)
    yield lab
    lab.clean_up()


def rows(said: str) -> list[str]:
    """The lines of the table, without the changing numbers."""
    lines = said.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("part "))
    return lines[start + 1 :]


def test_ablate_ranks_parts_and_draws_them(lab: Lab) -> None:
    """Each kept change and each component is taken away once; the table, the picture and the report say what for."""
    before = lab.fingerprint()

    done = lab.cli("ablate")
    assert (done.returncode, done.stderr) == (0, "")
    parts = [row.split()[0] for row in rows(done.stdout)[:3]]
    assert (set(parts[:2]), parts[2]) == ({"#1", "#3"}, "USE_SMEAR")
    assert "everything that was asked for is measured" in done.stdout

    folder = lab.root / ".autoresearch/campaigns/night"
    assert (folder / "contributions.png").stat().st_size > 10_000
    assert "What each part is worth" in (folder / "report.md").read_text()
    made = lab.log()[5:]
    assert [(e["researcher"], e["proposal"]["kind"], e["verdict"]) for e in made] == [
        ("ablate", "ablation", "discard")
    ] * 3
    assert audit(lab.root, "night") == []
    assert lab.fingerprint() == before


def test_ablate_measures_nothing_twice(lab: Lab) -> None:
    """A second call prints the same; more runs are new experiments with as many runs of the incumbent too."""
    lab.cli("ablate", 1)
    found = lab.json("ablate", 1)
    assert len(lab.log()) == 6
    assert lab.json("ablate", "--list")["rows"] == found["rows"]

    [row] = [row for row in lab.json("ablate", 1, "--runs", 3)["rows"] if row["keep"] == 1]
    assert (row["runs"], row["incumbent_runs"], row["verdict"]) == (3, 3, "earns its place")
    assert row["low"] < row["cost"] < row["high"]
    assert len(lab.log()) == 7


def test_a_keep_that_was_luck_is_taken_out(make_lab: MakeLab) -> None:
    """It won under the first seed alone. Removals of the newest keep are measured under fresh seeds, both sides."""
    train = TRAIN.replace(
        "noise = ",
        f'luck = -0.5 if os.environ["AUTORESEARCH_SEED"] == "{seed_of(7, 0)}" else 0.2\nnoise = (Y != 1.0) * luck + ',
    )
    agent = AGENT.replace('("X", 0.4)', '("Y", 0.999)')
    lab = make_lab(train=train, agent=agent, campaign='policy = "greedy"')  # `belief` would not have kept it
    lab.run("--experiments", 1, "--campaign", "night")
    assert lab.log()[1]["verdict"] == "keep"

    [row] = lab.json("ablate")["rows"]
    removal = lab.log()[2]
    assert (row["is_removed"], row["verdict"], row["cost"] < -0.1) == (True, "removed by #2", True)
    assert [run["request"]["seed"] for run in removal["runs"]] == [seed_of(7, 1)]
    assert lab.git("rev-parse", "autoresearch/night") == removal["commit"]
    assert lab.git("show", "autoresearch/night:train.py") == train.strip()
    assert lab.refused("ablate", 1).startswith("#1 is gone already, #2 took it away")
    assert audit(lab.root, "night") == []


def test_retest_applies_a_discard_to_the_incumbent_of_now(lab: Lab) -> None:
    """Its own change on top of what was kept since, judged against that; once for each line."""
    done = lab.cli("retest", 2)
    assert done.returncode == 0, done.stderr
    look = lab.log()[-1]
    assert (look["proposal"]["kind"], look["proposal"]["of"], look["researcher"]) == ("retest", 2, "retest")
    assert (look["constants"]["X"], look["constants"]["Y"]) == (0.45, 0.4)
    assert f"#2 again is #{look['number']}: discard:" in done.stdout

    [again] = lab.json("retest", 2, 2)["retests"]
    assert (again["experiment"], again["verdict"]) == (look["number"], "discard")
    assert audit(lab.root, "night") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ablate", 0], "#0 is the untouched lab: there is nothing to take away from it"),
        (["ablate", 2], "#2 was not kept (discard), so the program does not contain it"),
        (["ablate", 77], "there is no experiment 77: give a number from 0 to 4"),
        (["retest", 0], "#0 is the untouched lab, not a change: name a discarded experiment"),
        (["retest", 1], "#1 was kept and the program contains it: there is nothing to try again"),
        (["ablate", "--campaign", "day"], "there is no campaign 'day'; there is: night"),
    ],
)
def test_what_cannot_be_asked_is_refused(lab: Lab, arguments: list[object], sentence: str) -> None:
    """In one sentence, and without a trace."""
    before = lab.log()
    assert lab.refused(*arguments).startswith(sentence)
    assert lab.log() == before


def test_imported_campaigns_have_no_commits(lab: Lab, tmp_path: Path) -> None:
    """Their changes are not in this repository."""
    file = tmp_path / "old.tsv"
    file.write_text("commit\tval_bpb\tmemory_gb\tstatus\tdescription\nabc1234\t1.0\t1.0\tkeep\tbaseline\n")
    assert lab.cli("import", file).returncode == 0
    for verb in ("ablate", "retest"):
        said = lab.refused(verb, 0, "--campaign", "old")
        assert said == "campaign 'old' was imported: its commits are not in this repository, so none can be run again"


def test_switches_are_checked_before_anything_runs(make_lab: MakeLab) -> None:
    """A misspelt constant costs no run."""
    lab = make_lab(train=TRAIN, agent=AGENT, lab="switches = { USE_SMEER = false }")
    lab.run("--experiments", 1)
    assert "lab.switches names 'USE_SMEER', which is no upper-case constant" in lab.refused("ablate")


def test_nothing_kept_and_no_switches(make_lab: MakeLab) -> None:
    """Then there is nothing to take away, and the sentence says what to do."""
    lab = make_lab(train=TRAIN, agent=AGENT.replace("0.4)", "1.4)"))
    lab.run("--experiments", 1)
    assert "there is nothing to take away: go on with `autoresearch run` first" in lab.refused("ablate")


@pytest.mark.parametrize("when", ["runs on", "discard"])
def test_a_killed_ablation_goes_on(lab: Lab, when: str) -> None:
    """Killed while a removal runs, or after a verdict: the same command makes what is missing."""
    started = lab.start("ablate", "--runs", 2, "--plain")
    started.wait_for(when)
    started.signal(signal.SIGKILL)
    started.kill()

    assert lab.cli("ablate", "--runs", 2, "--plain").returncode == 0
    made = lab.log()[5:]
    assert sorted((e["proposal"]["of"] or 0) for e in made) == [0, 1, 3]
    assert all(len([run for run in e["runs"] if run["result"]["metric"] is not None]) == 2 for e in made)
    assert audit(lab.root, "night") == []


def test_a_campaign_prunes_by_itself(make_lab: MakeLab) -> None:
    """After two keeps both are taken away once, between the fresh ideas, and count as experiments."""
    lab = make_lab(train=TRAIN, agent=AGENT, campaign="prune_every = 2\nretest_share = 0.0")
    lab.run("--experiments", 7, "--campaign", "night")  # one more than it takes: an idea may already be under way
    pruned = [e["proposal"]["of"] for e in lab.log() if e["researcher"] == "pruning"]
    assert sorted(pruned) == [1, 3]
    assert audit(lab.root, "night") == []


def test_a_campaign_tries_near_misses_again(make_lab: MakeLab) -> None:
    """#2 lost by little when runs were slow; since #3 they are faster, so it gets a second look."""
    train = TRAIN.replace("gauss(0, 0.001)", "gauss(0, 0.02)")
    lab = make_lab(train=train, agent=AGENT, campaign="prune_every = 0\nretest_share = 0.5\nlookahead = 0")
    text = (lab.root / "autoresearch.toml").read_text()
    lab.commit(autoresearch_toml=text.replace("baseline_runs = 1", "baseline_runs = 3"))
    lab.run("--experiments", 4, "--campaign", "night")
    looks = [e for e in lab.log() if e["researcher"] == "retest"]
    assert [e["proposal"]["of"] for e in looks] == [2]
    assert "since then:" in looks[0]["proposal"]["hypothesis"] and "speed" in looks[0]["proposal"]["hypothesis"]
