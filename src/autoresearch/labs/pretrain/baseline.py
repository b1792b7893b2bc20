"""Train a small GPT for one fixed budget: the plain recipe, for those who want to watch the climb from its start.

    python prepare.py && python evaluate.py

`autoresearch init --lab pretrain --start baseline` makes this file the train.py of a new lab, which a researcher edits.
Its parts and rates are those that the original autoresearch published for one H100; the other start, train.py, has what
many campaigns found since.

One file on purpose: constants, model, optimiser and loop fit in one head. Data, clock and metric belong to another
process, which `harness.py` talks to. The shipped sizes suit about twenty seconds on one CPU core; larger machines get
their own.

Shapes in comments: B rows, T tokens, C channels, H heads, D channels per head, V vocabulary.

Sources of the parts: rotary positions, Su et al. 2021; QK-norm, Henry et al. 2020; squared ReLU, So et al. 2021
("Primer"); logit soft-cap, Gemma 2, 2024; value embeddings, Zhou et al. 2024 and the modded-nanogpt speed runs, which
also gave the x0 and residual weights; Muon, Jordan et al. 2024; cautious decay, Liang et al. 2024.
"""

import contextlib
import gc
import math
import os
import sys

import harness
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ---------------------------------------------------------------------------------------------------------------------
# Constants. Plain literals only: the built-in tuner finds and rewrites them.

# Model
DEPTH = 2  # layers; 1 to 32
MODEL_DIM = 128  # channels; a multiple of HEAD_DIM
HEAD_DIM = 64  # channels per attention head; even, 32 to 128
MLP_RATIO = 4  # hidden channels of the MLP per channel; 1 to 8
WINDOW_PATTERN = "L"  # per layer, repeated: L sees the whole row, S the last SHORT_WINDOW tokens; last layer is L
SHORT_WINDOW = 128  # tokens; 1 to the sequence length
ROPE_BASE = 10000.0  # longest rotary wavelength in tokens, over 2 pi; 1e3 to 1e6
QK_SCALE = 1.0  # factor on normalised queries and keys (sharper attention above 1); 0.5 to 2
LOGIT_SOFTCAP = 15.0  # logits are squashed into plus or minus this; 5 to 100
VALUE_EMBEDDINGS = True  # per-token values added in every other layer, the last included
GATE_CHANNELS = 32  # channels that decide each head's value-embedding gate; 1 to MODEL_DIM
RESID_LAMBDA = 1.0  # initial weight of the residual stream at each layer; 0.5 to 1.5
X0_LAMBDA = 0.1  # initial weight of the embedding added back at each layer; 0 to 0.5
INIT_SCALE = 1.0  # factor on the initial size of all matrices; 0.1 to 2
EMBEDDING_INIT = 1.0  # standard deviation of token embeddings; 0.1 to 2

# Batch
TOTAL_BATCH_SIZE = 4096  # tokens per optimiser step; a power of two
DEVICE_BATCH_SIZE = 16  # rows per forward pass: as many as memory allows; divides the step's rows

# Optimiser. Rates and schedule are those that the original autoresearch published for one H100: what suits another
# machine is what a campaign finds. Rates of the AdamW groups are for 768 channels and scale with MODEL_DIM ** -0.5.
EMBEDDING_LR = 0.6  # token and value embeddings; 0.01 to 2
UNEMBEDDING_LR = 0.004  # output head; 0.0005 to 0.05
MATRIX_LR = 0.04  # Muon, all matrices inside the layers; 0.005 to 0.1
SCALAR_LR = 0.5  # residual weights (x0 weights; the others get a hundredth); 0.05 to 2
WEIGHT_DECAY = 0.2  # Muon matrices, cautious, falls to 0 over the run; 0 to 0.5
ADAM_BETA1 = 0.8  # 0.5 to 0.95
ADAM_BETA2 = 0.95  # 0.9 to 0.999
MUON_MOMENTUM = 0.95  # 0.8 to 0.98; shorter runs want less
MUON_STEPS = 5  # Newton-Schulz iterations; 3 to 7

