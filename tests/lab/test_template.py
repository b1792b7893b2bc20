"""New labs from templates, and labs out of programs that exist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autoresearch.domain.constants import find_constants
from autoresearch.errors import LabError
from autoresearch.lab.adopt import adopt
from autoresearch.lab.config import check_lab, dirty_paths, load_config
from autoresearch.lab.template import SIZES, init_lab
from tests.lab.conftest import Repository

GPU: dict[str, Any] = {"gpus": [{"memory_bytes": 80 << 30}], "physical_cores": 16}
CPU: dict[str, Any] = {"gpus": [], "physical_cores": 6, "cores": [0, 1, 2, 3], "cpu_quota": 2.5}


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
    """A machine without a GPU gets a short budget of processor time and the shipped constants."""
    root = tmp_path / "lab"
    init_lab(root, "pretrain", CPU)
    config = load_config(root)
    check_lab(root, config)
    assert (config.budget.seconds, config.budget.clock, config.lab.link) == (20, "cpu", ())
    assert "prepare.py" in config.lab.protected


def test_pretrain_on_gpu(tmp_path: Path) -> None:
    """A large GPU gets five minutes of wall time and a larger model, and the reason is told."""
    root = tmp_path / "lab"
    lines = init_lab(root, "pretrain", GPU)
    config = load_config(root)
    found = find_constants((root / "train.py").read_text(encoding="utf-8"))
    assert (config.budget.seconds, config.budget.clock, config.slots.gpus) == (300, "wall", "auto")
    assert {name: found[name].value for name in SIZES[0].constants} == SIZES[0].constants
    assert any("DEPTH = 8" in line for line in lines)
    assert config.lab.prepare == ("python", "prepare.py", "--dataset", "climbmix", "--data-dir", "data")


def test_sizes_fit_their_own_rules() -> None:
    """Every size divides as train.py demands: channels by heads, step by rows, pattern of known letters."""
    for size in SIZES:
        constants = size.constants
        assert int(constants["MODEL_DIM"]) % int(constants["HEAD_DIM"]) == 0
        assert int(constants["TOTAL_BATCH_SIZE"]) % size.forward_tokens == 0
        assert set(str(constants["WINDOW_PATTERN"])) <= {"S", "L"}


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
