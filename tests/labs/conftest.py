"""Fixtures of the pretraining lab: its files are loaded by path, as a lab is a folder of scripts and not a package."""

import socket
import threading

import pytest

from tests.labs.pretrain_lab import load_script, load_start, plan, words


@pytest.fixture(scope="session")
def prepare():
    """The lab's prepare.py as a module."""
    pytest.importorskip("rustbpe")
    pytest.importorskip("tiktoken")
    return load_script("prepare")


@pytest.fixture(scope="session")
def harness():
    """The lab's harness.py as a module."""
    pytest.importorskip("torch")
    return load_script("harness")


@pytest.fixture(scope="session")
def checks():
    """The lab's checks.py as a module."""
    return load_script("checks")


@pytest.fixture(scope="session")
def sandbox():
    """The lab's sandbox.py as a module."""
    return load_script("sandbox")


@pytest.fixture(scope="session")
def conversation(prepare, harness, checks):
    """The lab's conversation.py as a module."""
    return load_script("conversation", prepare=prepare, harness=harness, checks=checks)


@pytest.fixture(scope="session")
def evaluate(prepare, harness, checks, conversation, sandbox):
    """The lab's evaluate.py as a module."""
    known = {"prepare": prepare, "harness": harness, "checks": checks, "conversation": conversation, "sandbox": sandbox}
    return load_script("evaluate", **known)


@pytest.fixture
def one_thread():
    """Small tensors on one thread: results repeat, and colleagues keep their cores."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(harness):
    """The lab's train.py as a fresh module, made tiny: tests may change its constants freely."""
    return load_start("train", harness).module


@pytest.fixture(scope="module")
def shared_train(harness):
    """The same, once for all tests of a module: for properties that change nothing."""
    return load_start("train", harness).module


@pytest.fixture
def baseline(harness):
    """The lab's baseline.py, likewise."""
    return load_start("baseline", harness).module


@pytest.fixture(params=["train", "baseline"])
def start(request, harness):
    """Either starting program: what holds for one holds for the other."""
    return load_start(request.param, harness)


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


@pytest.fixture
def converse(evaluate, harness, data_dir):
    """Start a conversation in a thread and connect this process to its other end; call it with settings.

    What it raised, if anything, is in its `error` once the conversation is over.
    """
    threads = []

    def begin(directory=data_dir, *, now=None, processor_seconds=lambda: 0.0, **settings):
        ours, theirs = socket.socketpair()
        given = evaluate.Settings(**{"budget_seconds": 1e9} | settings)
        talk = evaluate.Conversation(
            evaluate.Channel(theirs),
            given,
            lambda: evaluate.prepare.load(directory),
            processor_seconds,
            **({"now": now} if now else {}),
        )
        talk.error = None

        def serve():
            try:
                talk.serve()
            except Exception as error:  # told to the test
                talk.error = error
            talk.channel.close()

        harness._channel = harness.Channel(ours)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        threads.append(thread)
        talk.thread = thread
        return talk

    yield begin
    if harness._channel is not None:
        harness._channel.close()
        harness._channel = None
    for thread in threads:
        thread.join(10)