# Schedule, in fractions of the budget
WARMDOWN_RATIO = 0.5  # last part of the budget over which rates fall linearly; 0 to 1
FINAL_LR_FRAC = 0.0  # rate at the end as a fraction of the full rate; 0 to 0.3

# Machine
USE_COMPILE = True  # torch.compile on CUDA; elsewhere compiling costs more than such budgets give back
USE_BF16 = True  # bfloat16 matrix products where the hardware has them


# ---------------------------------------------------------------------------------------------------------------------
# Model


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to root mean square 1. No learnt gain: the next matrix can hold it."""
    return F.rms_norm(x, (x.size(-1),))


def rotary_table(length: int, head_dim: int) -> Tensor:
    """Return cosines and sines of the rotary angles, shape (2, length, head_dim / 2)."""
    frequencies = ROPE_BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.arange(length)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair of channels by its position's angle, so that dot products see relative distance.

    Args:
        x: Queries or keys, shape (B, H, T, D).
        table: From `rotary_table`, shape (2, T, D / 2), in the type of x.
    """
    cos, sin = table
    a, b = x.chunk(2, dim=-1)  # channel i is paired with i + D / 2
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def window_mask(length: int, window: int) -> Tensor:
    """Return which keys (columns) each query (row) may see: itself and the window - 1 tokens before it.

    Shape (length, length), bool.
    """
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    return (distance >= 0) & (distance < window)


def window_of_layer(layer: int, length: int) -> int:
    """Return how many tokens a layer sees; the last layer always sees the whole row."""
    kind = "L" if layer == DEPTH - 1 else WINDOW_PATTERN[layer % len(WINDOW_PATTERN)]
    return length if kind == "L" else min(SHORT_WINDOW, length)


class Attention(nn.Module):
    """Causal self-attention: normalised, rotated queries and keys, an optional window, optional value embeddings."""

    def __init__(self, layer: int, vocab_size: int, length: int) -> None:
        super().__init__()
        self.num_heads = MODEL_DIM // HEAD_DIM
        self.window = window_of_layer(layer, length)
        self.qkv = nn.Parameter(torch.empty(3, MODEL_DIM, MODEL_DIM))  # three matrices, three Muon updates
        self.out = nn.Parameter(torch.empty(MODEL_DIM, MODEL_DIM))
        # Every other layer, counted so that the last one has them: that is where they help most.
        self.has_values = VALUE_EMBEDDINGS and layer % 2 == (DEPTH - 1) % 2
        if self.has_values:
            self.values = nn.Embedding(vocab_size, MODEL_DIM)
            self.gate = nn.Parameter(torch.empty(self.num_heads, GATE_CHANNELS))
        self.mask = None  # filled by GPT for windows shorter than the row

    def forward(self, x: Tensor, idx: Tensor, table: Tensor) -> Tensor:
        """Mix tokens: x (B, T, C) normalised, idx (B, T) token ids, table the rotary angles. Returns (B, T, C)."""
        B, T, C = x.shape
        qkv = F.linear(x, self.qkv.view(3 * C, C)).view(B, T, 3, self.num_heads, HEAD_DIM)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if self.has_values:
            extra = self.values(idx).view(B, T, self.num_heads, HEAD_DIM).transpose(1, 2)
            gate = 2 * torch.sigmoid(F.linear(x[..., :GATE_CHANNELS], self.gate))  # (B, T, H), 1 at the start
            v = v + gate.transpose(1, 2).unsqueeze(-1) * extra.to(v.dtype)
        table = table.to(q.dtype)
        q, k = rotate(norm(q), table), rotate(norm(k), table)
        scale = QK_SCALE**2 / math.sqrt(HEAD_DIM)
        if self.mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        else:
            y = self.mask(q, k, v, scale)
        return F.linear(y.transpose(1, 2).reshape(B, T, C), self.out)


class MLP(nn.Module):
    """Two matrices with a squared ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(MLP_RATIO * MODEL_DIM, MODEL_DIM))
        self.down = nn.Parameter(torch.empty(MODEL_DIM, MLP_RATIO * MODEL_DIM))

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token: (B, T, C) to (B, T, C)."""
        return F.linear(F.relu(F.linear(x, self.up)).square(), self.down)


