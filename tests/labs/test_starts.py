"""What holds for both starting programs of the pretraining lab, the tuned train.py and the plain baseline.py."""

import ast
import json
import math
import re

import pytest

from autoresearch.domain.constants import rewrite_constants
from autoresearch.lab.template import init_lab
from autoresearch.runner.progress import read_report
from tests.labs.pretrain_lab import LAB, STARTS, run_script

torch = pytest.importorskip("torch")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")
pytestmark = pytest.mark.usefixtures("one_thread")

VOCAB, LENGTH = 50, 32


def random_weights(start, **constants):
    """Return a model with every weight random, and its optimiser: at initialisation zeros would hide mistakes."""
    for name, value in constants.items():
        setattr(start.module, name, value)
    torch.manual_seed(0)
    model, optimiser = start.build(VOCAB, LENGTH)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
    return model, optimiser


def tokens(rows=2, seed=1):
    """Return random inputs and targets."""
    draw = torch.randint(VOCAB, (rows, LENGTH + 1), generator=torch.Generator().manual_seed(seed))
    return draw[:, :-1], draw[:, 1:]


# ---------------------------------------------------------------------------------------------------------------------
# Model and optimiser


@pytest.mark.parametrize("pattern", ["L", "SL"])
def test_the_future_does_not_matter(start, pattern):
    """Changing an input token changes no loss before it, and does change a loss at or after it."""
    model, _ = random_weights(start, DEPTH=3, WINDOW_PATTERN=pattern)
    x, y = tokens()
    before = model(x, y, reduction="none")
    x = x.clone()
    x[:, 20] = (x[:, 20] + 1) % VOCAB
    after = model(x, y, reduction="none")
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_losses_agree_with_logits(start):
    """Per-token losses, their mean, and the logits are three views of one computation; logits stay under the cap."""
    model, _ = random_weights(start, LOGIT_SOFTCAP=2.0)
    model.eval()
    x, y = tokens()
    logits = model(x)
    assert logits.shape == (2, LENGTH, VOCAB)
    assert 1.5 < logits.abs().max() <= 2  # near the cap, so it must have been at work
    expected = -logits.log_softmax(-1).gather(-1, y[..., None])[..., 0]
    torch.testing.assert_close(model(x, y, reduction="none"), expected)
    torch.testing.assert_close(model(x, y), expected.mean())


def test_initial_loss_is_that_of_a_uniform_model(start):
    """Before training every token is about equally likely."""
    model, _ = start.build(VOCAB, LENGTH)
    assert model(*tokens()).item() == pytest.approx(math.log(VOCAB), abs=0.02)


def test_every_parameter_is_trained(start):
    """After two steps each parameter has moved: none is missing from the optimiser's groups."""
    model, optimiser = random_weights(start)
    before = {name: p.clone() for name, p in model.named_parameters()}
    for _ in range(2):
        start.module.gradient_step(model, optimiser, *tokens(), progress=0.0)
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []


def test_parts_of_a_batch_add_up(start):
    """Steps taken in parts equal steps taken at once, in their loss and in all that they change."""
    ends = []
    for part in (4, 1):
        model, optimiser = random_weights(start, DEVICE_BATCH_SIZE=part)
        losses = [start.module.gradient_step(model, optimiser, *tokens(rows=4), progress=0.0) for _ in range(2)]
        ends.append(start.state(model, optimiser) | {"losses": torch.stack(losses)})
    for name, whole in ends[0].items():
        torch.testing.assert_close(whole, ends[1][name], rtol=2e-3, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 64, 16), (1, 16, 64)])
def test_orthogonalise_moves_singular_values_to_one(start, shape):
    """Five iterations bring all singular values near 1, whatever the shape and the scale."""
    g = 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(start.module.orthogonalise(g, 5))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_rates_fall_to_the_floor_at_the_end(start):
    """The rate is full at first, never rises, and ends at FINAL_LR_FRAC."""
    start.module.FINAL_LR_FRAC = 0.03
    rates = [start.module.learning_rate(i / 100) for i in range(101)]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(0.03)
    assert rates == sorted(rates, reverse=True)


