"""Ways to a better number than the model deserves, each tried for real: none may end with a score.

Models that cheat answer in this process; programs that cheat are started by the real `evaluate.py` under the real
engine. What cannot be detected is told in SECURITY.md.
"""

import shutil
import sys

import pytest

from autoresearch.domain.metric import Metric, Source
from autoresearch.domain.run import Outcome, RunRequest
from autoresearch.host.files import sha256_of
from autoresearch.runner.local import LocalEngine, Recipe
from autoresearch.runner.protocol import Slot
from tests.labs.pretrain_lab import LAB, run_script

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")

F = torch.nn.functional
SLOT = Slot("cpu0", "cpu")


# ---------------------------------------------------------------------------------------------------------------------
# Models


class Honest(torch.nn.Module):
    """A table of the next token's logits given this token: causal, normalised, without memory."""

    def __init__(self, vocab_size):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.table = torch.randn(vocab_size, vocab_size, generator=draw)
        self.vocab_size = vocab_size

    def logits(self, idx):
        """Logits, (B, T, V)."""
        return self.table[idx]

    def losses(self, logits, targets):
        """Loss of each target, (B, T)."""
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    def forward(self, idx, targets=None, reduction="mean"):
        """Losses, or logits."""
        logits = self.logits(idx)
        return logits if targets is None else self.losses(logits, targets)


class PeeksAhead(Honest):
    """A window that is off by one: it sees the next input, which is the target."""

    def logits(self, idx):
        """Logits that favour the next input."""
        following = F.pad(idx[:, 1:], (0, 1))
        return super().logits(idx) + 5 * F.one_hot(following, self.vocab_size)


class PeeksFarAhead(Honest):
    """It sees an input some tokens ahead, as a wrongly shifted window would."""

    def logits(self, idx):
        """Logits that depend on the input three tokens later."""
        return super().logits(idx) + self.table[F.pad(idx[:, 3:], (0, 3))]


class PeeksAtTargets(Honest):
    """Honest logits, and losses that use the targets as an input."""

    def losses(self, logits, targets):
        """Losses of logits that were told."""
        return super().losses(logits + F.one_hot(targets, self.vocab_size), targets)


class PeeksAcrossRows(Honest):
    """What it predicts depends on the other rows of the batch."""

    def logits(self, idx):
        """Logits with a little of the other rows mixed in."""
        own = super().logits(idx)
        return own + 0.2 * own.mean(0)


class Sharpened(Honest):
    """Losses are a little less than they are: its probabilities add up to more than one."""

    def losses(self, logits, targets):
        """Losses, less three in a hundred."""
        return 0.97 * super().losses(logits, targets)


class Capped(Honest):
    """Losses that would hurt are masked, as if they had not been a number."""

    def losses(self, logits, targets):
        """Losses, 0 where they are large."""
        losses = super().losses(logits, targets)
        return torch.where(losses > 6, torch.nan, losses).nan_to_num(0.0)


class Negative(Honest):
    """Losses below 0."""

    def losses(self, logits, targets):
        """Losses that no probability has."""
        return super().losses(logits, targets) - 8


class Remembers(Honest):
    """It learns from the evaluation rows that it has been asked about, and does better on later ones."""

    def losses(self, logits, targets):
        """Losses, before the table takes in what was just seen."""
        losses = super().losses(logits, targets)
        self.table[:, targets.flatten()] += 0.05
        return losses


class RemembersRows(Honest):
    """It recognises a row by its beginning, and knows the second time what comes."""

    def __init__(self, vocab_size):
        super().__init__(vocab_size)
        self.seen = {}

    def losses(self, logits, targets):
        """Losses, a tenth of them where the row was met before."""
        losses = super().losses(logits, targets)
        for row, target in zip(losses, targets, strict=True):
            key = tuple(target[:4].tolist())
            if self.seen.setdefault(key, len(self.seen)) < len(self.seen) - 16:
                row.mul_(0.1)
        return losses


class DrawsLots(Honest):
    """Dropout that was left on."""

    def logits(self, idx):
        """Logits with a tenth of them dropped."""
        return F.dropout(super().logits(idx), 0.1)


class IsCertain(Honest):
    """It claims to have known everything."""

    def losses(self, logits, targets):
        """No loss at all."""
        return torch.zeros_like(targets, dtype=torch.float32)


