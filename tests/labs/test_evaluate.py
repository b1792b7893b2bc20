"""Batches, the clock and the score of the pretraining lab: both ends of the conversation."""

import itertools
import json
import math
import os
import subprocess
import sys
import time

import pytest

from tests.labs.pretrain_lab import plan

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")


def loader_of(harness, rows, **runtime):
    """Return data and a loader of the conversation that this process has."""
    settings, _ = harness._request({"do": "hello", "device": "cpu"})
    data = harness.load()
    return data, data.make_loader(rows, harness.Runtime(**settings | runtime))


# ---------------------------------------------------------------------------------------------------------------------
# Loader and clock


def test_step_times_show_a_machine_that_slows_down(conversation):
    """Median milliseconds of all steps and of each half, by the harness's clock; a short run says nothing."""
    slowing = [0.1 * i for i in range(51)] + [5 + 0.2 * i for i in range(1, 51)]
    found = conversation.step_times(slowing)
    assert found == {"median_step_ms": 150.0, "first_half_step_ms": 100.0, "second_half_step_ms": 200.0}
    assert conversation.step_times(slowing[:40]) == {}


def batches(converse, harness, seed, steps=3):
    """Return the inputs of the first steps."""
    converse(seed=seed, max_steps=steps)
    return torch.stack([x for x, _ in loader_of(harness, 4)[1]])


def test_order_depends_on_the_seed_alone(converse, harness):
    """One seed, one order; another seed, another order."""
    assert torch.equal(batches(converse, harness, 1), batches(converse, harness, 1))
    assert not torch.equal(batches(converse, harness, 1), batches(converse, harness, 2))


def test_the_program_cannot_choose_its_seed(converse, harness):
    """The order follows from the harness's seed, whatever the program says of its own."""
    honest = batches(converse, harness, 1, steps=1)
    converse(seed=1, max_steps=1)
    _, loader = loader_of(harness, 4, seed=99)
    assert torch.equal(next(iter(loader))[0], honest[0])


def test_an_epoch_serves_every_row_once(converse, harness):
    """Rows come without replacement, and passes are counted."""
    talk = converse()
    data = harness.load()
    rows = talk._next_rows(data.num_train_rows)
    assert sorted(rows) == list(range(data.num_train_rows))
    again = talk._next_rows(data.num_train_rows)
    assert sorted(again) == sorted(rows)
    assert list(again) != list(rows)
    loader = data.make_loader(1, harness.Runtime())
    next(iter(loader))
    assert loader.epochs == 1 / data.num_train_rows


def test_targets_are_inputs_shifted(converse, harness):
    """Each target is the token after its input, and inputs start with BOS."""
    converse()
    data, loader = loader_of(harness, 4)
    x, y = next(iter(loader))
    assert x.shape == y.shape == (4, 32)
    assert x.dtype == torch.int64
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert (x[:, 0] == data.bos_id).all()


def test_large_token_ids_survive(harness):
    """Ids beyond the range of int16 reach the model as they are."""
    rows = np.array([[0, 32767, 32768, 65535]], dtype=np.uint16)
    x, y = harness.to_device(rows, "cpu")
    assert x.tolist() == [[0, 32767, 32768]]
    assert y.tolist() == [[32767, 32768, 65535]]


def test_loader_stops_when_the_budget_is_spent(converse, harness):
    """With a clock that advances 3 seconds a reading and a budget of 10, progress rises to the end and data stops."""
    ticks = itertools.count(0, 3)
    converse(budget_seconds=10.0, now=lambda: next(ticks))
    _, loader = loader_of(harness, 2)
    progress = [loader.progress for _ in loader]
    assert progress == [0.3, 0.6, 0.9]
    assert loader.seconds >= 10


def test_no_data_before_the_clock_and_none_after(converse, harness):
    """The first batch starts the clock; when the time is over, asking again brings nothing."""
    seconds = [0.0]
    talk = converse(budget_seconds=10.0, now=lambda: seconds[0])
    _, loader = loader_of(harness, 4)
    seconds[0] = 1000.0
    assert talk.elapsed() == 0
    assert len(harness._request({"do": "next"})[1]) == 4 * 33 * 2
    seconds[0] = 1010.0
    assert harness._request({"do": "next"}) == ({"seconds": 10.0}, bytearray())
    assert loader.epochs == 0