def test_warm_up_leaves_no_trace(start, harness, converse):
    """Warm-up on random tokens changes no weight, no moment and no table."""
    converse()
    data = harness.load()
    torch.manual_seed(0)
    model, optimiser = start.build(data.vocab_size, data.sequence_length, data.bos_id)
    before = start.state(model, optimiser)
    start.warm_up(model, optimiser, data.make_loader(4, harness.Runtime()))
    after = start.state(model, optimiser)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


# ---------------------------------------------------------------------------------------------------------------------
# Constants


@pytest.mark.parametrize("name", STARTS)
def test_constants_are_literals_the_tuner_can_rewrite(name):
    """Every upper-case name at the top is bound once to a plain literal and has a comment on its line."""
    source = (LAB / f"{name}.py").read_text()
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
        ("HEAD_DIM", 0, "HEAD_DIM 0 must be at least 1"),
        ("TOTAL_BATCH_SIZE", 100, "TOTAL_BATCH_SIZE 100 must be a multiple of the row length 32"),
        ("DEVICE_BATCH_SIZE", 3, "must be a multiple of DEVICE_BATCH_SIZE 3"),
        ("DEVICE_BATCH_SIZE", 0, "DEVICE_BATCH_SIZE 0 must be at least 1"),
        ("WINDOW_PATTERN", "LX", "WINDOW_PATTERN 'LX' may hold L and S"),
        ("SHORT_WINDOW", 0, "SHORT_WINDOW 0 must be at least 1"),
        ("GATE_CHANNELS", 33, "GATE_CHANNELS 33 must be from 1 to MODEL_DIM 32"),
        ("DEPTH", 0, "DEPTH 0 must be at least 1"),
    ],
)
def test_constants_that_do_not_fit_are_named(start, harness, converse, name, value, message):
    """Constants that cannot work together are named in one sentence before anything is built."""
    setattr(start.module, name, value)
    converse()
    with pytest.raises(AssertionError, match=re.escape(message)):
        start.module.check_constants(harness.load())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BIGRAM_ROWS", 1000, "BIGRAM_ROWS 1000 must be a power of two, or 0 for none"),
        ("TRIGRAM_ROWS", -4, "TRIGRAM_ROWS -4 must be a power of two, or 0 for none"),
        ("VALUE_EVERY", 0, "VALUE_EVERY 0 must be at least 1"),
        ("ATTENTION", "flash", "ATTENTION 'flash' must be one of auto, varlen, flex, sdpa, dense"),
    ],
)
def test_constants_of_the_tuned_start_that_do_not_fit_are_named(train, harness, converse, name, value, message):
    """The same of the constants that only the tuned start has."""
    setattr(train, name, value)
    converse()
    with pytest.raises(AssertionError, match=re.escape(message)):
        train.check_constants(harness.load())


# ---------------------------------------------------------------------------------------------------------------------
# Run


def lab_of(folder, start="tuned", **changes):
    """Make a lab of one start as `init` does, and make it tiny by rewriting constants as the tuner does."""
    init_lab(folder, "pretrain", {}, start=start)
    script = folder / "train.py"
    tiny = STARTS["baseline" if start == "baseline" else "train"]
    script.write_text(rewrite_constants(script.read_text(), tiny | changes))
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


