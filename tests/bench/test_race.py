"""`bench/pretrain`: rivals run as they are, on our data, and are scored on our evaluation rows."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.labs.pretrain_lab import TINY, load_script, plan, words

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")

PRETRAIN = Path(__file__).parents[2] / "bench" / "pretrain"

PREPARE = """
import os, pickle
import requests, rustbpe
import torch
MAX_SEQ_LEN, TIME_BUDGET, EVAL_TOKENS = 2048, 300, 1 << 30
HOME = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")

def tokenizer():
    with open(os.path.join(HOME, "tokenizer", "tokenizer.pkl"), "rb") as file:
        return pickle.load(file)

def evaluate_bpb(model, tokenizer, batch_size):
    assert sorted(os.listdir(os.path.join(HOME, "data"))) == ["shard_00000.parquet", "shard_06542.parquet"]
    table = torch.load(os.path.join(HOME, "tokenizer", "token_bytes.pt"), map_location="cuda")
    assert len(table) == tokenizer.n_vocab and table[-1] == 0
    return 1.25
"""

TRAIN = '''
import torch
from kernels import get_kernel
flash = get_kernel("somebody/flash-attention-3").flash_attn_interface
from prepare import MAX_SEQ_LEN, TIME_BUDGET, tokenizer, evaluate_bpb

WINDOW = 4  # tokens back
FAULT = False

class Config:
    sequence_len, n_head, n_embd = MAX_SEQ_LEN, 2, 8

class Model(torch.nn.Module):
    """Attends, and then says that all tokens are equally likely."""
    config, window_sizes = Config, [(WINDOW, 0), (MAX_SEQ_LEN, 0)]
    def forward(self, x, y, reduction="mean"):
        for window in self.window_sizes:
            q = torch.ones(*x.shape, 2, 4, device=x.device)
            assert flash.flash_attn_func(q, q, q, causal=True, window_size=window).shape == q.shape
        return torch.full((x.numel(),), float(vocabulary)).log()

torch.manual_seed(42)
assert torch.initial_seed() != 42
vocabulary = tokenizer().n_vocab
model = torch.compile(Model(), dynamic=False)
torch.cuda.synchronize()
if FAULT:
    raise RuntimeError("a fault of theirs")
print("---")
print(f"val_bpb:          {evaluate_bpb(model, tokenizer(), 3):.6f}")
print(f"num_steps:        {TIME_BUDGET}")
'''


@pytest.fixture
def race(monkeypatch):
    """The module, imported as the script imports its neighbours."""
    monkeypatch.syspath_prepend(PRETRAIN)
    import race

    yield race
    for name in ("race", "export", "rival", "flash", "constants", "race_prepare"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Text as parquet, the folder prepared from it, and a rival in the original's shape."""
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("race")
    prepare = load_script("prepare")
    (folder / "text").mkdir()
    for name, size in (("shard_a", 60_000), ("val", 12_000)):
        documents = words(len(name), size).split("\n")
        pyarrow.parquet.write_table(pyarrow.table({"text": documents}), folder / "text" / f"{name}.parquet")
    prepare.prepare(plan(prepare, folder / "text"), folder / "data")
    (folder / "rival").mkdir()
    (folder / "rival" / "prepare.py").write_text(PREPARE)
    (folder / "rival" / "train.py").write_text(TRAIN)
    return folder


@pytest.fixture(scope="module")
def raced(prepared):
    """What a race with two rivals wrote, one of which fails: lines, table, and the words of the race repeated."""
    own = ",".join(f"{name}={value}" for name, value in TINY.items())
    command = [sys.executable, str(PRETRAIN / "race.py"), "--data", str(prepared / "data"), "--device", "cpu"]
    command += ["--parquet", str(prepared / "text"), "--out", str(prepared / "race.jsonl"), "--no-compile"]
    command += ["--rival", f"theirs={prepared / 'rival'}", "--rival", f"broken={prepared / 'rival'}"]
    command += ["--rival-set", "broken:FAULT=True", "--set", own, "--seconds", "0.5", "--seeds", "1"]
    command += ["--logs", str(prepared / "logs"), "--threads", "1"]
    ended = [subprocess.run(command, capture_output=True, text=True, timeout=120, check=True) for _ in range(2)]
    lines = [json.loads(line) for line in (prepared / "race.jsonl").read_text().splitlines()]
    return lines, ended[0].stdout, ended[1].stderr


def line_of(raced, arm):
    """The first line of an arm."""
    return next(line for line in raced[0] if line["arm"] == arm)


