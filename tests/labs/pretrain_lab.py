"""What the tests of the pretraining lab share: where it is, and how to load, shrink and run its scripts."""

import importlib.util
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

LAB = Path(__file__).parents[2] / "src" / "autoresearch" / "labs" / "pretrain"

TINY = {
    "DEPTH": 2,
    "MODEL_DIM": 32,
    "HEAD_DIM": 16,
    "TOTAL_BATCH_SIZE": 128,
    "DEVICE_BATCH_SIZE": 2,
    "SHORT_WINDOW": 8,
    "GATE_CHANNELS": 8,
    "USE_BF16": False,
    "USE_COMPILE": False,
}

TINY_TABLES = {"BIGRAM_ROWS": 256, "TRIGRAM_ROWS": 512}
"""What train.py has beyond baseline.py, made tiny."""

STARTS = {"train": TINY | TINY_TABLES, "baseline": TINY}
"""The two starting programs of the lab, each with the constants that make it tiny."""


@dataclass(frozen=True)
class Start:
    """A starting program as a fresh module, with the few calls in which the two differ."""

    name: str
    module: ModuleType

    def build(self, vocab_size, length, bos=0):
        """Return a model and its optimiser."""
        if self.name == "baseline":
            model = self.module.GPT(vocab_size, length)
            model.attach_masks("cpu", flex=False)
            return model, self.module.MuonAdamW(model)
        model = self.module.GPT(vocab_size, length, bos, "cpu", bf16=False, compiled=False)
        return model, self.module.Optimiser(model, "cpu", compiled=False)

    def warm_up(self, model, optimiser, loader):
        """Warm up before the clock starts."""
        models = (model, model) if self.name == "baseline" else (model,)
        self.module.warm_up(*models, optimiser, loader)

    def state(self, model, optimiser):
        """Return all that training changes, by name: weights, moments, step count and tables."""
        import torch

        found = {name: p.detach().clone() for name, p in model.named_parameters()}
        if self.name == "baseline":
            moments = [*optimiser.momenta, *(m for group in optimiser.moments for pair in group for m in pair)]
            steps = optimiser.step_count
        else:
            moments = [m for _, *state in (*optimiser.muon, *optimiser.adam) for m in state]
            moments += [x for memory in model.memories for page in memory.pages for x in vars(page).values()]
            steps = optimiser.steps
        found |= {f"moment {i}": m.clone() for i, m in enumerate(moments)}
        return found | {"steps": torch.tensor(steps)}


def load_start(name, harness):
    """Load a starting program as a fresh module and make it tiny: tests may change its constants freely."""
    start = Start(name, load_script(name, harness=harness))
    for constant, value in STARTS[name].items():
        setattr(start.module, constant, value)
    return start


def load_script(name, **known):
    """Load a script of the lab under a name of its own; `known` are modules it imports by bare name."""
    if name == "prepare":
        known.setdefault("hub", load_script("hub"))
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


def words(seed, size):
    """Return about `size` bytes of made-up sentences: Zipf-like words, some of them multi-byte."""
    import numpy as np

    rng = np.random.default_rng(seed)
    vocabulary = ["".join(rng.choice(list("abcdeiorstné—🙂"), rng.integers(1, 7))) for _ in range(200)]
    picks = rng.zipf(1.3, size // 3) % len(vocabulary)
    return " ".join(vocabulary[i] for i in picks).replace(" b", ".\n").encode()[:size].decode(errors="ignore")


def parquet(seed, column="text"):
    """Return a parquet file of a few dozen short documents as bytes; not compressed, so that damage can be aimed."""
    import pyarrow
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pyarrow.table({column: [words(100 * seed + i, 600) for i in range(60)]})
    pq.write_table(table, buffer, row_group_size=20, compression="none", use_dictionary=False)
    return buffer.getvalue()


def plan(prepare, corpus, **changes):
    """Return the arguments of the tiny folder, with changes."""
    values = {
        "dataset": str(corpus),
        "vocab_size": 300,
        "sequence_length": 32,
        "eval_tokens": 1024,
        "shards": 1,
        "max_bytes": 0,
    }
    return prepare.Plan(**values | changes)


def run_script(name, *arguments, folder=LAB, **environment):
    """Run a script of the lab as a user would, on one thread, with nothing inherited but what Python needs."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORESEARCH_", "HF_", "XDG_"))}
    defaults = {
        "AUTORESEARCH_THREADS": "1",
        "AUTORESEARCH_DEVICE": "cpu",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, str(folder / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env=inherited | defaults | {k: str(v) for k, v in environment.items()},
    )