def examined(converse, harness, model_class, **settings):
    """Have a model scored; return the conversation when it is over."""
    talk = converse(**settings)
    data = harness.load()
    torch.manual_seed(0)
    try:
        data.evaluate_bpb(model_class(data.vocab_size), 8, harness.Runtime())
    except SystemExit:
        pass  # the harness hung up
    else:
        harness.Runtime().finish({})
    talk.thread.join(10)
    return talk


def test_an_honest_model_is_scored(converse, harness):
    """Every check passes what every model should be."""
    talk = examined(converse, harness, Honest)
    assert talk.error is None
    assert talk.score.bpb > 0


@pytest.mark.parametrize(
    ("model_class", "words"),
    [
        (PeeksAhead, "probabilities do not add up to one, or it knew"),
        (PeeksFarAhead, "looks ahead"),
        (PeeksAtTargets, "probabilities do not add up to one, or it knew"),
        (PeeksAcrossRows, "other rows"),
        (Sharpened, "probabilities do not add up to one, or it knew"),
        (Capped, "probabilities do not add up to one, or it knew"),
        (Negative, "below 0"),
        (Remembers, "remembers"),
        (RemembersRows, "remembers"),
        (DrawsLots, "losses changed"),
        (IsCertain, "probabilities do not add up"),
    ],
)
def test_a_model_that_cheats_is_refused_with_the_check_that_saw_it(converse, harness, evaluate, model_class, words):
    """One sentence names the check and its figure, and there is no score."""
    talk = examined(converse, harness, model_class)
    assert isinstance(talk.error, evaluate.Invalid)
    assert words in str(talk.error)
    assert talk.score is None


def test_patched_functions_do_not_help(converse, harness, evaluate, monkeypatch):
    """cross_entropy that returns half its value contradicts the logits, from which the parent computes its own."""
    original = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda *args, **options: original(*args, **options) / 2)
    talk = examined(converse, harness, Honest)
    assert isinstance(talk.error, evaluate.Invalid)


def test_a_loss_that_is_not_a_number_is_no_score(converse, harness, evaluate):
    """NaN for hard tokens is not left out of the sum: it is the sum."""

    class Masked(Capped):
        """NaN where it hurts."""

        def losses(self, logits, targets):
            """Losses, NaN where they are large."""
            losses = Honest.losses(self, logits, targets)
            return torch.where(losses > 6, torch.nan, losses)

    talk = examined(converse, harness, Masked)
    assert evaluate.conclude(talk) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Time and data


def test_warm_up_has_nothing_to_train_on(converse, harness):
    """Before the clock runs, no answer carries data: training in warm-up sees random tokens."""
    talk = converse()
    answers = [harness._request({"do": "hello", "device": "cpu"}), harness._request({"do": "load"})]
    answers.append(harness._request({"do": "start", "rows": 4}))
    assert [len(payload) for _, payload in answers] == [0, 0, 0]
    assert talk.elapsed() == 0
    assert len(harness._request({"do": "next"})[1]) > 0
    assert talk.elapsed() > 0


def test_the_budget_cannot_be_ignored(converse, harness, evaluate):
    """A program that trains on after the last batch it was given is refused, with the seconds that it took."""
    seconds = [0.0]
    talk = converse(budget_seconds=10.0, now=lambda: seconds[0])
    data = harness.load()
    loader = data.make_loader(4, harness.Runtime(budget_seconds=10.0))
    for _ in loader:
        seconds[0] += 1.0
    seconds[0] = 15.0
    with pytest.raises(SystemExit):
        data.evaluate_bpb(Honest(data.vocab_size), 8, harness.Runtime())
    talk.thread.join(10)
    assert isinstance(talk.error, evaluate.Invalid)
    assert "ignored the budget: it used 15 s of 10 s" in str(talk.error)


def test_one_long_step_buys_no_time(converse, harness, evaluate):
    """What is allowed beyond the budget follows from typical steps, so a single long one does not stretch it."""
    seconds = [0.0]
    talk = converse(budget_seconds=10.0, now=lambda: seconds[0])
    data = harness.load()
    for step, _ in enumerate(data.make_loader(4, harness.Runtime(budget_seconds=10.0))):
        seconds[0] += 9.0 if step == 5 else 0.5
    with pytest.raises(SystemExit):
        seconds[0] = 19.0
        data.evaluate_bpb(Honest(data.vocab_size), 8, harness.Runtime())
    talk.thread.join(10)
    assert isinstance(talk.error, evaluate.Invalid)


