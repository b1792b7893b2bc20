"""Model, optimiser and run of the pretraining lab."""

import ast
import json
import math
import re
import shutil

import pytest

from autoresearch.runner.progress import read_report
from tests.labs.pretrain_lab import LAB, TINY, run_script

torch = pytest.importorskip("torch")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")

VOCAB, LENGTH = 50, 32


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors on one thread: results repeat, and colleagues keep their cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained_like_model(train, depth=2, pattern="L", seed=0):
    """Return a model with every weight random: at initialisation zeros would hide mistakes."""
    train.DEPTH, train.WINDOW_PATTERN = depth, pattern
    torch.manual_seed(seed)
    model = train.GPT(VOCAB, LENGTH)
    model.attach_masks("cpu", flex=False)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
    return model


def tokens(rows=2, seed=1):
    """Return random inputs and targets."""
    draw = torch.randint(VOCAB, (rows, LENGTH + 1), generator=torch.Generator().manual_seed(seed))
    return draw[:, :-1], draw[:, 1:]


# ---------------------------------------------------------------------------------------------------------------------
# Model


@pytest.mark.parametrize("pattern", ["L", "SL"])
def test_the_future_does_not_matter(train, pattern):
    """Changing an input token changes no loss before it, and does change a loss at or after it."""
    model = trained_like_model(train, depth=3, pattern=pattern)
    x, y = tokens()
    before = model(x, y, reduction="none")
    x = x.clone()
    x[:, 20] = (x[:, 20] + 1) % VOCAB
    after = model(x, y, reduction="none")
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_windows_match_a_dense_reference(train):
    """Windowed attention equals softmax over exactly the window's keys, computed the slow way."""
    q, k, v = torch.randn(3, 2, 4, LENGTH, 8, generator=torch.Generator().manual_seed(0))
    fast = train.windowed_attention(LENGTH, 5, "cpu", flex=False)(q, k, v, 0.3)
    for t in range(LENGTH):
        near = slice(max(0, t - 4), t + 1)
        weights = torch.softmax(0.3 * (q[:, :, t : t + 1] @ k[:, :, near].mT), dim=-1)
        torch.testing.assert_close(fast[:, :, t], (weights @ v[:, :, near])[:, :, 0])


def test_a_window_hides_older_tokens(train):
    """With one windowed layer below none, a token out of reach of the window leaves later losses unchanged."""
    model = trained_like_model(train, depth=2, pattern="S")
    assert [a.window for a in model.attention] == [8, LENGTH]  # the last layer always sees the whole row
    assert train.window_mask(4, 2).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_rotation_keeps_length_and_sees_distance(train):
    """Rotated vectors keep their norm, and their dot product depends on the distance between positions only."""
    table = train.rotary_table(LENGTH, 16)
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    turned_q, turned_k = (train.rotate(x.expand(1, 1, LENGTH, 16), table)[0, 0] for x in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(LENGTH))
    torch.testing.assert_close(turned_q[9] @ turned_k[4], turned_q[25] @ turned_k[20])


def test_losses_agree_with_logits(train):
    """Per-token losses, their mean, and the logits are three views of one computation; logits stay under the cap."""
    model = trained_like_model(train)
    x, y = tokens()
    logits = model(x)
    assert logits.shape == (2, LENGTH, VOCAB)
    assert logits.abs().max() <= train.LOGIT_SOFTCAP
    expected = -logits.log_softmax(-1).gather(-1, y[..., None])[..., 0]
    torch.testing.assert_close(model(x, y, reduction="none"), expected)
    torch.testing.assert_close(model(x, y), expected.mean())


def test_initial_loss_is_that_of_a_uniform_model(train):
    """Before training every token is about equally likely."""
    model = train.GPT(VOCAB, LENGTH)
    assert model(*tokens()).item() == pytest.approx(math.log(VOCAB), abs=0.02)


def test_every_parameter_is_trained(train):
    """After two steps each parameter has moved: none is missing from the optimiser's groups."""
    model = trained_like_model(train)
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimiser = train.MuonAdamW(model)
    for _ in range(2):
        train.gradient_step(model, optimiser, *tokens(), progress=0.0)
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []


# ---------------------------------------------------------------------------------------------------------------------
# Optimiser


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 64, 16), (1, 16, 64)])
def test_orthogonalise_moves_singular_values_to_one(train, shape):
    """Five iterations bring all singular values near 1, whatever the shape and the scale."""
    g = 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(train.orthogonalise(g, 5))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_adam_matches_torch(train):
    """Our few lines of Adam take the same steps as torch's."""
    gradients = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.zeros(7), torch.zeros(7, requires_grad=True)
    reference = torch.optim.Adam([theirs], lr=0.1, betas=(train.ADAM_BETA1, train.ADAM_BETA2), eps=1e-10)
    first, second = torch.zeros(7), torch.zeros(7)
    for step, gradient in enumerate(gradients, 1):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        train.adam_update(ours, first, second, step, 0.1)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_parts_of_a_batch_add_up(train):
    """A step taken in parts equals the step taken at once."""
    weights = []
    for part in (4, 1):
        train.DEVICE_BATCH_SIZE = part
        model = trained_like_model(train)
        train.gradient_step(model, train.MuonAdamW(model), *tokens(rows=4), progress=0.0)
        weights.append(model.head.detach())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def test_rates_fall_to_the_floor_at_the_end(train):
    """The rate is full at first, never rises, and ends at FINAL_LR_FRAC."""
    rates = [train.learning_rate(i / 100) for i in range(101)]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(train.FINAL_LR_FRAC)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_leaves_no_trace(train, harness, converse):
    """Warm-up on random tokens changes no weight and no moment."""
    converse()
    data = harness.load()
    torch.manual_seed(0)
    model = train.GPT(data.vocab_size, data.sequence_length)
    optimiser = train.MuonAdamW(model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    train.warm_up(model, model, optimiser, data.make_loader(4, harness.Runtime()))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert optimiser.step_count == 0
    assert not any(m.any() for m in optimiser.momenta)


# ---------------------------------------------------------------------------------------------------------------------
# Constants


def test_constants_are_literals_the_tuner_can_rewrite():
    """Every upper-case name at the top is bound once to a plain literal and has a comment on its line."""
    source = (LAB / "train.py").read_text()
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id.isupper():
            assert isinstance(node.value, ast.Constant), node.targets[0].id
            assert "  # " in source.splitlines()[node.lineno - 1], node.targets[0].id
            assert node.targets[0].id not in found
            found[node.targets[0].id] = node.value.value
    assert len(found) >= 25
    assert all(isinstance(value, bool | int | float | str) for value in found.values())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL_DIM", 40, "MODEL_DIM 40 must be a multiple of HEAD_DIM 16"),
        ("TOTAL_BATCH_SIZE", 100, "TOTAL_BATCH_SIZE 100 must be a multiple of the row length 32"),
        ("DEVICE_BATCH_SIZE", 3, "must be a multiple of DEVICE_BATCH_SIZE 3"),
        ("WINDOW_PATTERN", "LX", "WINDOW_PATTERN 'LX' may hold L and S"),
        ("DEPTH", 0, "DEPTH 0 must be at least 1"),
    ],
)
def test_constants_that_do_not_fit_are_named(train, harness, converse, name, value, message):
    """Constants that cannot work together are named in one sentence before anything is built."""
    setattr(train, name, value)
    converse()
    with pytest.raises(AssertionError, match=re.escape(message)):
        train.check_constants(harness.load())


# ---------------------------------------------------------------------------------------------------------------------
# Run


def lab_copy(folder, **changes):
    """Copy the lab into a folder, made tiny by rewriting constants as the harness does."""
    for path in LAB.glob("*.py"):
        shutil.copy(path, folder / path.name)
    text = (folder / "train.py").read_text()
    for name, value in (TINY | changes).items():
        text, count = re.subn(rf"(?m)^{name} = \S+", f"{name} = {value!r}", text)
        assert count == 1, name
    (folder / "train.py").write_text(text)
    return folder


SUMMARY = [
    "val_bpb",
    "training_seconds",
    "total_seconds",
    "peak_vram_mb",
    "mfu_percent",
    "total_tokens_M",
    "num_steps",
    "num_params_M",
    "depth",
    "eval_seconds",
    "startup_seconds",
    "epochs",
]


