"""Fixtures of the pretraining lab: its files are loaded by path, as a lab is a folder of scripts and not a package."""

import pytest

from tests.labs.pretrain_lab import TINY, load_script, plan, words


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
