"""`bench/judge/replicates.py`: real runs are resumed, not repeated, and the noise in them is parted rightly."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

JUDGE = Path(__file__).parents[2] / "bench" / "judge"

TOY_PREPARE = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--data-dir") + 1])
folder.mkdir(parents=True)
(folder / "manifest.json").write_text("{}")
"""

TOY_TRAIN = """
import json, os, pathlib, random
RATE = 1.0
seed, steps = (int(os.environ["AUTORESEARCH_" + name]) for name in ("SEED", "MAX_STEPS"))
out = pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"])
out.mkdir(parents=True)
if RATE > 5:
    raise SystemExit("FAIL: the rate is too high")
value = RATE + random.Random(seed).random()
steps = steps or 7
(out / "metrics.json").write_text(json.dumps(
    {"num_steps": steps, "training_seconds": steps / 10, "total_seconds": 1.0, "val_bpb": round(value, 1)}))
(out / "evaluation.json").write_text(json.dumps({"bpb": value}))
"""


@pytest.fixture
def modules(monkeypatch):
    """The two modules, imported as the script imports them."""
    monkeypatch.syspath_prepend(JUDGE)
    import replicates
    import variance

    yield replicates, variance
    for name in ("replicates", "variance"):
        sys.modules.pop(name, None)


@pytest.fixture
def toy(tmp_path, modules):
    """A lab whose runs take milliseconds, and a bench for it."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "prepare.py").write_text(TOY_PREPARE)
    (lab / "train.py").write_text(TOY_TRAIN)
    return modules[0].Bench(tmp_path / "work", tmp_path / "work" / "data", "cpu", 1, 2.0, {}, lab)


def options(tmp_path, seeds=2):
    """What the command line would hold."""
    return argparse.Namespace(out=tmp_path / "out.json", data="stdlib", seeds=seeds, retakes=2, jobs=2, only="")


def study_of(replicates, values):
    """A study with these values, shape (configurations, seeds); the first row is the baseline."""
    names = ["baseline", *(f"change {i}" for i in range(1, len(values)))]
    runs = [
        replicates.Replicate(name, seed, 0, "steps", float(value), 10, 1.0, 2.0)
        for name, row in zip(names, values, strict=True)
        for seed, value in enumerate(row)
    ]
    return replicates.Study({}, {}, dict.fromkeys(names, 10), runs)


def layout(shared, own, count=12, seeds=400, draw=0):
    """Values with luck shared by all configurations under a seed, and luck of their own."""
    rng = np.random.default_rng(draw)
    return rng.normal(0, shared, seeds) + rng.normal(0, own, (count, seeds)) + np.arange(count)[:, None]


def test_runs_already_made_are_not_made_again(modules, toy, tmp_path):
    """A second start with more seeds makes only the new runs, with the steps measured at the first."""
    replicates, _ = modules
    configurations = (replicates.BASELINE, replicates.Configuration("slow", {"RATE": 2.0}, changes_speed=True))
    first = replicates.measure(toy, configurations, options(tmp_path))
    (tmp_path / "work" / "programs" / "slow" / "train.py").unlink()
    again = replicates.measure(toy, configurations, options(tmp_path, seeds=3))
    assert again.runs[: len(first.runs)] == first.runs
    assert len(again.runs) == len(first.runs) + 2
    assert again.steps == first.steps == {"baseline": 20, "slow": 20}


def test_values_are_those_of_the_changed_program_in_full_precision(modules, toy, tmp_path):
    """A configuration's constant reaches the run, and the value is not the rounded one of the summary."""
    replicates, _ = modules
    configurations = (replicates.BASELINE, replicates.Configuration("double", {"RATE": 2.0}))
    names, seeds, values = replicates.measure(toy, configurations, options(tmp_path)).table()
    assert (names, seeds) == (["baseline", "double"], [0, 1])
    assert values[1] - values[0] == pytest.approx([1.0, 1.0], abs=1e-12)
    assert values[0, 0] != round(values[0, 0], 1)


def test_a_run_that_fails_ends_the_study_in_one_sentence_and_loses_nothing(modules, toy, tmp_path):
    """The program's last words are told, and the runs before it are in the file."""
    replicates, _ = modules
    configurations = (replicates.BASELINE, replicates.Configuration("wild", {"RATE": 9.0}))
    with pytest.raises(replicates.UserError, match="wild failed under seed 0: FAIL: the rate is too high"):
        replicates.measure(toy, configurations, options(tmp_path))
    assert replicates.Study.read(tmp_path / "out.json").steps["baseline"] == 20


