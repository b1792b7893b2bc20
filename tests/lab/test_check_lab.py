"""A lab file against its repository: each way in which a campaign would fail is told beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoresearch.errors import LabError
from autoresearch.lab.config import LabConfig, check_lab, dirty_paths, parse_config
from tests.lab.conftest import Repository


def config(**lab: Any) -> LabConfig:
    """A lab file that fits the lab of the fixture, with some keys of [lab] set."""
    given = {"run": "python train.py", "editable": ["train.py"], "protected": ["prepare.py"], **lab}
    return parse_config({"lab": given, "metric": {"name": "loss", "direction": "min"}, "budget": {"seconds": 1}})


def complaint(root: Path, checked: LabConfig) -> str:
    """The sentence that a lab is refused with."""
    with pytest.raises(LabError) as raised:
        check_lab(root, checked)
    return str(raised.value)


def test_sound_lab_passes(lab: Repository) -> None:
    """A lab whose files are all there passes, also with a detached HEAD, patterns and names beyond ASCII."""
    lab.git("checkout", "-q", "--detach")
    check_lab(lab.root, config(editable=["train.py", "src/größe b.py", "**/*.py"], protected=["src/locked/**"]))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"editable": ["trian.py"]}, "lab.editable names 'trian.py', which matches no file"),
        ({"editable": ["models/**"]}, "lab.editable names 'models/**', which matches no file"),
        ({"editable": ["new.py"]}, "lab.editable names 'new.py', but new.py is not committed"),
        ({"protected": ["nowhere.py"]}, "lab.protected names 'nowhere.py', which matches no file"),
        ({"editable": ["prepare.py"]}, "lab.editable names 'prepare.py', but prepare.py is protected too"),
        ({"editable": ["train.py", "program.md"]}, "lab.editable names 'program.md', but program.md is protected too"),
        ({"program": "plan.md"}, "lab.program names 'plan.md', which does not exist"),
        ({"run": "no-such-program x"}, "lab.run starts 'no-such-program', which is not installed"),
        ({"run": "./bench.sh"}, "lab.run starts './bench.sh', which does not exist"),
        ({"run": "python bench.py"}, "lab.run names 'bench.py', which matches no file"),
        ({"run": "python new.py"}, "lab.run names 'new.py', but new.py is not committed"),
        ({"check": "python check.py"}, "lab.check names 'check.py', which matches no file"),
        ({"evaluate": "no-such-judge"}, "lab.evaluate starts 'no-such-judge', which is not installed"),
        ({"link": ["data"]}, "lab.link names 'data', which does not exist"),
        ({"link": ["src"]}, "lab.link names 'src', which git tracks"),
    ],
)
def test_each_fault_names_key_file_and_cure(lab: Repository, keys: dict[str, Any], said: str) -> None:
    """The sentence names the lab file, the key and the file."""
    lab.write("new.py", "x = 1\n")
    assert complaint(lab.root, config(**keys)).startswith(f"autoresearch.toml: {said}")


def test_what_prepare_makes_need_not_be_there_yet(lab: Repository) -> None:
    """The check comes before `lab.prepare`, which makes the data at the first start."""
    check_lab(lab.root, config(link=["data"], prepare="python prepare.py"))


def test_unfit_folders(lab: Repository, empty_repository: Repository, tmp_path: Path) -> None:
    """No repository, a bare one, one without commits, and a folder within one are told apart."""
    (tmp_path / "plain").mkdir()
    lab.git("clone", "-q", "--bare", str(lab.root), str(tmp_path / "bare"))
    assert "is not a git repository: run `git init`" in complaint(tmp_path / "plain", config())
    assert "is a bare repository" in complaint(tmp_path / "bare", config())
    assert "has no commit yet" in complaint(empty_repository.root, config())
    assert "lies inside the repository" in complaint(lab.root / "src", config())
    assert "does not exist" in complaint(tmp_path / "nowhere", config())


def test_git_missing(lab: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git is told to install it."""
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in complaint(lab.root, config())


def test_foreign_owner(lab: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that git distrusts comes with the command that cures it."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    real = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    monkeypatch.setattr("autoresearch.lab.git._FIXED_VARIABLES", real)
    assert "git config --global --add safe.directory" in complaint(lab.root, config())


def test_placeholder_metric_is_refused(lab: Repository) -> None:
    """A lab file whose metric was never set does not start a campaign."""
    unset = {"name": "SET_ME", "direction": "min"}
    checked = parse_config(
        {"lab": {"run": "true", "editable": ["train.py"]}, "metric": unset, "budget": {"seconds": 1}}
    )
    assert "metric.name is still 'SET_ME'" in complaint(lab.root, checked)


def test_dirty_paths_are_exact(lab: Repository) -> None:
    """Changed and untracked names come as they are, and our own folder does not count."""
    lab.workspace()
    assert dirty_paths(lab.root) == []
    lab.write("train.py", "changed")
    lab.write('ein "Ordner"/ü.txt', "new")
    assert dirty_paths(lab.root) == ["train.py", 'ein "Ordner"/']