def test_a_run_reports_in_print_and_in_files(data_dir, tmp_path):
    """A run ends with the summary block, and the same numbers are in metrics.json beside config and per-row nats."""
    out = tmp_path / "run"
    result = run_script(
        "evaluate.py",
        folder=lab_copy(tmp_path),
        AUTORESEARCH_DATA_DIR=data_dir,
        AUTORESEARCH_RUN_DIR=out,
        AUTORESEARCH_BUDGET_SECONDS="0.5",
        AUTORESEARCH_SEED="7",
        AUTORESEARCH_BUDGET_CLOCK="cpu",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    progress, block = result.stdout.split("---\n")
    assert re.search(r"(?m)^step \d+ \| [\d.]+% \| loss [\d.]+ \| [\d.]+k tok/s \| \d+ s left$", progress)
    printed = {k: json.loads(v) for k, v in (line.split(":") for line in block.splitlines())}
    assert [name for name in printed if name in SUMMARY] == SUMMARY
    assert printed == json.loads((out / "metrics.json").read_text())
    assert printed["num_steps"] > 1
    assert 0 < printed["val_bpb"] < 8
    config = json.loads((out / "config.json").read_text())
    assert (config["MODEL_DIM"], config["seed"], config["budget_seconds"]) == (32, 7, 0.5)
    written = ["config.json", "eval_rows.npz", "evaluation.json", "metrics.json", "progress.jsonl"]
    assert sorted(f.name for f in out.iterdir()) == written


def test_a_run_by_hand_is_scored_too(data_dir, tmp_path):
    """`python train.py` at a terminal is scored all the same, and says what the score is worth."""
    result = run_script(
        "train.py",
        folder=lab_copy(tmp_path),
        AUTORESEARCH_DATA_DIR=data_dir,
        AUTORESEARCH_MAX_STEPS=3,
        AUTORESEARCH_BUDGET_CLOCK="cpu",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"(?m)^val_bpb: +[\d.]+$", result.stdout)
    assert re.search(r"(?m)^num_steps: +3$", result.stdout)
    assert "for orientation only" in result.stderr


def test_one_seed_one_result(train, harness, converse):
    """Two runs of the same seed and number of steps score the same to the last bit; another seed does not."""
    scores = []
    for seed in (3, 3, 4):
        talk = converse(seed=seed, max_steps=6)
        train.main()
        scores.append(talk.score.bpb)
    assert scores[0] == scores[1] != scores[2]


def trained(train, harness, converse, **settings):
    """Train a model in a conversation of its own; return that, with its score."""
    talk = converse(budget_seconds=1000.0, **settings)
    answer, _ = harness._request({"do": "hello", "device": "cpu"})
    runtime, data = harness.Runtime(**answer), harness.load()
    torch.manual_seed(0)
    model = train.GPT(data.vocab_size, data.sequence_length)
    model.attach_masks("cpu", flex=False)
    train.train(model, train.MuonAdamW(model), data.make_loader(8, runtime), runtime)
    data.evaluate_bpb(model, 8, runtime)
    return talk


def test_training_learns(train, harness, converse):
    """Forty steps take at least a tenth off the loss of an untrained model."""
    before, after = (trained(train, harness, converse, max_steps=steps).score.bpb for steps in (1, 40))
    assert after < 0.9 * before


def test_training_reports_its_progress(train, harness, converse, tmp_path):
    """The harness hears of it at most once for each percent of the budget, in lines that it understands."""
    trained(train, harness, converse, max_steps=30, run_dir=tmp_path)
    reports = [read_report(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert None not in reports and 20 <= len(reports) <= 30
    assert reports[-1].fraction > 0.9 and reports[-1].steps == 30 and reports[-1].value < reports[0].value


def test_divergence_ends_the_run_at_once(data_dir, tmp_path):
    """A loss that is not finite is one line that says where, and exit code 1, with no metrics left behind."""
    result = run_script(
        "evaluate.py",
        folder=lab_copy(tmp_path, EMBEDDING_INIT=float("1e38")),
        AUTORESEARCH_MAX_STEPS=5,
        AUTORESEARCH_DATA_DIR=data_dir,
        AUTORESEARCH_RUN_DIR=tmp_path / "run",
    )
    assert result.returncode == 1
    assert re.search(r"(?m)^FAIL: loss is (nan|inf) at step \d$", result.stdout)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_unprepared_data_is_one_sentence(tmp_path):
    """Training without data names the cure and shows no traceback."""
    result = run_script("evaluate.py", AUTORESEARCH_DATA_DIR=tmp_path / "none")
    assert result.returncode == 1
    assert "FAIL:" in result.stderr
    assert "python prepare.py" in result.stderr
    assert "Traceback" not in result.stderr
