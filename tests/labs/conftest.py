"""Fixtures for the pretraining lab: its files are loaded by path, as a lab is a folder of scripts and not a package."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

LAB = Path(__file__).parents[2] / "src" / "autoresearch" / "labs" / "pretrain"


def load_script(name, **known):
    """Load a script of the lab under a name of its own; `known` are modules it imports by bare name."""
    spec = importlib.util.spec_from_file_location(f"pretrain_{name}", LAB / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    before = {key: sys.modules.get(key) for key in known}
    sys.modules.update(known)
    try:
        spec.loader.exec_module(module)
    finally:
        for key, value in before.items():
            if value is None:
                del sys.modules[key]
            else:
                sys.modules[key] = value
    return module


@pytest.fixture(scope="session")
def prepare():
    """The lab's prepare.py as a module."""
    pytest.importorskip("rustbpe")
    pytest.importorskip("tiktoken")
    return load_script("prepare")


@pytest.fixture
def train(prepare):
    """The lab's train.py as a fresh module, made tiny: tests may change its constants freely."""
    pytest.importorskip("torch")
    module = load_script("train", prepare=prepare)
    for name, value in TINY.items():
        setattr(module, name, value)
    return module


TINY = {"DEPTH": 2, "MODEL_DIM": 32, "HEAD_DIM": 16, "TOTAL_BATCH_SIZE": 128, "DEVICE_BATCH_SIZE": 2,
        "SHORT_WINDOW": 8, "GATE_CHANNELS": 8, "USE_BF16": False}


def words(seed, size):
    """Return about `size` bytes of made-up sentences: Zipf-like words, some of them multi-byte."""
    rng = np.random.default_rng(seed)
    vocabulary = ["".join(rng.choice(list("abcdeiorstné—🙂"), rng.integers(1, 7))) for _ in range(200)]
    picks = rng.zipf(1.3, size // 3) % len(vocabulary)
    return " ".join(vocabulary[i] for i in picks).replace(" b", ".\n").encode()[:size].decode(errors="ignore")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder with one plain text file of about 200 kB."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text(words(0, 200_000), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def data_dir(prepare, corpus, tmp_path_factory):
    """A tiny prepared folder: 300 tokens, rows of 32. Read-only by agreement."""
    directory = tmp_path_factory.mktemp("prepared") / "tiny"
    prepare.prepare(plan(prepare, corpus), directory)
    return directory


def plan(prepare, corpus, **changes):
    """Return the arguments of the tiny folder, with changes."""
    values = {"dataset": str(corpus), "vocab_size": 300, "sequence_length": 32, "eval_tokens": 1024, "shards": 1,
              "max_bytes": 0}
    return prepare.Plan(**values | changes)


def run_script(name, *arguments, folder=LAB, **environment):
    """Run a script of the lab as a user would, on one thread, with nothing inherited but what Python needs."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORESEARCH_", "HF_", "XDG_"))}
    defaults = {"AUTORESEARCH_THREADS": "1", "AUTORESEARCH_DEVICE": "cpu", "PYTHONDONTWRITEBYTECODE": "1",
                "NO_PROXY": "127.0.0.1"}
    return subprocess.run([sys.executable, str(folder / name), *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, check=False, cwd=folder,
                          env=inherited | defaults | {k: str(v) for k, v in environment.items()})