class GPT(nn.Module):
    """Decoder-only transformer. Returns the loss of each token, so training and evaluation compile to one shape."""

    def __init__(self, vocab_size: int, length: int, *, bf16: bool = False) -> None:
        super().__init__()
        self.bf16 = bf16
        self.embedding = nn.Embedding(vocab_size, MODEL_DIM)
        self.attention = nn.ModuleList(Attention(i, vocab_size, length) for i in range(DEPTH))
        self.mlp = nn.ModuleList(MLP() for _ in range(DEPTH))
        self.head = nn.Parameter(torch.empty(vocab_size, MODEL_DIM))  # not tied: tying is far worse at this size
        self.resid_lambdas = nn.Parameter(torch.empty(DEPTH))
        self.x0_lambdas = nn.Parameter(torch.empty(DEPTH))
        self.register_buffer("rotary", rotary_table(length, HEAD_DIM), persistent=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Set initial weights: outputs of every layer are 0, so the network starts as embedding and head alone."""
        bound = INIT_SCALE * (3 / MODEL_DIM) ** 0.5  # uniform with standard deviation INIT_SCALE / sqrt(C)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_INIT)
        nn.init.normal_(self.head, std=0.001)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            nn.init.uniform_(attention.qkv, -bound, bound)
            nn.init.zeros_(attention.out)
            if attention.has_values:
                nn.init.uniform_(attention.values.weight, -bound, bound)
                nn.init.zeros_(attention.gate)
            nn.init.uniform_(mlp.up, -bound, bound)
            nn.init.zeros_(mlp.down)
        self.resid_lambdas.fill_(RESID_LAMBDA)
        self.x0_lambdas.fill_(X0_LAMBDA)

    def attach_masks(self, device: str, *, flex: bool) -> None:
        """Give windowed layers their attention: block-sparse FlexAttention when compiled, a dense mask otherwise.

        A dense mask computes the whole row and hides most of it: harmless at 256 tokens, twice the time at 2,048.
        """
        length = self.rotary.size(1)
        kernels = {}
        for attention in self.attention:
            window = attention.window
            if window < length:
                if window not in kernels:
                    kernels[window] = windowed_attention(length, window, device, flex=flex)
                attention.mask = kernels[window]

    def forward(self, idx: Tensor, targets: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Return the loss in nats, or logits (B, T, V) without targets.

        Args:
            idx: Token ids, (B, T), int64.
            targets: Next token ids, (B, T), int64.
            reduction: "mean" gives a scalar, "none" a loss for each token, (B, T): what `evaluate_bpb` asks for.
        """
        with torch.autocast(idx.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            x = norm(self.embedding(idx))  # (B, T, C)
            x0 = x
            for i, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
                x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
                x = x + attention(norm(x), idx, self.rotary)
                x = x + mlp(norm(x))
            # Dividing before the product, not after, spares a pass over the largest tensor of the model.
            logits = F.linear(norm(x) / LOGIT_SOFTCAP, self.head)
        logits = LOGIT_SOFTCAP * torch.tanh(logits.float())
        if targets is None:
            return logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
        return loss.view(targets.shape) if reduction == "none" else loss

    def flops_per_token(self) -> float:
        """Return forward and backward multiply-adds times two: 6 per matrix weight, 12 per channel and key seen."""
        weights = sum(p.numel() for p in self.parameters() if p.ndim >= 2)
        weights -= sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Embedding))
        return 6 * weights + sum(12 * MODEL_DIM * a.window for a in self.attention)


