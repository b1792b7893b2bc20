"""Run another project's pretraining script on our data, and score its model on our evaluation rows as well.

    python bench/pretrain/rival.py FOLDER --data PREPARED --parquet FOLDER --home FOLDER [--seconds 300] [--seed 0]

FOLDER holds a `train.py` and a `prepare.py` of the shape that karpathy/autoresearch gave to many: `prepare` has
TIME_BUDGET, MAX_SEQ_LEN, EVAL_TOKENS and `evaluate_bpb(model, tokenizer, batch_size)`; `train.py` runs when executed.
Neither is edited. What they expect of their surroundings is put there from outside:

* paths: HOME is a folder laid out as they want it, with links to the very parquet files that our data was prepared
  from and our tokenizer in their format, so both sides have the same merges and the same ids;
* `kernels`, which would fetch FlashAttention 3: a stand-in, served by PyTorch. On a GPU, each window gets whichever of
  SDPA, FlexAttention and `varlen_attn` is fastest there, measured once and kept in HOME. On a CPU it is SDPA, with a
  dense mask for windows shorter than a row, which at these lengths is the fastest;
* packages that only their download needs (`requests`, `rustbpe`) are empty;
* budget, row length and evaluation size are set in their `prepare` before `train.py` imports it; the seed takes the
  place of the 42 that they hand to `torch.manual_seed`. With `--clock cpu` their `time.time()` counts processor
  seconds over threads, as our lab can, for machines that do other work too.

On a CPU two kinds of words in a copy of their text change: "cuda" to "cpu", and pinned memory to plain. `--set` changes
constants in the copy (a model for an H100 needs another size on two cores).

When their evaluation has ended, ours follows on the same model and with their batch size: `val_bpb_ours`. Its bytes are
raw bytes, while their table counts a lone byte of a character as three, so on equal rows theirs reads a little lower.
This file needs torch, numpy, tiktoken and pyarrow, and nothing of ours.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import pickle
import runpy
import shutil
import sys
import time
import types
from pathlib import Path
from typing import Any

import constants
from flash import Attention, swap

SPECIAL = "<|reserved_0|>"
"""What they call the token that starts a document; it takes our BOS's id."""

PINNED_VALIDATION = "shard_06542.parquet"
"""The file name that their loader takes validation from."""

CPU_WORDS = {'"cuda"': '"cpu"', "pin_memory=True": "pin_memory=False"}


def lay_out_home(home: Path, data: Path, parquet: Path) -> None:
    """Make the cache folder that they expect: links to shards, the validation shard, the tokenizer, its byte table."""
    import tiktoken
    import torch

    cache = home / ".cache" / "autoresearch"
    for name in ("data", "tokenizer"):
        (cache / name).mkdir(parents=True, exist_ok=True)
    shards = sorted(f for f in parquet.glob("*.parquet") if not f.name.startswith(("val", "test")))
    links = {f"shard_{n:05d}.parquet": file for n, file in enumerate(shards)}
    links[PINNED_VALIDATION] = parquet / "val.parquet"
    if not shards or not links[PINNED_VALIDATION].exists():
        raise SystemExit(f"{parquet} must hold val.parquet and training shards (*.parquet); give such a folder")
    for name, file in links.items():
        swap(cache / "data" / name, lambda path, file=file: path.symlink_to(file.resolve()))
    stored = json.loads((data / "tokenizer.json").read_text())
    tokens = [base64.b64decode(token) for token in stored["tokens"]]
    encoding = tiktoken.Encoding(
        name="rustbpe",
        pat_str=stored["pattern"],
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={SPECIAL: len(tokens)},
    )
    # Their rule: the length of the token decoded to text, so a lone byte of a longer character counts as three.
    sizes = [len(token.decode("utf-8", "replace").encode()) for token in tokens] + [0]
    folder = cache / "tokenizer"
    swap(folder / "tokenizer.pkl", lambda path: path.write_bytes(pickle.dumps(encoding)))
    swap(folder / "token_bytes.pt", lambda path: torch.save(torch.tensor(sizes, dtype=torch.int32), path))