def test_another_setup_does_not_mix_with_what_was_measured(modules, toy, tmp_path):
    """An edited budget is refused with the name of what differs."""
    from dataclasses import replace

    replicates, _ = modules
    replicates.measure(toy, (replicates.BASELINE,), options(tmp_path))
    with pytest.raises(replicates.UserError, match=r"another setup \(budget_seconds\)"):
        replicates.measure(replace(toy, budget_seconds=3.0), (replicates.BASELINE,), options(tmp_path))


def test_a_study_is_read_as_it_was_written(modules, tmp_path):
    """The file round-trips, and a file of something else is told apart."""
    replicates, _ = modules
    study = study_of(replicates, layout(1, 1, 3, 4))
    study.write(tmp_path / "study.json")
    assert replicates.Study.read(tmp_path / "study.json") == study
    (tmp_path / "other.json").write_text(json.dumps({"runs": [1]}))
    with pytest.raises(replicates.UserError, match="is not a file of replicates"):
        replicates.Study.read(tmp_path / "other.json")


def test_a_study_cut_short_is_read_as_the_largest_full_table(modules):
    """A configuration that stopped after two of eight seeds is left out rather than six seeds of all others."""
    replicates, _ = modules
    study = study_of(replicates, layout(1, 1, 5, 8))
    study.runs = [run for run in study.runs if run.configuration != "change 4" or run.seed < 2]
    names, seeds, values = study.table()
    assert names == ["baseline", "change 1", "change 2", "change 3"]
    assert values.shape == (4, len(seeds)) == (4, 8)


@pytest.mark.parametrize(("shared", "own", "rho"), [(0.0, 1.0, 0.0), (1.0, 1.0, 0.5), (3.0, 1.0, 0.9)])
def test_shared_luck_is_found(modules, shared, own, rho):
    """The share of the variance that a seed gives everybody is recovered from made-up runs that have it."""
    _, variance = modules
    assert variance.shared_share(layout(shared, own))["rho"] == pytest.approx(rho, abs=0.05)


def test_the_interval_of_the_shared_share_holds_what_it_promises(modules):
    """Of 300 studies of 9 configurations and 8 seeds, about 95 in 100 have the true share in their interval."""
    _, variance = modules
    found = [variance.shared_share(layout(1.0, 1.0, 9, 8, draw)) for draw in range(300)]
    assert 0.92 <= np.mean([each["low"] <= 0.5 <= each["high"] for each in found]) <= 0.98


def test_shared_luck_makes_verdicts_under_one_seed_right(modules):
    """Where all luck is the seed's, runs under one seed never rank wrongly and runs under two often do."""
    _, variance = modules
    found = variance.wrong_verdicts(layout(1.0, 0.0, 3, 50), close=5.0)
    assert found["pairs"] == 3
    assert found["same_seed"] == 0
    assert found["two_seeds"] > 0.1


def test_residuals_are_as_wide_as_single_runs(modules):
    """Two runs of each configuration are enough for residuals of the right width."""
    _, variance = modules
    assert variance.residuals(layout(0.0, 2.0, 4000, 2)).std() == pytest.approx(2.0, rel=0.03)


def test_the_summary_does_not_depend_on_where_the_metric_starts(modules):
    """Adding a constant to every value changes no gain, no sigma and no rho."""
    replicates, variance = modules
    values = layout(1.0, 1.0, 5, 8)
    one, other = (variance.summarise(study_of(replicates, v)) for v in (values, values + 100))
    assert one["sigma"]["pooled"] == pytest.approx(other["sigma"]["pooled"])
    assert one["shared"]["rho"] == pytest.approx(other["shared"]["rho"])
    assert [c["gain"] for c in one["configurations"]] == pytest.approx([c["gain"] for c in other["configurations"]])


@pytest.mark.parametrize("path", sorted((JUDGE / "data").glob("*.analysis.json")), ids=lambda path: path.name)
def test_the_committed_analysis_is_that_of_the_committed_runs(modules, path):
    """The figures in the documents can be had again from the file of runs beside them."""
    replicates, variance = modules
    told = json.loads(path.read_text())
    found = variance.summarise(replicates.Study.read(path.with_name(path.name.replace(".analysis", ""))))
    assert found["sigma"]["pooled"] == pytest.approx(told["sigma"]["pooled"])
    assert found["shared"]["rho"] == pytest.approx(told["shared"]["rho"])
    assert len(found["seeds"]) >= 8
    assert len(found["configurations"]) >= 8