def windowed_attention(length: int, window: int, device: str, *, flex: bool):
    """Return a function (q, k, v, scale) to the attention output, all (B, H, T, D), for one window."""
    if flex:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: PLC0415 (slow import)

        def near(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return (q >= k) & (q - k < window)

        blocks = create_block_mask(near, None, None, length, length, device=device)
        return lambda q, k, v, scale: flex_attention(q, k, v, block_mask=blocks, scale=scale)
    mask = window_mask(length, window).to(device)
    return lambda q, k, v, scale: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


# ---------------------------------------------------------------------------------------------------------------------
# Optimiser


def orthogonalise(g: Tensor, steps: int) -> Tensor:
    """Move all singular values of each matrix towards 1, with matrix products only.

    A quintic Newton-Schulz iteration, x <- a x + (b A + c A A) x with A = x x^T. The coefficients (Jordan et al. 2024)
    trade exactness for speed at small singular values: they end between about 0.7 and 1.2, which Muon does not mind.

    Args:
        g: Matrices, shape (N, rows, columns).
        steps: Iterations.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16() if g.is_cuda else g.float()
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x  # the product x x^T is then the smaller one
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # Frobenius norm bounds the largest singular value
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class MuonAdamW:
    """Muon for matrices inside the layers, AdamW for embeddings, head and scalars.

    Matrices of one shape are updated in one batch: a model of many layers then costs as many kernels as one of two.
    """

    def __init__(self, model: GPT) -> None:
        width = (MODEL_DIM / 768) ** -0.5
        embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
        self.adam = [  # (parameters, rate)
            (embeddings, EMBEDDING_LR * width),
            ([model.head], UNEMBEDDING_LR * width),
            ([model.resid_lambdas], SCALAR_LR * 0.01),  # they compound over layers, so they move slowly
            ([model.x0_lambdas], SCALAR_LR),
        ]
        matrices = [p for block in (*model.attention, *model.mlp) for p in block.parameters(recurse=False)]
        shapes = sorted({tuple(p.shape[-2:]) for p in matrices})
        self.muon = [[p for p in matrices if tuple(p.shape[-2:]) == shape] for shape in shapes]
        self.reset()

    def reset(self) -> None:
        """Forget moments and step count."""
        self.step_count = 0
        self.moments = [[(torch.zeros_like(p), torch.zeros_like(p)) for p in params] for params, _ in self.adam]
        self.momenta = [torch.zeros_like(stack(params)) for params in self.muon]

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        """Update every parameter from its gradient, then drop the gradients.

        Args:
            rate: Multiplier on all learning rates, 0 to 1.
            decay: Multiplier on weight decay, 0 to 1.
        """
        self.step_count += 1
        for (params, lr), moments in zip(self.adam, self.moments, strict=True):
            for p, (first, second) in zip(params, moments, strict=True):
                adam_update(p, first, second, self.step_count, lr * rate)
        for params, momentum in zip(self.muon, self.momenta, strict=True):
            muon_update(params, momentum, MATRIX_LR * rate, WEIGHT_DECAY * decay)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for params in [*(params for params, _ in self.adam), *self.muon]:
            for p in params:
                p.grad = None


def stack(tensors: list[Tensor]) -> Tensor:
    """Concatenate matrices (rows, columns) and stacks of them (n, rows, columns) into one (N, rows, columns)."""
    return torch.cat([t.reshape(-1, *t.shape[-2:]) for t in tensors])


def adam_update(p: Tensor, first: Tensor, second: Tensor, step: int, lr: float) -> None:
    """Apply Adam (Kingma and Ba 2015) to one parameter; moments have its shape and are changed in place."""
    first.lerp_(p.grad, 1 - ADAM_BETA1)
    second.lerp_(p.grad.square(), 1 - ADAM_BETA2)
    scale = lr / (1 - ADAM_BETA1**step)
    p.addcdiv_(first, (second / (1 - ADAM_BETA2**step)).sqrt_().add_(1e-10), value=-scale)


def muon_update(params: list[Tensor], momentum: Tensor, lr: float, decay: float) -> None:
    """Apply Muon to all matrices of one shape; momentum is (N, rows, columns) and is changed in place."""
    gradient = stack([p.grad for p in params])
    momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
    update = orthogonalise(gradient.lerp_(momentum, MUON_MOMENTUM), MUON_STEPS)  # Nesterov
    update *= max(1, update.size(-2) / update.size(-1)) ** 0.5  # tall matrices: same size of change per output
    weights = stack(params)
    # Cautious decay: shrink a weight only where the update agrees, so that decay never fights the gradient.
    update += decay * weights * (update * weights >= 0)
    start = 0
    for p in params:
        count = p.numel() // (p.size(-2) * p.size(-1))
        p.sub_(update[start : start + count].view_as(p), alpha=lr)
        start += count


def learning_rate(progress: float) -> float:
    """Return the rate multiplier: full from the start (no warm-up), then linear down to FINAL_LR_FRAC."""
    if progress < 1 - WARMDOWN_RATIO:
        return 1.0
    left = (1 - progress) / WARMDOWN_RATIO
    return left + (1 - left) * FINAL_LR_FRAC


# ---------------------------------------------------------------------------------------------------------------------
# Run


def constants() -> dict[str, object]:
    """Return the upper-case constants of this file as they are now."""
    return {k: v for k, v in globals().items() if k.isupper() and isinstance(v, bool | int | float | str)}


def check_constants(data: harness.TrainingData) -> int:
    """Return rows per optimiser step; AssertionError says in one sentence which constants do not fit together."""
    T = data.sequence_length
    for name in ("DEPTH", "HEAD_DIM", "SHORT_WINDOW", "DEVICE_BATCH_SIZE"):
        assert globals()[name] >= 1, f"{name} {globals()[name]} must be at least 1"
    assert MODEL_DIM % HEAD_DIM == 0, f"MODEL_DIM {MODEL_DIM} must be a multiple of HEAD_DIM {HEAD_DIM}"
    assert HEAD_DIM % 2 == 0, f"HEAD_DIM {HEAD_DIM} must be even: rotary positions turn pairs of channels"
    assert WINDOW_PATTERN and set(WINDOW_PATTERN) <= {"L", "S"}, f"WINDOW_PATTERN '{WINDOW_PATTERN}' may hold L and S"
    assert 1 <= GATE_CHANNELS <= MODEL_DIM, f"GATE_CHANNELS {GATE_CHANNELS} must be from 1 to MODEL_DIM {MODEL_DIM}"
    assert TOTAL_BATCH_SIZE % T == 0, f"TOTAL_BATCH_SIZE {TOTAL_BATCH_SIZE} must be a multiple of the row length {T}"
    rows = TOTAL_BATCH_SIZE // T
    part = min(DEVICE_BATCH_SIZE, rows)
    assert rows % part == 0, f"a step of {rows} rows must be a multiple of DEVICE_BATCH_SIZE {DEVICE_BATCH_SIZE}"
    return rows


def bf16_pays(device: str) -> bool:
    """Whether the device multiplies bfloat16 faster than float32: CUDA since Ampere, CPUs with the instructions."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return False


def peak_flops() -> float:
    """Return the FLOP/s that products were measured to reach here, or what the data sheet says; 0 when unknown."""
    measured = os.environ.get("AUTORESEARCH_PEAK_FLOPS")
    if measured:
        return float(measured)
    sheet = {"B200": 2.25e15, "H200": 9.89e14, "H100": 9.89e14, "A100": 3.12e14, "4090": 1.65e14, "3090": 7.1e13}
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((flops for key, flops in sheet.items() if key in name), 0.0)


def peak_memory_mb(device: str) -> float:
    """Return peak memory in MiB: of the GPU, or of this process where it trains in ordinary memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if device == "mps":
        return torch.mps.driver_allocated_memory() / 2**20
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def stop_if_diverged(loss: float, step: int) -> None:
    """End the run at once when the loss is not a number: nothing after it can be of use."""
    if not math.isfinite(loss):
        print(f"FAIL: loss is {loss} at step {step}", flush=True)
        sys.exit(1)


def gradient_step(model: nn.Module, optimiser: MuonAdamW, inputs: Tensor, targets: Tensor, progress: float) -> Tensor:
    """Take one optimiser step on a batch, in parts of at most DEVICE_BATCH_SIZE rows. Returns the mean loss."""
    parts = list(zip(inputs.split(DEVICE_BATCH_SIZE), targets.split(DEVICE_BATCH_SIZE), strict=True))
    total = torch.zeros((), device=inputs.device)
    for x, y in parts:
        loss = model(x, y, reduction="none").mean() / len(parts)
        loss.backward()
        total += loss.detach()
    optimiser.step(learning_rate(progress), 1 - progress)
    optimiser.zero_grad()
    return total


def warm_up(model: nn.Module, raw: GPT, optimiser: MuonAdamW, loader: harness.Loader) -> None:
    """Compile and allocate on random tokens before the clock starts, then put every weight back."""
    before = {name: value.clone() for name, value in raw.state_dict().items()}
    gradient_step(model, optimiser, *loader.warmup_batch(), progress=0.0)
    raw.load_state_dict(before)
    optimiser.reset()


def train(model: nn.Module, optimiser: MuonAdamW, loader: harness.Loader, runtime: harness.Runtime) -> None:
    """Train until the loader ends, which is when the budget does. Prints a line about every 2 % of it."""
    lag = 2 if runtime.device == "cuda" else 0  # reading a fresh loss would stall a GPU; one two steps old is free
    waiting: list[Tensor] = []
    smooth, next_line = 0.0, 0.02
    for inputs, targets in loader:
        waiting.append(gradient_step(model, optimiser, inputs, targets, loader.progress))
        if len(waiting) <= lag:
            continue
        loss, step = float(waiting.pop(0)), loader.steps - lag
        stop_if_diverged(loss, step)
        smooth = 0.9 * smooth + 0.1 * loss
        loader.report(smooth / (1 - 0.9**step))
        if loader.progress >= next_line:
            next_line = loader.progress + 0.02
            speed = loader.steps * inputs.numel() / max(loader.seconds, 1e-9)
            print(
                f"step {step} | {loader.progress:.1%} | loss {smooth / (1 - 0.9**step):.3f} | "
                f"{speed / 1000:.1f}k tok/s | {runtime.budget_seconds - loader.seconds:.0f} s left",
                flush=True,
            )
    for i, loss in enumerate(waiting):
        stop_if_diverged(float(loss), loader.steps - len(waiting) + 1 + i)


def main() -> None:
    """Run once: build, warm up, train for the budget, evaluate, report."""
    runtime = harness.Runtime.from_environment()
    data = harness.load()
    rows_per_step = check_constants(data)
    torch.manual_seed(runtime.seed)
    torch.set_float32_matmul_precision("high")
    device = runtime.device
    compiled = USE_COMPILE and device == "cuda"
    raw = GPT(data.vocab_size, data.sequence_length, bf16=USE_BF16 and bf16_pays(device)).to(device)
    raw.attach_masks(device, flex=compiled)
    model = torch.compile(raw, dynamic=False) if compiled else raw
    optimiser = MuonAdamW(raw)
    loader = data.make_loader(rows_per_step, runtime)
    num_params = sum(p.numel() for p in raw.parameters())
    runtime.describe(
        constants()
        | {
            "num_params": num_params,
            "device": device,
            "bf16": raw.bf16,
            "compiled": compiled,
            "seed": runtime.seed,
            "threads": runtime.threads,
            "budget_seconds": runtime.budget_seconds,
            "budget_clock": runtime.budget_clock,
            "dataset": data.dataset,
            "vocab_size": data.vocab_size,
            "sequence_length": data.sequence_length,
        },
    )
    print(
        f"{num_params / 1e6:.2f} M parameters on {device}, {rows_per_step} rows a step, seed {runtime.seed}", flush=True
    )
    warm_up(model, raw, optimiser, loader)
    gc.collect()
    gc.freeze()  # nothing built so far is garbage: spare the collector from walking it during training

    train(model, optimiser, loader, runtime)
    free, total = torch.cuda.mem_get_info() if device == "cuda" else (0, 0)  # of all that the driver counts
    data.evaluate_bpb(model, min(DEVICE_BATCH_SIZE, rows_per_step), runtime)
    speed = loader.steps * TOTAL_BATCH_SIZE / max(loader.seconds, 1e-9)
    runtime.finish(
        {
            "peak_vram_mb": round(peak_memory_mb(device), 1),
            **({"driver_memory_mb": round((total - free) / 2**20, 1)} if total else {}),
            "mfu_percent": round(100 * speed * raw.flops_per_token() / peak_flops(), 2) if peak_flops() else 0.0,
            "num_params_M": round(num_params / 1e6, 3),
            "depth": DEPTH,
        }
    )


if __name__ == "__main__":
    try:
        main()
    except (harness.DataError, AssertionError) as error:
        sys.exit(f"FAIL: {error}")