def copy_of(folder: Path, into: Path, device: str, settings: dict[str, str]) -> None:
    """Copy the rival's two files; on CUDA and without settings the copies are equal, byte for byte."""
    into.mkdir(parents=True, exist_ok=True)
    for name in ("train.py", "prepare.py"):
        text = (folder / name).read_text(encoding="utf-8")
        if name == "train.py":
            text = constants.rewrite(text, settings)
        for word, instead in CPU_WORDS.items() if device == "cpu" else ():
            text = text.replace(word, instead)
        (into / name).write_text(text, encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Surroundings


def put_stand_ins(attention: Attention) -> None:
    """Make `kernels` importable, and packages that are missing here and needed for downloads only."""
    kernels = types.ModuleType("kernels")
    kernels.get_kernel = lambda *_a, **_k: types.SimpleNamespace(flash_attn_interface=attention.module())
    sys.modules["kernels"] = kernels
    for name in ("requests", "rustbpe"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)


def patch_torch(attention: Attention, device: str, threads: int, seed: int, *, compiles: bool) -> None:
    """Set seed and threads, tell attention of the windows before a model is compiled, and still CUDA on a CPU."""
    import torch

    set_seed, compile_ = torch.manual_seed, torch.compile
    torch.manual_seed = lambda number: set_seed(seed if number == 42 else number)
    set_cuda_seed = torch.cuda.manual_seed
    torch.cuda.manual_seed = lambda number: set_cuda_seed(seed if number == 42 else number)

    def compile_when_ready(model: Any = None, **arguments: Any) -> Any:
        config = getattr(model, "config", None)
        if hasattr(model, "window_sizes"):
            attention.get_ready(model.window_sizes, config.sequence_len, config.n_head, config.n_embd // config.n_head)
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
        if compiles:
            return compile_(model, **arguments)
        return model if model is not None else lambda function: function

    torch.compile = compile_when_ready
    if threads:
        torch.set_num_threads(threads)
    if device == "cpu":
        torch.cuda.get_device_capability = lambda *_: (0, 0)
        torch.cuda.synchronize = lambda *_: None
        torch.cuda.max_memory_allocated = lambda *_: peak_resident_bytes()


def peak_resident_bytes() -> int:
    """Return the most memory this process has held, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def score(model: Any, evaluation: Path, rows_per_batch: int, device: str, out: Path | None) -> float:
    """Return bits per byte on our evaluation rows: sum of -ln p over ln 2 and the targets' raw bytes; BOS left out."""
    import numpy as np
    import torch

    stored = np.load(evaluation)
    rows, worth = stored["rows"], torch.from_numpy(stored["token_bytes"].astype(np.int64)).to(device)
    nats, sizes = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    with torch.no_grad():
        for start in range(0, len(rows), rows_per_batch):
            numbers = np.minimum(np.arange(start, start + rows_per_batch), len(rows) - 1)  # all batches of one shape
            batch = torch.from_numpy(rows[numbers].astype(np.int64)).to(device)
            inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
            loss = model(inputs, targets, reduction="none").view(targets.shape).double()
            target_bytes = worth[targets]
            count = min(rows_per_batch, len(rows) - start)
            nats[start : start + count] = (loss * (target_bytes > 0)).sum(1)[:count].cpu().numpy()
            sizes[start : start + count] = target_bytes.sum(1)[:count].cpu().numpy()
    if out:
        out.mkdir(parents=True, exist_ok=True)
        np.savez(out / "eval_rows.npz", row=stored["numbers"], nats=nats, bytes=sizes)
    return float(nats.sum() / (math.log(2) * sizes.sum()))


def main() -> None:
    """Run one rival once."""
    parser = argparse.ArgumentParser(description="Run another project's train.py on our data.")
    parser.add_argument("folder", type=Path, help="holds train.py and prepare.py")
    parser.add_argument("--data", type=Path, required=True, help="folder that our prepare.py wrote")
    parser.add_argument("--evaluation", type=Path, required=True, help=".npz with rows, numbers and token_bytes")
    parser.add_argument("--parquet", type=Path, required=True, help="the text of that folder: shards and val.parquet")
    parser.add_argument("--home", type=Path, required=True, help="a folder to lay out as the script expects")
    parser.add_argument("--out", type=Path, help="where eval_rows.npz goes")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch (default: torch's own choice)")
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help="what their time.time() reads")
    parser.add_argument("--attention", default="auto", choices=("auto", "flex", "varlen", "sdpa"))
    parser.add_argument("--no-compile", action="store_true", help="torch.compile does nothing")
    parser.add_argument("--set", default="", help="constants of train.py: NAME=VALUE,NAME=VALUE")
    args = parser.parse_args()
    began = time.perf_counter()

    home = args.home.resolve()
    copy = home / f"copy-{os.getpid()}"
    copy_of(args.folder, copy, args.device, constants.parse(args.set))
    manifest = json.loads((args.data / "manifest.json").read_text())
    os.environ["HOME"] = str(home)
    # Their train.py sets this before it imports torch; here torch is imported earlier.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    lay_out_home(home, args.data, args.parquet)
    attention = Attention(args.device, args.attention, home)
    put_stand_ins(attention)
    patch_torch(attention, args.device, args.threads, args.seed, compiles=not args.no_compile)

    sys.path.insert(0, str(copy))
    import prepare

    if args.clock == "cpu":
        began_at, threads = time.time(), args.threads or os.cpu_count() or 1
        time.time = lambda: began_at + time.process_time() / threads
    prepare.TIME_BUDGET = args.seconds if args.seconds % 1 else int(args.seconds)
    prepare.MAX_SEQ_LEN = manifest["sequence_length"]
    prepare.EVAL_TOKENS = manifest["eval_rows"] * manifest["sequence_length"]
    theirs = prepare.evaluate_bpb

    def evaluate_bpb(model: Any, tokenizer: Any, batch_size: int) -> Any:
        value = theirs(model, tokenizer, batch_size)
        started = time.perf_counter()
        ours = score(model, args.evaluation, batch_size, args.device, args.out)
        print(f"val_bpb_ours:     {ours:.6f}", flush=True)
        print(f"second_evaluation_seconds: {time.perf_counter() - started:.2f}", flush=True)
        return value

    prepare.evaluate_bpb = evaluate_bpb
    print(f"race: surroundings ready after {time.perf_counter() - began:.1f} s", flush=True)
    try:
        runpy.run_path(str(copy / "train.py"), run_name="__main__")
    finally:
        shutil.rmtree(copy, ignore_errors=True)


if __name__ == "__main__":
    main()