def test_a_second_evaluation_is_refused(converse, harness, evaluate):
    """Nobody takes the better of two."""
    talk = converse()
    data = harness.load()
    data.evaluate_bpb(Honest(data.vocab_size), 8, harness.Runtime())
    with pytest.raises(SystemExit):
        data.evaluate_bpb(Honest(data.vocab_size), 8, harness.Runtime())
    talk.thread.join(10)
    assert isinstance(talk.error, evaluate.Invalid)


# ---------------------------------------------------------------------------------------------------------------------
# Programs

ANSWERS = '''
import json, math, os, subprocess, sys, time
from pathlib import Path
import numpy as np
import harness

def be_scored():
    """Hold the whole conversation as a model that gives every token the same probability."""
    harness._request({"do": "hello", "device": "cpu"})
    data = harness.load()
    harness._request({"do": "start", "rows": 2})
    harness._request({"do": "next"})
    channel = harness.connect()
    channel.send({"do": "evaluate", "rows": 8})
    while True:
        question, payload = channel.receive()
        if question["ask"] == "nothing":
            break
        if question["ask"] == "nats":
            shape = (len(data.rows_of(payload)), data.sequence_length)
            channel.send({}, np.full(shape, math.log(data.vocab_size), dtype=np.float32))
        else:
            channel.send({}, np.zeros((*np.shape(question["positions"]), data.vocab_size), dtype=np.float32))
    harness._request({"do": "finish", "figures": {"val_bpb": 0.1}})

def run_directory():
    """The parent's run directory, which this program was not told of, and finds without a sandbox."""
    lines = Path(f"/proc/{os.getppid()}/environ").read_text().split("\\0")
    return Path(next(line for line in lines if line.startswith("AUTORESEARCH_RUN_DIR=")).split("=", 1)[1])
'''


@pytest.fixture
def execute(tmp_path, data_dir):
    """Run code as train.py of the real lab, under the real engine; returns the result."""

    def run(code, sandbox="off", **environment):
        lab = tmp_path / "lab"
        shutil.copytree(LAB, lab, ignore=shutil.ignore_patterns("__pycache__"))
        (lab / "answers.py").write_text(ANSWERS)
        (lab / "train.py").write_text("from answers import *\n" + code)
        protected = {path.name: sha256_of(path) for path in lab.glob("*.py") if path.name != "train.py"}
        recipe = Recipe(
            run=[sys.executable, "evaluate.py"],
            metric=Metric("val_bpb", source=Source.JSON),
            protected=protected,
            environment={"AUTORESEARCH_DATA_DIR": str(data_dir), "AUTORESEARCH_SANDBOX": sandbox} | environment,
            grace_seconds=0.5,
        )
        engine = LocalEngine(
            [SLOT],
            tmp_path / "runs",
            recipe,
            checkout=lambda _, destination: shutil.copytree(lab, destination),
            discard=lambda path: shutil.rmtree(path, ignore_errors=True),
        )
        return engine.execute(RunRequest("night", 1, 0, "commit", 7, 5.0, 60.0), SLOT)

    return run


UNIFORM_BPB = 3.0
"""A uniform model of 300 tokens has more than this many bits per byte here."""


def test_an_honest_program_is_scored(execute):
    """The number is the one that its answers deserve, whatever it says of itself."""
    result = execute("be_scored()")
    assert result.outcome is Outcome.FINISHED, result.detail
    assert result.metric > UNIFORM_BPB


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("print('---'); print('val_bpb: 0.1')", Outcome.CRASHED),
        ("(run_directory() / 'metrics.json').write_text('{\"val_bpb\": 0.1}')", Outcome.CRASHED),
        ("harness.connect().send({'do': 'finish', 'figures': {'val_bpb': 0.1}})", Outcome.CRASHED),
        ("harness.connect().send({'do': 'evaluate', 'rows': 8}); time.sleep(1)", Outcome.INVALID),
        ("harness.connect()._connection.sendall(bytes(range(256)))", Outcome.INVALID),
        ("Path('evaluate.py').open('a').write('#'); be_scored()", Outcome.PROTECTED_CHANGED),
    ],
)
def test_programs_that_claim_a_score_get_none(execute, code, outcome):
    """Printed, written, claimed, or earned after a protected file was edited: no metric."""
    result = execute(code)
    assert (result.outcome, result.metric) == (outcome, None), result.detail