def test_warm_up_is_random_and_free(converse, harness):
    """Warm-up batches hold random tokens, not data, and the clock stands still."""
    talk = converse()
    data, loader = loader_of(harness, 4)
    x, y = loader.warmup_batch()
    assert x.shape == y.shape == (4, 32)
    assert (x[:, 0] != data.bos_id).any()
    assert talk.elapsed() == 0
    assert talk.steps == 0


def test_cpu_clock_divides_by_the_harness_threads(converse, harness):
    """Processor seconds of two threads count half, whatever the program says of its threads."""
    ticks = iter([0.0, 0.0, 8.0])
    converse(budget_clock="cpu", threads=2, budget_seconds=100.0, processor_seconds=lambda: next(ticks))
    _, loader = loader_of(harness, 4, threads=50)
    next(iter(loader))
    assert harness._request({"do": "next"})[0]["seconds"] == 4.0


def test_processor_time_counts_children_living_and_dead(sandbox):
    """What a process, a child of it and a child that has ended have used is all counted."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n{burn}print(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        meter = sandbox.ProcessorTime(process.pid)
        before = meter()
        process.stdout.readline()
        time.sleep(sandbox.CHILDREN_SECONDS)
        assert 0.55 < meter() - before < 10
        process.kill()


def test_too_large_a_step_is_refused(converse, harness):
    """A step that needs more rows than there are is refused with the reason."""
    converse()
    with pytest.raises(harness.DataError, match="lower the batch size"):
        loader_of(harness, 10**6)


def test_a_rotation_that_is_not_there_is_refused_before_training(converse, harness):
    """A run that could not be scored in the end does not even get a loader."""
    converse(rotation=4)
    with pytest.raises(harness.DataError, match=r"AUTORESEARCH_EVAL_ROTATION is 4, but .* holds 4 set"):
        loader_of(harness, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTORESEARCH_SEED", "x"),
        ("AUTORESEARCH_BUDGET_SECONDS", "-1"),
        ("AUTORESEARCH_BUDGET_CLOCK", "sun"),
        ("AUTORESEARCH_EVAL_SPLIT", "train"),
    ],
)
def test_unusable_environment_is_named(evaluate, prepare, monkeypatch, name, value):
    """A variable with a value that cannot be used is named in one sentence."""
    monkeypatch.setenv(name, value)
    with pytest.raises(prepare.DataError, match=f"{name} is '{value}'"):
        evaluate.Settings.from_environment()


def test_an_unknown_device_is_named(converse, harness, monkeypatch):
    """A device that this machine lacks is named in one sentence."""
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "abacus")
    with pytest.raises(harness.DataError, match="AUTORESEARCH_DEVICE is 'abacus'"):
        harness.Runtime.from_environment()


# ---------------------------------------------------------------------------------------------------------------------
# Score


class Uniform(torch.nn.Module):
    """A model that gives every token the same probability."""

    def __init__(self, vocab_size):
        super().__init__()
        self.vocab_size = vocab_size
        self.nats = math.log(vocab_size)
        self.shapes = set()

    def forward(self, idx, targets=None, reduction="mean"):
        """Return ln V for each target, or equal logits."""
        if targets is None:
            return torch.zeros(*idx.shape, self.vocab_size)
        self.shapes.add(tuple(idx.shape))
        return torch.full((targets.numel(),), self.nats)


def test_uniform_model_has_the_known_bpb(converse, harness, evaluate, prepare, data_dir, tmp_path):
    """A uniform model scores log2(V) * tokens / bytes exactly, BOS left out, in calls of a single shape."""
    talk = converse(run_dir=tmp_path)
    data = harness.load()
    model = Uniform(data.vocab_size)
    bpb = data.evaluate_bpb(model, 5, harness.Runtime())
    prepared = prepare.load(data_dir)
    targets = prepared.eval_rows()[0][:, 1:]
    worth = prepared.token_bytes[targets].sum()
    assert bpb == pytest.approx(math.log2(data.vocab_size) * (targets != data.bos_id).sum() / worth, rel=1e-6)
    assert model.shapes == {(5, 32)}
    evaluate.publish(talk, talk.score, tmp_path, talk.summary())
    rows = np.load(tmp_path / "eval_rows.npz")
    assert rows["nats"].sum() / rows["bytes"].sum() / math.log(2) == pytest.approx(bpb)
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["bpb"] == bpb
    assert evaluation["agreement"]["logits"]["largest_nats"] < 1e-5


def test_a_fraction_of_the_rows_is_strided(converse, harness):
    """A quarter of the evaluation has a quarter of its rows, spread over all of them."""
    talk = converse(fraction=0.25)
    data = harness.load()
    data.evaluate_bpb(Uniform(data.vocab_size), 4, harness.Runtime())
    whole = talk._data.eval_rows()[1]
    assert talk.score.numbers.tolist() == whole[::4].tolist()


def test_not_a_number_is_not_a_score(converse, harness, evaluate, tmp_path, capsys):
    """A model that returns infinity gets no metrics.json and exit code 1, and the JSON stays valid."""
    talk = converse(run_dir=tmp_path)
    data = harness.load()
    model = Uniform(data.vocab_size)
    model.nats = math.inf
    assert math.isnan(data.evaluate_bpb(model, 4, harness.Runtime()))
    assert evaluate.conclude(talk) == 1
    assert "FAIL: val_bpb is nan" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["bpb"] is None
    assert not (tmp_path / "metrics.json").exists()


def test_own_figures_never_replace_known_ones(converse, harness):
    """What a program says of itself stands beside what the harness knows, and never in its place."""
    talk = converse()
    data = harness.load()
    data.evaluate_bpb(Uniform(data.vocab_size), 8, harness.Runtime())
    harness.Runtime().finish(
        {"val_bpb": 0.1, "num_steps": 10**9, "depth": 4, "note": "x", "bad name": 1, "nan": math.nan}
    )
    talk.thread.join(10)
    summary = talk.summary()
    assert summary["val_bpb"] > 1
    assert summary["num_steps"] == 0
    assert (summary["depth"], summary["note"]) == (4, "x")
    assert not {"bad name", "nan"} & set(summary)


def test_a_worktree_leads_to_its_repository(sandbox, tmp_path):
    """A run's checkout names the lab that it belongs to, so that ledger and data there can be hidden."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "lab")]
    subprocess.run(["git", "init", "-q", str(tmp_path / "lab")], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "checkout")], check=True, capture_output=True)
    assert sandbox._repository_of(tmp_path / "checkout") == [(tmp_path / "lab").resolve()]
    assert sandbox._repository_of(tmp_path / "lab") == []