def test_a_rival_is_scored_on_our_rows(raced, prepared):
    """A model without knowledge gets log2(vocabulary) bits for each target that has bytes, on exactly our rows."""
    prepare = load_script("prepare")
    data = prepare.load(prepared / "data")
    sizes = data.token_bytes[data.eval_rows()[0][:, 1:]]
    known = math.log2(data.vocab_size) * (sizes > 0).sum() / sizes.sum()
    theirs = line_of(raced, "theirs")
    assert theirs["outcome"] == "finished"
    assert theirs["val_bpb"] == pytest.approx(known, abs=1e-6)
    assert theirs["val_bpb_own"] == 1.25


def test_a_rival_that_fails_is_a_line_with_its_error(raced):
    """What went wrong is told, and the other arms are run all the same."""
    broken = line_of(raced, "broken")
    assert (broken["outcome"], broken["detail"]) == ("crashed", "RuntimeError: a fault of theirs")
    assert line_of(raced, "ours")["outcome"] == "finished"


def test_ours_is_compared_row_by_row(race, raced):
    """The paired difference of two runs is the difference of their scores, and it has a standard error."""
    ours, theirs = line_of(raced, "ours"), line_of(raced, "theirs")
    mean, error = race.difference(ours, theirs)
    assert mean == pytest.approx(ours["val_bpb"] - theirs["val_bpb"], abs=2e-6)
    assert error > 0
    assert f"{mean:+.4f} ± {error:.4f}" in raced[1]


def test_a_race_goes_on_where_it_stopped(raced):
    """The same command again runs what has not finished, and nothing else."""
    assert [line["arm"] for line in raced[0]].count("theirs") == 1
    assert [line.split()[0] for line in raced[2].splitlines()] == ["broken"]


def test_failed_runs_that_were_repeated_count_once(race, raced):
    """The table knows the latest line of each run."""
    assert race.table(raced[0], "theirs").count("0 of 1") == 1


def test_exported_text_is_what_was_prepared(race, prepared):
    """Rivals get every training document and no held-out one: the bytes agree with the prepared folder's."""
    import export

    prepare = load_script("prepare")
    texts = export.texts(prepare, str(prepared / "text"), 1, 1024, "train")
    train = prepare.load(prepared / "data").manifest["splits"]["train"]
    assert sum(len(text.encode()) for text in texts) == train["bytes"]


def test_pieces_lose_nothing_and_end_at_line_ends(race):
    """Cut documents are the same text in parts of at least the size asked for, but for the last."""
    import export

    document = b"".join(b"%d\n" % n * 7 for n in range(300))
    pieces = list(export.pieces(document, 100))
    assert b"".join(pieces) == document
    assert all(100 <= len(piece) < 110 and piece.endswith(b"\n") for piece in pieces[:-1])
    assert list(export.pieces(document, 0)) == [document]


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_windows_mean_the_same_everywhere(tmp_path, race):
    """FlexAttention and the dense mask see the same tokens: a query, and `left` tokens before it."""
    import flash

    attention = flash.Attention("cpu", "auto", tmp_path)
    q, k, v = torch.randn(3, 2, 128, 2, 16, generator=torch.Generator().manual_seed(0))
    dense = attention.kernel_of("dense", 20, 128)(q, k, v)
    assert torch.allclose(dense, attention.kernel_of("flex", 20, 128)(q, k, v), atol=1e-5)
    far = k.clone()
    far[:, :79] = 9  # position 100 sees back to 80, so 79 is beyond its window
    assert torch.equal(attention.kernel_of("dense", 20, 128)(q, far, v)[:, 100], dense[:, 100])


def test_constants_are_set_and_the_rest_stays(race):
    """Only the named constants change; comments stay; strings need no quotes; sums of powers are numbers."""
    import constants

    source = "A = 1  # one\nPATTERN = 'SL' # p\nB_A = 2\ndef f():\n    A = 5\n"
    settings = constants.parse("A=2**3,PATTERN=SSSL")
    assert constants.rewrite(source, settings) == source.replace("A = 1", "A = 2**3").replace("'SL'", "'SSSL'")
    with pytest.raises(SystemExit, match="no constant MISSING"):
        constants.rewrite(source, {"MISSING": "1"})


def test_the_memory_cap_waits_for_torch():
    """A process under the cap imports torch as ever, and has the cap set as soon as CUDA is."""
    code = "import sys; assert 'torch' not in sys.modules; import torch; print(len(torch.cuda._queued_calls))"
    environment = {**os.environ, "PYTHONPATH": str(PRETRAIN / "cap")}

    def queued(**more):
        command = [sys.executable, "-c", code]
        return int(subprocess.run(command, env=environment | more, capture_output=True, check=True).stdout)

    assert queued(RACE_MEMORY_GIB="8") == queued() + 1