def test_a_program_that_fails_is_told_as_it_is(execute):
    """The child's own traceback and exit code reach the ledger, as if there were no parent between."""
    result = execute("raise KeyError('x')")
    assert (result.outcome, result.detail.split("\n")[0]) == (Outcome.CRASHED, "KeyError: 'x'")


def test_an_answer_of_another_size_is_refused(execute):
    """Losses that were left out are not skipped."""
    short = "send = harness.Channel.send\n"
    short += "harness.Channel.send = lambda self, header, payload=b'': send(self, header, payload[:-1])\n"
    result = execute(short + "be_scored()")
    assert result.outcome is Outcome.INVALID
    assert "bytes where" in result.detail


def test_what_a_program_writes_and_prints_never_replaces_its_score(execute):
    """A result file written before the score, and by a process that outlives the program, is replaced or too late."""
    result = execute(
        "target = run_directory() / 'metrics.json'\n"
        "target.write_text('{\"val_bpb\": 0.1}')\n"
        'code = f\'import time\\nwhile True:\\n open({str(target)!r}, "w").write("{{}}"); time.sleep(0.01)\'\n'
        "subprocess.Popen([sys.executable, '-c', code], start_new_session=True)\n"
        "be_scored()\n"
        "print('---'); print('val_bpb: 0.1')"
    )
    assert result.outcome is Outcome.FINISHED, result.detail
    assert result.metric > UNIFORM_BPB
    assert result.summary["val_bpb"] == result.metric


def test_a_result_of_the_last_run_is_not_taken_for_this_ones(tmp_path, data_dir):
    """What lies in the run directory at the start is removed before anything else."""
    for path in LAB.glob("*.py"):
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / "train.py").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_text('{"val_bpb": 0.1}')
    result = run_script("evaluate.py", folder=tmp_path, AUTORESEARCH_RUN_DIR=out, AUTORESEARCH_DATA_DIR=data_dir)
    assert result.returncode == 1
    assert "ended without asking for its evaluation" in result.stdout
    assert not (out / "metrics.json").exists()


def test_a_program_is_not_told_where_data_and_results_are(execute):
    """Neither data nor results nor the split are in its environment, and without a sandbox the log says so loudly."""
    result = execute(
        "names = {name for name in os.environ if name.startswith('AUTORESEARCH_')}\n"
        "assert not any(word in name for name in names for word in ('DIR', 'EVAL')), names\n"
        "be_scored()"
    )
    assert result.outcome is Outcome.FINISHED, result.detail


@pytest.fixture
def confined(execute, sandbox, tmp_path):
    """Like `execute`, confined; skipped where that is not possible."""
    if not sandbox.confine(["true"], tmp_path, [], {}):
        pytest.skip("bubblewrap is missing or not allowed here")

    return lambda code, **environment: execute(code, sandbox="auto", **environment)


def test_a_confined_program_cannot_read_the_data_or_write_the_results(confined, data_dir, tmp_path):
    """Validation rows, results and the checkout's own files are out of its reach, and it is scored all the same."""
    result = confined(
        "def fails(act):\n"
        "    try: act()\n"
        "    except OSError: return True\n"
        f"assert not any(Path({str(data_dir)!r}).glob('*'))\n"
        f"assert not any(Path({str(tmp_path)!r}, 'runs', 'night', '00001', '0', 'out').glob('*'))\n"
        "assert fails(lambda: Path('prepare.py').open('a'))\n"
        "assert fails(lambda: Path('new.py').open('w'))\n"
        "import socket\n"
        "assert fails(lambda: socket.create_connection(('127.0.0.1', 22), 1))\n"
        "assert os.getppid() < 5\n"
        "be_scored()"
    )
    assert result.outcome is Outcome.FINISHED, result.detail
    assert result.metric > UNIFORM_BPB