def test_a_bare_start_needs_no_torch(tmp_path, data_dir):
    """evaluate.py reads data and plans questions without torch, or it would start as slowly as its child."""
    from tests.labs.pretrain_lab import LAB

    code = "import sys, evaluate; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=LAB, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, check=False
    )
    assert done.returncode == 0


def test_larger_data_have_more_than_one_question(checks):
    """Every evaluation row is asked about, altered rows differ where they say, and logits hide the true next token."""
    rows = np.random.default_rng(0).integers(0, 50, (100, 17), dtype=np.uint16)
    exam = checks.Examination(rows, 4, np.ones(50, dtype=bool), np.random.default_rng(1))
    kinds = [question.kind for question in exam.questions]
    assert kinds.count("ordinary") == 25
    assert kinds.count("altered") == kinds.count("logits") == 1
    assert kinds[-1] == "again"
    asked = np.concatenate([q.numbers for q in exam.questions if q.kind == "ordinary"])
    assert sorted(asked) == list(range(100))
    (about,) = [q for q in exam.questions if q.kind == "logits"]
    for row, number, cut, positions in zip(about.rows, about.numbers, about.cuts, about.positions, strict=True):
        assert (row[:cut] == rows[number, :cut]).all()
        assert row[cut] != rows[number, cut]
        assert positions.max() == cut - 1


def test_what_is_worth_nothing_is_not_looked_at(converse, harness):
    """A model may say anything of BOS as a target, NaN too: it is neither scored nor checked."""

    class Ignores(Uniform):
        """It leaves BOS out of its losses, as in training."""

        def forward(self, idx, targets=None, reduction="mean"):
            """Losses, NaN for BOS; or equal logits."""
            if targets is None:
                return super().forward(idx)
            return super().forward(idx, targets).masked_fill(targets.flatten() == self.vocab_size - 1, math.nan)

    talk = converse()
    data = harness.load()
    assert data.evaluate_bpb(Ignores(data.vocab_size), 5, harness.Runtime()) > 0
    assert talk.error is None


def test_a_short_evaluation_can_be_examined(converse, harness, prepare, corpus, tmp_path):
    """One row in one batch is enough for every check."""
    prepare.prepare(plan(prepare, corpus, eval_tokens=32), tmp_path / "data")
    talk = converse(tmp_path / "data")
    data = harness.load()
    assert data.evaluate_bpb(Uniform(data.vocab_size), 64, harness.Runtime()) > 0
    assert talk.error is None
