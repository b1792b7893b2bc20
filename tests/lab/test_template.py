"""New labs from templates, and labs out of programs that exist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from autoresearch.domain.constants import find_constants
from autoresearch.errors import LabError
from autoresearch.host.figures import Figures
from autoresearch.lab.adopt import adopt
from autoresearch.lab.config import check_lab, dirty_paths, load_config
from autoresearch.lab.sizing import Probe, Probed
from autoresearch.lab.template import STARTS, Trial, init_lab
from tests.lab.conftest import Repository

GPU: dict[str, Any] = {"gpus": [{"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 << 30}], "physical_cores": 16}
CPU: dict[str, Any] = {"gpus": [], "physical_cores": 6, "cores": [0, 1, 2, 3], "cpu_quota": 2.5}


def constants_of(root: Path, *names: str) -> list[object]:
    """Values of constants of a lab's train.py."""
    found = find_constants((root / "train.py").read_text(encoding="utf-8"))
    return [found[name].value for name in names]


def run_blank(root: Path, seed: int) -> str:
    """What the blank lab prints under a seed."""
    environment = {**os.environ, "AUTORESEARCH_SEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_blank_lab_runs(tmp_path: Path) -> None:
    """The blank lab passes its own check, is clean, and its noise follows from the seed alone."""
    root = tmp_path / "neues Labör"
    init_lab(root, "blank", CPU)
    config = load_config(root)
    check_lab(root, config)
    assert dirty_paths(root) == []
    assert run_blank(root, 1) == run_blank(root, 1) != run_blank(root, 2)
    assert run_blank(root, 1).startswith(f"METRIC {config.metric.name}=")


def test_cpu_slots_are_what_the_machine_grants(tmp_path: Path) -> None:
    """The smallest of physical cores, usable cores and quota counts."""
    init_lab(tmp_path / "lab", "blank", CPU)
    slots = load_config(tmp_path / "lab").slots
    assert (slots.gpus, slots.cpu, slots.cores_per_slot) == ("none", 2, 1)


def test_pretrain_on_cpu(tmp_path: Path) -> None:
    """A machine without a GPU gets a short budget of processor time and a small model with many small steps."""
    root = tmp_path / "lab"
    init_lab(root, "pretrain", CPU)
    config = load_config(root)
    check_lab(root, config)
    assert (config.budget.seconds, config.budget.clock, config.lab.link) == (20, "cpu", ())
    assert "prepare.py" in config.lab.protected and "baseline.py" not in config.lab.protected
    assert constants_of(root, "DEPTH", "MODEL_DIM", "TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE") == [1, 128, 2048, 8]


def test_pretrain_on_gpu(tmp_path: Path) -> None:
    """A large GPU gets five minutes of wall time and a larger model, and the reason is told."""
    root = tmp_path / "lab"
    lines = init_lab(root, "pretrain", GPU)
    config = load_config(root)
    assert (config.budget.seconds, config.budget.clock, config.slots.gpus) == (300, "wall", "auto")
    assert constants_of(root, "DEPTH", "MODEL_DIM", "TOTAL_BATCH_SIZE") == [8, 640, 2**17]
    assert any("DEPTH = 8" in line for line in lines) and any("step-limited" in line for line in lines)
    prepare = ("python", "prepare.py", "--dataset", "climbmix", "--data-dir", "data", "--shards", "11")
    assert config.lab.prepare == prepare  # as much text as a run reads


def test_the_baseline_is_the_plain_recipe(tmp_path: Path) -> None:
    """`--start baseline` makes the template's baseline.py the lab's train.py, and neither lab holds the other's."""
    for start, name in STARTS.items():
        init_lab(tmp_path / start, "pretrain", CPU, start=start)
        shipped = resources.files("autoresearch.labs").joinpath("pretrain", name).read_text(encoding="utf-8")
        source = (tmp_path / start / "train.py").read_text(encoding="utf-8")
        assert source.splitlines()[0] == shipped.splitlines()[0]
        assert not (tmp_path / start / "baseline.py").exists()
        assert load_config(tmp_path / start).lab.editable == ("train.py",)


def test_measured_figures_size_the_start(tmp_path: Path) -> None:
    """A core that was measured to be fast gets a larger model than one that is only known by its name."""
    fast = Figures(one_thread_flops={"fp32": 5e12}, matmul_flops={"fp32": 1e13}, threads=2, copy_bytes_per_second=5e11)
    init_lab(tmp_path / "lab", "pretrain", CPU, figures=fast, budget_seconds=300)
    depth, width = constants_of(tmp_path / "lab", "DEPTH", "MODEL_DIM")
    assert depth * width > 2 * 128


def test_what_a_trial_shows_is_in_the_lab(tmp_path: Path) -> None:
    """Rows and time-outs follow from trials of the real step, and the lab file says why."""

    def probe_of(trial: Trial) -> Probe:
        assert (trial.lab / "train.py").is_file() and trial.work.row_tokens == 2048
        return lambda rows: Probed((10 << 30) + rows * (2 << 30), startup_seconds=200, eval_seconds=50)

    lines = init_lab(tmp_path / "lab", "pretrain", GPU, probe=probe_of)
    config = load_config(tmp_path / "lab")
    assert constants_of(tmp_path / "lab", "DEVICE_BATCH_SIZE") == [16]  # 32 would be 74 of 80 GiB, above 92 %
    assert (config.budget.timeout_seconds, config.budget.evaluate_timeout_seconds) == (1130, 300)
    assert any("measured with the real step: 10.0 GiB and 2.00 GiB for each row" in line for line in lines)
    assert dirty_paths(tmp_path / "lab") == []


def test_init_refuses(tmp_path: Path) -> None:
    """A folder with something in it, a file, an unknown template and a senseless budget are refused."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    with pytest.raises(LabError, match="is not empty"):
        init_lab(tmp_path / "full", "blank")
    with pytest.raises(LabError, match="is a file"):
        init_lab(tmp_path / "full/thesis.txt", "blank")
    with pytest.raises(LabError, match="use pretrain or blank"):
        init_lab(tmp_path / "new", "blnk")
    with pytest.raises(LabError, match="pretrain has tuned and baseline"):
        init_lab(tmp_path / "new", "pretrain", start="best")
    with pytest.raises(LabError, match="no budget"):
        init_lab(tmp_path / "new", "blank", budget_seconds=0)
    assert not (tmp_path / "new").exists()


def test_adopt_finds_out(empty_repository: Repository) -> None:
    """Script, metric, evaluation, tests and budget are found, and only two files are written."""
    empty_repository.commit(
        **{
            "train.py": 'LR = 0.1\nprint(f"step: {1}")\nprint(f"val_accuracy:  {0.5:.3f}")\n',
            "prepare.py": "TIME_BUDGET = 5 * 60\n",
            "tests/test_it.py": "def test_it(): pass\n",
        }
    )
    lines = adopt(empty_repository.root).lines
    config = load_config(empty_repository.root)
    assert (config.lab.run, config.lab.editable) == (("python", "train.py"), ("train.py",))
    assert config.lab.protected == ("prepare.py", "tests")
    assert config.lab.check == ("python", "-m", "pytest", "-q")
    assert (config.metric.name, config.metric.direction, config.metric.source) == ("val_accuracy", "max", "summary")
    assert config.budget.seconds == 300
    assert dirty_paths(empty_repository.root) == ["autoresearch.toml", "program.md"]
    assert any(line.startswith("metric.direction") for line in lines)
    empty_repository.commit()
    check_lab(empty_repository.root, config)


def test_adopt_without_a_metric(empty_repository: Repository) -> None:
    """A program that prints no metric gets a placeholder, said loudly, that no campaign accepts."""
    empty_repository.commit(**{"main.py": "print('hello')\n"})
    lines = adopt(empty_repository.root).lines
    empty_repository.commit()
    assert any("NOT FOUND" in line for line in lines)
    with pytest.raises(LabError, match="SET_ME"):
        check_lab(empty_repository.root, load_config(empty_repository.root))


def test_adopt_never_overwrites(empty_repository: Repository) -> None:
    """A lab file that is there stays, to the byte."""
    empty_repository.commit(**{"train.py": "x = 1\n", "autoresearch.toml": "# mine\n"})
    assert adopt(empty_repository.root).lines == ["autoresearch.toml is there already and stays as it is"]
    assert (empty_repository.root / "autoresearch.toml").read_text() == "# mine\n"
    assert dirty_paths(empty_repository.root) == []


@pytest.mark.parametrize(
    ("files", "run"),
    [
        ({"Makefile": "bench: all\n\t./a\n", "a.c": "int main;"}, ("make", "bench")),
        ({"package.json": json.dumps({"scripts": {"bench": "x"}}), "a.js": "1"}, ("npm", "run", "--silent", "bench")),
        ({"pyproject.toml": "[project]\nscripts = {tool = 'a:b'}\n", "a.py": "METRIC = 1\n"}, ("tool",)),
        ({"bench_sort.py": "print('METRIC seconds=1')\n", "a.py": ""}, ("python", "bench_sort.py")),
        ({"package.json": "[", "pyproject.toml": "[", "lib/train.py": ""}, ("python", "lib/train.py")),
    ],
)
def test_adopt_knows_other_programs(empty_repository: Repository, files: dict[str, str], run: tuple[str, ...]) -> None:
    """Makefile targets, package scripts, project scripts and benchmarks are found."""
    empty_repository.commit(**files)
    adopt(empty_repository.root)
    assert load_config(empty_repository.root).lab.run == run


def test_adopt_refuses_what_it_cannot_run(empty_repository: Repository, tmp_path: Path) -> None:
    """A repository of prose, and a folder that is no repository, are told what to do."""
    empty_repository.commit(**{"README.md": "words"})
    with pytest.raises(LabError, match="by hand"):
        adopt(empty_repository.root)
    (tmp_path / "plain").mkdir()
    with pytest.raises(LabError, match="git init"):
        adopt(tmp_path / "plain")
