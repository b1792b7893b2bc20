"""Labs for the tests of the command line; what they are stands in `toylab`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoresearch.host.figures import Figures, fingerprint_of, write_figures
from autoresearch.host.hardware import describe_hardware
from tests.cli.toylab import TRAIN, Lab, MakeLab


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a person with no settings at all."""
    home = tmp_path_factory.mktemp("home")
    hardware = describe_hardware()  # measured before, so that no test waits for a measurement
    measured = Figures(fingerprint=fingerprint_of(hardware), matmul_flops={"fp32": 1e11}, copy_bytes_per_second=1e10)
    write_figures(measured, hardware, home / ".cache" / "autoresearch")
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ
    }
    return kept | {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "COLUMNS": "120",
    }


@pytest.fixture
def make_lab(tmp_path: Path, environment: dict[str, str]) -> Iterator[MakeLab]:
    """Make further labs by name; the keywords are those of `Lab.configure`."""
    labs: list[Lab] = []

    def make(name: str = "lab", *, train: str = TRAIN, agent: str | None = None, **config: Any) -> Lab:
        lab = Lab(tmp_path / name, environment)
        labs.append(lab)
        lab.git("init", "-q", "-b", "main")
        if agent is not None:
            config["rest"] = lab.agent(agent) + config.get("rest", "")
        lab.configure(**config)
        lab.write("judge.py", "JUDGE = 1\n")
        lab.write("program.md", "Lower loss.\n")
        lab.commit(train_py=train)
        return lab

    yield make
    for lab in labs:
        lab.clean_up()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A sound lab with the built-in tuner, committed."""
    return make_lab()