@pytest.mark.parametrize("start", ["tuned", "baseline"])
def test_a_run_reports_in_print_and_in_files(data_dir, tmp_path, start):
    """A run ends with the summary block, and the same numbers are in metrics.json beside config and per-row nats."""
    out = tmp_path / "run"
    result = run_script(
        "evaluate.py",
        folder=lab_of(tmp_path / "lab", start),
        AUTORESEARCH_DATA_DIR=data_dir,
        AUTORESEARCH_RUN_DIR=out,
        AUTORESEARCH_BUDGET_SECONDS="0.5",
        AUTORESEARCH_SEED="7",
        AUTORESEARCH_BUDGET_CLOCK="cpu",
        AUTORESEARCH_PEAK_FLOPS="1e9",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    progress, block = result.stdout.split("---\n")
    assert re.search(r"(?m)^step \d+ \| [\d.]+% \| loss [\d.]+ \| [\d.]+k tok/s \| \d+ s left$", progress)
    printed = {k: json.loads(v) for k, v in (line.split(":") for line in block.splitlines())}
    assert [name for name in printed if name != "driver_memory_mb"] == SUMMARY
    assert printed == json.loads((out / "metrics.json").read_text())
    assert printed["num_steps"] > 1
    assert printed["mfu_percent"] > 0
    assert 0 < printed["val_bpb"] < 8
    config = json.loads((out / "config.json").read_text())
    assert (config["MODEL_DIM"], config["seed"], config["budget_seconds"]) == (32, 7, 0.5)
    written = ["config.json", "eval_rows.npz", "evaluation.json", "metrics.json", "progress.jsonl"]
    assert sorted(f.name for f in out.iterdir()) == written


def test_a_run_by_hand_is_scored_too(data_dir, tmp_path):
    """`python train.py` at a terminal is scored all the same, and says what the score is worth."""
    result = run_script(
        "train.py",
        folder=lab_of(tmp_path / "lab"),
        AUTORESEARCH_DATA_DIR=data_dir,
        AUTORESEARCH_MAX_STEPS=3,
        AUTORESEARCH_BUDGET_CLOCK="cpu",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"(?m)^val_bpb: +[\d.]+$", result.stdout)
    assert re.search(r"(?m)^num_steps: +3$", result.stdout)
    assert "for orientation only" in result.stderr


def test_one_seed_one_result(start, converse):
    """Two runs of the same seed and number of steps score the same to the last bit; another seed does not."""
    scores = []
    for seed in (3, 3, 4):
        talk = converse(seed=seed, max_steps=6)
        start.module.main()
        scores.append(talk.score.bpb)
    assert scores[0] == scores[1] != scores[2]


def trained(start, harness, converse, **settings):
    """Train a model in a conversation of its own; return that, with its score."""
    talk = converse(budget_seconds=1000.0, **settings)
    answer, _ = harness._request({"do": "hello", "device": "cpu"})
    runtime, data = harness.Runtime(**answer), harness.load()
    torch.manual_seed(0)
    model, optimiser = start.build(data.vocab_size, data.sequence_length, data.bos_id)
    start.module.train(model, optimiser, data.make_loader(8, runtime), runtime)
    data.evaluate_bpb(model, 8, runtime)
    return talk


def test_training_learns(start, harness, converse):
    """Forty steps take at least a tenth off the loss of an untrained model."""
    before, after = (trained(start, harness, converse, max_steps=steps).score.bpb for steps in (1, 40))
    assert after < 0.9 * before


def test_training_reports_its_progress(start, harness, converse, tmp_path):
    """The harness hears of it at most once for each percent of the budget, in lines that it understands."""
    trained(start, harness, converse, max_steps=30, run_dir=tmp_path)
    reports = [read_report(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert None not in reports and 20 <= len(reports) <= 30
    assert reports[-1].fraction > 0.9 and reports[-1].steps == 30 and reports[-1].value < reports[0].value


def test_a_loss_that_is_no_number_ends_training(start, converse, capsys):
    """Training ends at the first loss that is not finite, with one line that says where."""
    start.module.EMBEDDING_INIT = 1e38
    talk = converse(max_steps=5)
    with pytest.raises(SystemExit) as ended:
        start.module.main()
    assert ended.value.code == 1
    assert re.search(r"(?m)^FAIL: loss is (nan|inf) at step [12]$", capsys.readouterr().out)
    assert talk.score is None


def test_divergence_ends_the_run_at_once(data_dir, tmp_path):
    """A whole run that diverges ends with exit code 1 and leaves no metrics behind."""
    result = run_script(
        "evaluate.py",
        folder=lab_of(tmp_path / "lab", EMBEDDING_INIT=1e38),
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
