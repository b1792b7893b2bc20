"""Train a small GPT for one fixed budget and report its bits per byte. This is the file a researcher edits.

    python prepare.py && python evaluate.py

One file on purpose: constants, model, memories, optimiser and loop fit in one head. Data, clock and metric belong to
another process, which `harness.py` talks to. The shipped sizes suit one CPU core; other machines get their own.

The model is a transformer with two kinds of recall that cost next to nothing per token. *Memories* are hashed tables
with a row for every pair and triple of neighbouring tokens: what usually follows them is looked up, not computed.
*Hints* say which token followed the last time the same pair or triple stood in this document.

Shapes in comments: B rows, T tokens, C channels, H heads, D channels per head, V vocabulary, L layers.

Sources of the parts: rotary positions, Su et al. 2021; QK-norm, Henry et al. 2020; squared ReLU, So et al. 2021
("Primer"); logit soft-cap, Gemma 2, 2024; value embeddings, Zhou et al. 2024, and with the x0 and residual weights and
the smear gate the modded-nanogpt speed runs; gates on what heads put out, Qiu et al. 2025; hashed n-gram embeddings,
Svenstrup et al. 2017, Roy et al. 2022; Muon, Jordan et al. 2024; its normalised rows, Li et al. 2025 ("NorMuon");
cautious decay, Liang et al. 2024.
"""

import gc
import math
import os
import shutil
import sys
from dataclasses import dataclass

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
ROPE_BASE = 100000.0  # longest rotary wavelength in tokens, over 2 pi; 1e3 to 1e6
QK_SCALE = 1.2  # factor on normalised queries and keys (sharper attention above 1); 0.5 to 2
LOGIT_SOFTCAP = 15.0  # logits are squashed into plus or minus this; 5 to 100
VALUE_EVERY = 2  # every so many layers, the last included, attention mixes in per-token values; 1 to DEPTH
GATE_CHANNELS = 32  # channels that decide each head's gates; 1 to MODEL_DIM
OUTPUT_GATE = True  # whether each head may turn down what it found, token by token
SMEAR = True  # whether the embedding of the token before is mixed in, through a gate
READOUT = True  # whether the head reads a learnt mix of all layers, not the last alone
RESID_LAMBDA = 1.0  # initial weight of the residual stream at each layer; 0.5 to 1.5
X0_LAMBDA = 0.05  # initial weight of the embedding added back at each layer; 0 to 0.5
INIT_SCALE = 0.7  # factor on the initial size of all matrices; 0.1 to 2
EMBEDDING_INIT = 1.0  # standard deviation of token embeddings; 0.1 to 2

# Memories and hints
BIGRAM_ROWS = 65536  # rows of the table of token pairs; a power of two, 0 for none
TRIGRAM_ROWS = 65536  # rows of the table of token triples; a power of two, 0 for none
HINTS = True  # what followed the last time this pair or triple stood in the document
MEMORY_LR = 0.6  # rate of table rows; 0.01 to 2
MEMORY_BETA2 = 0.95  # memory of a row's squared gradient, per step that touches it; 0.5 to 0.999
MEMORY_PATIENCE = 256.0  # touches after which a row's rate follows the schedule: rare rows still learn late; 1 to 1e4

# Batch
TOTAL_BATCH_SIZE = 2048  # tokens per optimiser step; a multiple of the row length
DEVICE_BATCH_SIZE = 8  # rows per forward pass: as many as memory allows; divides the step's rows

# Optimiser. Rates of the AdamW groups are for 768 channels and scale with MODEL_DIM ** -0.5.
EMBEDDING_LR = 0.3  # token embeddings; 0.01 to 2
VALUE_LR = 0.3  # value embeddings; 0.01 to 2
HINT_LR = 0.15  # embeddings of hints; 0.01 to 2
UNEMBEDDING_LR = 0.005  # output head; 0.0005 to 0.05
MATRIX_LR = 0.04  # Muon, all matrices inside the layers; 0.005 to 0.1
SCALAR_LR = 0.5  # x0 weights; residual and readout weights get a hundredth; 0.05 to 2
WEIGHT_DECAY = 0.2  # Muon matrices, cautious, falls to 0 over the run; 0 to 0.5
EMBEDDING_DECAY = 0.001  # token embeddings; 0 to 0.1
VALUE_DECAY = 0.003  # value embeddings; 0 to 0.1
ADAM_BETA1 = 0.8  # 0.5 to 0.95
ADAM_BETA2 = 0.95  # 0.9 to 0.999
MUON_MOMENTUM = 0.95  # 0.8 to 0.98; shorter runs want less
MUON_BETA2 = 0.95  # memory of each row's squared update; 0.8 to 0.99
MUON_STEPS = 5  # Newton-Schulz iterations; 3 to 7

# Schedule, in fractions of the budget
MOMENTUM_WARMUP = 0.15  # first part, over which Muon's momentum rises from 0.85; 0 to 1
WARMDOWN_RATIO = 0.9  # last part of the budget over which rates fall linearly; 0 to 1
FINAL_LR_FRAC = 0.02  # rate at the end as a fraction of the full rate; 0 to 0.3

# Machine
ATTENTION = "auto"  # varlen, flex, sdpa (no windows) or dense; auto takes what `doctor` found fastest here
USE_COMPILE = True  # torch.compile on CUDA, and for long budgets on a CPU with a C++ compiler
COMPILE_FROM = 60.0  # seconds of budget from which compiling pays on a CPU, where it takes half a minute once
USE_BF16 = True  # bfloat16 matrix products where the hardware has them


# ---------------------------------------------------------------------------------------------------------------------
# Looking back: n-gram keys and hints. All of it is integer work on tokens up to the current one.


def history(idx: Tensor, bos: int) -> tuple[Tensor, Tensor]:
    """Return the token before each token and the one before that, (B, T) each; BOS stands for "another document"."""
    one = F.pad(idx, (1, 0), value=bos)[:, :-1].where(idx != bos, bos)
    two = F.pad(idx, (2, 0), value=bos)[:, :-2].where(one != bos, bos)
    return one, two


def hashed(*tokens: Tensor, rows: int) -> Tensor:
    """Return a table row for each tuple of tokens: every bit of every token moves every bit of the row.

    Multiply and shift, as in the finaliser of MurmurHash3 (Appleby 2011); products wrap around 64 bits.
    """
    key = torch.zeros_like(tokens[0])
    for token in tokens:
        key = (key ^ (token + 1)) * -0x61C8864680B583EB  # 2**64 over the golden ratio, as a signed number
        key = key ^ ((key >> 29) & 0x7FFFFFFFF)
        key = key * -0x3B314601E57A13AD
        key = key ^ ((key >> 32) & 0xFFFFFFFF)
    return key & (rows - 1)


def earlier_match(keys: Tensor) -> Tensor:
    """Return where the same key stood last before each position of its row, or -1: (B, T), positions from 0 to T - 1.

    A stable sort puts equal keys side by side in order of position, so the neighbour before is the answer.
    """
    T = keys.size(1)
    order = keys.argsort(dim=1, stable=True)
    ordered = keys.gather(1, order)
    same = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
    before = F.pad(order, (1, 0))[:, :T].where(same, -1)
    return torch.empty_like(order).scatter_(1, order, before)


def look_back(idx: Tensor, bos: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the rows to look up and the hints for each position, (B, T) each: pairs, triples, token, confidence.

    The hinted token is the one that followed the last earlier place in this document with the same triple, or else the
    same pair; BOS where there is none. Its confidence is a bucket: by triple or pair, and by distance in powers of two.
    """
    one, two = history(idx, bos)
    pairs = hashed(one, idx, rows=max(BIGRAM_ROWS, 1))
    triples = hashed(two, one, idx, rows=max(TRIGRAM_ROWS, 1))
    document = (idx == bos).cumsum(1)
    positions = torch.arange(idx.size(1), device=idx.device).expand_as(idx)
    by_pair = earlier_match((document << 40) | (one << 20) | idx)
    by_triple = earlier_match((document << 49) | (two << 32) | (one << 16) | idx)
    place = by_triple.where(by_triple >= 0, by_pair)
    found = (place >= 0) & (idx != bos)
    follower = idx.gather(1, (place + 1).clamp(min=0))  # place < position, so place + 1 is at most the position itself
    token = follower.where(found, bos)  # BOS follows nothing inside a document: it stands for "no hint"
    distance = (positions - place).clamp(min=1).float().log2().long().clamp(max=HINT_BUCKETS // 2 - 1)
    confidence = (distance + (by_triple >= 0) * (HINT_BUCKETS // 2)).where(found, HINT_BUCKETS)
    return pairs, triples, token, confidence


HINT_BUCKETS = 24  # twelve powers of two, for pairs and for triples


@dataclass
class Page:
    """What a memory has learnt in one pass over the data. The last row is spare: it is written to and never read."""

    table: Tensor
    """(rows + 1, width)."""
    square: Tensor
    """Running mean square of each row's gradients, (rows + 1,)."""
    touches: Tensor
    """Steps that touched each row, (rows + 1,)."""

    @classmethod
    def blank(cls, rows: int, width: int, dtype: torch.dtype, device: torch.device) -> "Page":
        """Return a page of zeros."""
        one_each = torch.zeros(2, rows + 1, device=device)
        return cls(torch.zeros(rows + 1, width, dtype=dtype, device=device), *one_each)


class Memory(nn.Module):
    """A hashed table whose rows are read and learnt sparsely, outside the compiled graph.

    A dense gradient would be as large as the table and mostly zero. Here a step reads the rows it needs, takes the
    gradient of what it read, adds up what belongs to the same row, and writes those rows back. All shapes are fixed by
    the batch, so nothing waits for the GPU: of the places that read the same row one is its owner, which carries the
    sum; the others write to the spare row.

    A memory must not be asked about the text it was taught: it would know the answer, and the model would learn to
    trust it far too much (a fiftieth of a second pass cost 0.04 bits per byte). So each pass over the data begins a
    blank page. An evaluation reads, for each row, whichever of the last two pages has seen more.
    """

    def __init__(self, rows: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.rows, self.width, self.dtype = rows, width, dtype
        self.register_buffer("owner", torch.zeros(rows + 1, dtype=torch.int32), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.pages: list[Page] = []
        self.reads: list[tuple[Tensor, Tensor]] = []
        self.turn_to(0)

    def turn_to(self, number: int) -> None:
        """Begin a blank page if this pass over the data, counted from 0, has none yet."""
        if not self.pages or number > self.number:
            self.number = number
            self.pages = self.pages[-1:]  # before a new one is made: two are the most that memory has to hold
            self.pages.append(Page.blank(self.rows, self.width, self.dtype, self.owner.device))

    def forward(self, keys: Tensor) -> Tensor:
        """Return the rows of keys, (B, T) to (B, T, width); in training they are remembered for `learn`."""
        *older, page = self.pages
        found = page.table[keys]
        if self.training:
            self.reads.append((keys, found))
        elif older:
            knew_more = older[0].touches[keys] > page.touches[keys]
            found = older[0].table[keys].where(knew_more[..., None], found)
        return found.requires_grad_()

    def learn(self, update, scalars: Tensor) -> None:
        """Update each row that was read since the last call from the gradients of the readings.

        Args:
            update: `row_update`, compiled or not.
            scalars: Rate and schedule of this step, as `row_update` takes them.
        """
        page = self.pages[-1]
        keys = torch.cat([keys.flatten() for keys, _ in self.reads])
        gradient = torch.cat([found.grad.flatten(0, 1) for _, found in self.reads])
        self.reads.clear()
        numbers = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
        self.owner[keys] = numbers  # whichever place comes last
        owner = self.owner[keys]
        total = torch.zeros(gradient.shape, device=keys.device).index_add_(0, owner, gradient.float())
        rows, square, touches = update(total, page.table[keys], page.square[keys], page.touches[keys], scalars)
        mine = keys.where(owner == numbers, self.rows)
        page.table[mine] = rows
        page.square[mine] = square
        page.touches[mine] = touches


def row_update(total: Tensor, rows: Tensor, square: Tensor, touches: Tensor, scalars: Tensor):
    """Return new rows, squares and touches: RMSProp with one second moment per row.

    A row that was seldom touched keeps a high rate after the schedule has lowered that of the others: it has learnt
    from few examples yet.

    Args:
        total: Summed gradients, (N, width).
        rows: As they are, (N, width).
        square: Running mean squares, (N,).
        touches: Steps that have touched each row, (N,).
        scalars: MEMORY_LR, the schedule's multiplier, MEMORY_BETA2, MEMORY_PATIENCE.
    """
    rate, schedule, beta2, patience = scalars.unbind()
    touches = touches + 1
    square = torch.lerp(total.square().mean(1), square, beta2)
    size = (square / (1 - beta2**touches)).sqrt() + 1e-12
    step = rate * torch.maximum(schedule, patience / (patience + touches)) / size
    return (rows.float() - step[:, None] * total).to(rows.dtype), square, touches


# ---------------------------------------------------------------------------------------------------------------------
# Model


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to root mean square 1. No learnt gain: the next matrix can hold it."""
    return F.rms_norm(x, (x.size(-1),))


def rotary_table(length: int) -> Tensor:
    """Return cosines and sines of the rotary angles, shape (2, length, 1, D / 2)."""
    frequencies = ROPE_BASE ** -(torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = torch.arange(length)[:, None, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair of channels by its position's angle, so that dot products see relative distance.

    Args:
        x: Queries or keys, shape (B, T, H, D).
        table: From `rotary_table`, in the type of x.
    """
    cos, sin = table
    a, b = x.chunk(2, dim=-1)  # channel i is paired with i + D / 2
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def windows(length: int) -> list[int]:
    """Return how many tokens each layer sees, itself included; the last layer always sees the whole row."""
    kinds = [WINDOW_PATTERN[layer % len(WINDOW_PATTERN)] for layer in range(DEPTH - 1)] + ["L"]
    return [length if kind == "L" else min(SHORT_WINDOW, length) for kind in kinds]


def make_attention(kind: str, length: int, device: str):
    """Return a function (q, k, v, window) to the attention output, all (B, T, H, D).

    `varlen` is flash attention as PyTorch ships it, `flex` compiles block-sparse kernels; both skip what a window
    hides. `sdpa` has no windows: each layer sees the whole row. `dense` computes the whole row and hides part of it:
    harmless at 256 tokens, twice the time at 2,048.
    """
    if kind == "varlen":
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 (slow import)

        def varlen(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
            B, T, H, D = q.shape
            starts = torch.arange(0, (B + 1) * T, T, dtype=torch.int32, device=q.device)
            flat = (x.reshape(B * T, H, D) for x in (q, k, v))
            return varlen_attn(*flat, starts, starts, T, T, window_size=(window - 1, 0)).view(B, T, H, D)

        return varlen
    if kind == "flex":
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: PLC0415 (slow import)

        def blocks_of(window: int):
            def near(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
                return (q >= k) & (q - k < window)

            return create_block_mask(near, None, None, length, length, device=device)

        blocks = {window: blocks_of(window) for window in set(windows(length))}

        def flex(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return flex_attention(q, k, v, block_mask=blocks[window]).transpose(1, 2)

        return flex

    position = torch.arange(length, device=device)
    distance = position[:, None] - position

    def sdpa(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if kind == "dense" and window < length:
            mask = (distance >= 0) & (distance < window)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    return sdpa


def layer(
    x: Tensor,
    x0: Tensor,
    extra: list[Tensor],
    weights: tuple[Tensor, ...],
    rotary: Tensor,
    qk_scale: Tensor,
    attend,
    window,
) -> Tensor:
    """Return the stream after one layer, (B, T, C). Compiled once for all layers of a kind, whatever the depth.

    Args:
        x: The stream, (B, T, C).
        x0: The stream before the first layer.
        extra: What is mixed into the attention's values, each (B, T, C); empty in layers that mix in nothing.
        weights: Those of this layer: its two lambdas, attention (4, C, C), up, down, the gates of what its heads put
            out (H, G) and of what is mixed in (sources x H, G).
        rotary: From `rotary_table`.
        qk_scale: QK_SCALE.
        attend: From `make_attention`.
        window: How many tokens the layer sees.
    """
    resid_lambda, x0_lambda, attention, up, down, output_gates, gates = weights
    B, T, C = x.shape
    H = C // HEAD_DIM
    x = resid_lambda * x + x0_lambda * x0
    y = norm(x)
    q, k, v = F.linear(y, attention[:3].reshape(3 * C, C)).view(B, T, 3, H, HEAD_DIM).unbind(2)
    if extra:
        gate = 2 * torch.sigmoid(F.linear(y[..., :GATE_CHANNELS], gates)).view(B, T, -1, H, 1)  # 1 at the start
        for i, source in enumerate(extra):
            v = v + gate[:, :, i] * source.view(B, T, H, HEAD_DIM)
    q, k = (rotate(norm(each) * qk_scale, rotary) for each in (q, k))
    found = attend(q, k, v, window)
    if OUTPUT_GATE:
        gate = 2 * torch.sigmoid(F.linear(y[..., :GATE_CHANNELS], output_gates))  # 1 at the start
        found = found * gate.view(B, T, H, 1)
    x = x + F.linear(found.reshape(B, T, C), attention[3])
    return x + F.linear(F.relu(F.linear(norm(x), up)).square(), down)


def logits_of(outputs: list[Tensor], readout: Tensor, head: Tensor, softcap: Tensor) -> Tensor:
    """Return logits, (B, T, V) in float32, from what each layer put out, (B, T, C) each."""
    x = sum(weight * x for weight, x in zip(readout.unbind(), outputs, strict=True)) if READOUT else outputs[-1]
    # Dividing before the product, not after, spares a pass over the largest tensor of the model.
    return softcap * torch.tanh(F.linear(norm(x) / softcap, head).float())


def losses_of(targets: Tensor, *what) -> Tensor:
    """Return the loss of each target in nats, (B, T); takes what `logits_of` takes."""
    return F.cross_entropy(logits_of(*what).flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


class GPT(nn.Module):
    """The whole model: hints and memories, the stream they enter, layers, and the head.

    Matrices of one kind lie in one parameter for all layers, which costs one cast and one optimiser kernel, not L.
    What is compiled is compiled in pieces: layers of a kind share one graph, and a changed layer changes no other.
    """

    def __init__(self, vocab_size: int, length: int, bos: int, device: str, *, bf16: bool, compiled: bool) -> None:
        super().__init__()
        self.bos = bos
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.windows = windows(length)
        self.value_layers = [i for i in range(DEPTH) if (DEPTH - 1 - i) % VALUE_EVERY == 0]
        C, H = MODEL_DIM, MODEL_DIM // HEAD_DIM
        table_rows = [rows for rows in (BIGRAM_ROWS, TRIGRAM_ROWS) if rows]
        self.memories = nn.ModuleList(Memory(rows, 2 * C, self.dtype) for rows in table_rows)
        self.embedding = nn.Embedding(vocab_size, C)
        self.values = nn.Embedding(vocab_size, C * len(self.value_layers))
        self.hint = nn.Embedding(vocab_size, C)
        self.confidence = nn.Embedding(HINT_BUCKETS + 1, C)
        self.smear = nn.Parameter(torch.empty(1, GATE_CHANNELS))
        self.attention = nn.Parameter(torch.empty(DEPTH, 4, C, C))  # queries, keys, values, output
        self.up = nn.Parameter(torch.empty(DEPTH, MLP_RATIO * C, C))
        self.down = nn.Parameter(torch.empty(DEPTH, C, MLP_RATIO * C))
        self.gates = nn.Parameter(torch.empty(len(self.value_layers), (1 + len(table_rows)) * H, GATE_CHANNELS))
        self.output_gates = nn.Parameter(torch.empty(DEPTH, H, GATE_CHANNELS))
        self.resid_lambdas = nn.Parameter(torch.empty(DEPTH))
        self.x0_lambdas = nn.Parameter(torch.empty(DEPTH))
        self.readout = nn.Parameter(torch.empty(DEPTH))
        self.head = nn.Parameter(torch.empty(vocab_size, C))  # not tied: tying is far worse at this size
        # Constants that a tuner moves are tensors, not numbers in the graph: a changed value compiles nothing anew.
        self.register_buffer("rotary", rotary_table(length).to(self.dtype), persistent=False)
        self.register_buffer("qk_scale", torch.tensor(QK_SCALE), persistent=False)
        self.register_buffer("softcap", torch.tensor(LOGIT_SOFTCAP), persistent=False)
        self.initialise()
        plain = (look_back, self.embed, layer, losses_of)
        self.fast = [torch.compile(piece, dynamic=False) for piece in plain] if compiled else plain
        self.attend = make_attention(attention_kind(device, compiled), length, device)
        self.attend_plainly = make_attention("dense", length, device)  # needs no compiler

    @torch.no_grad()
    def initialise(self) -> None:
        """Set initial weights: outputs of every layer are 0, so the network starts as embedding and head alone."""
        bound = INIT_SCALE * (3 / MODEL_DIM) ** 0.5  # uniform with standard deviation INIT_SCALE / sqrt(C)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_INIT)
        nn.init.normal_(self.head, std=0.001)
        nn.init.uniform_(self.attention, -bound, bound)
        nn.init.uniform_(self.values.weight, -bound, bound)
        nn.init.uniform_(self.up, -bound, bound)
        gates = (self.gates, self.output_gates, self.smear)
        for zero in (self.attention[:, 3], self.down, *gates, self.hint.weight, self.confidence.weight):
            nn.init.zeros_(zero)
        self.resid_lambdas.fill_(RESID_LAMBDA)
        self.x0_lambdas.fill_(X0_LAMBDA)
        self.readout.zero_()
        self.readout[-1] = 1

    def embed(self, idx: Tensor, hint: Tensor, confidence: Tensor, recalled: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the stream before the first layer, (B, T, C), and value embeddings, (B, T, value layers, C)."""
        x = self.embedding(idx) + sum(recalled)
        if HINTS:
            x = x + self.hint(hint) + self.confidence(confidence)
        x = norm(x.to(self.dtype))
        if SMEAR:
            gate = torch.sigmoid(F.linear(x[..., :GATE_CHANNELS], self.smear.to(x.dtype))) - 0.5  # 0 at the start
            is_first = (idx == self.bos)[..., None]  # nothing is smeared into the start of a document
            x = x + gate.masked_fill(is_first, 0) * F.pad(x, (0, 0, 1, 0))[:, :-1]
        return x, self.values(idx).to(x.dtype).unflatten(2, (len(self.value_layers), -1))

    def forward(self, idx: Tensor, targets: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Return the loss in nats, or logits (B, T, V) in float32 without targets.

        Args:
            idx: Token ids, (B, T), int64.
            targets: Next token ids, (B, T), int64.
            reduction: "mean" gives a scalar, "none" a loss for each token, (B, T): what `evaluate_bpb` asks for.
        """
        plain = (look_back, self.embed, layer, losses_of)
        look, embed, run_layer, losses = plain if targets is None else self.fast
        attend = self.attend_plainly if targets is None else self.attend
        with torch.no_grad():
            pairs, triples, hint, confidence = look(idx, self.bos)
        with torch.enable_grad():  # also when evaluating: the graphs are then those that training has compiled
            keys = [k for k, rows in ((pairs, BIGRAM_ROWS), (triples, TRIGRAM_ROWS)) if rows]
            rows = [memory(k).split(MODEL_DIM, dim=2) for memory, k in zip(self.memories, keys, strict=True)]
            x, values = embed(idx, hint, confidence, [for_stream for for_stream, _ in rows])
            extra = dict(zip(self.value_layers, values.unbind(2), strict=True))
            gates = dict(zip(self.value_layers, self.gates.to(self.dtype).unbind(), strict=True))
            matrices = (w.to(self.dtype) for w in (self.attention, self.up, self.down, self.output_gates))
            each = (self.resid_lambdas, self.x0_lambdas, *matrices)
            weights = list(zip(*(w.unbind() for w in each), strict=True))
            outputs, x0 = [], x
            for i, window in enumerate(self.windows):
                mixed_in = [extra[i], *(for_values for _, for_values in rows)] if i in extra else []
                x = run_layer(x, x0, mixed_in, (*weights[i], gates.get(i)), self.rotary, self.qk_scale, attend, window)
                outputs.append(x)
            what = (outputs, self.readout, self.head.to(self.dtype), self.softcap)
            if targets is None:
                return logits_of(*what)
            each_loss = losses(targets, *what)
        each_loss = each_loss if torch.is_grad_enabled() else each_loss.detach()
        return each_loss if reduction == "none" else each_loss.mean()

    def flops_per_token(self) -> float:
        """Return forward and backward multiply-adds times two: 6 per matrix weight, 12 per channel and key seen."""
        matrices = (self.attention, self.up, self.down, self.head)
        return 6 * sum(w.numel() for w in matrices) + sum(12 * MODEL_DIM * window for window in self.windows)


def attention_kind(device: str, compiled: bool) -> str:
    """Return the constant ATTENTION, or where it is `auto` what was measured fastest, or what is likely to be."""
    kind = ATTENTION if ATTENTION != "auto" else os.environ.get("AUTORESEARCH_ATTENTION", "auto")
    if kind == "flex" and not (compiled and device == "cuda"):
        kind = "auto"  # without a compiler it computes the whole row, slowly; on a CPU it has no backward pass
    if kind != "auto":
        return kind
    return "dense" if device == "cpu" else "flex" if compiled else "sdpa"


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


def muon_update(p: Tensor, gradient: Tensor, momentum: Tensor, square: Tensor, scalars: Tensor) -> None:
    """Apply normalised Muon in place to the matrices of one kind, each (…, rows, columns).

    Args:
        p: Weights.
        gradient: Theirs.
        momentum: Running mean of gradients, shaped like p.
        square: Running mean square of each output row of the update, (…, rows, 1).
        scalars: Rate, weight decay, momentum, MUON_BETA2.
    """
    lr, decay, beta, beta2 = scalars.unbind()
    momentum.lerp_(gradient, 1 - beta)
    update = orthogonalise(torch.lerp(gradient, momentum, beta).flatten(0, -3), MUON_STEPS).view(p.shape)  # Nesterov
    # Rows that always move much are slowed, others sped up; the size of the whole update stays what it was.
    size = update.square().mean(dim=(-2, -1), keepdim=True)
    square.lerp_(update.square().mean(-1, keepdim=True), 1 - beta2)
    update = update * (square + 1e-10).rsqrt()
    update = update * (size / (update.square().mean(dim=(-2, -1), keepdim=True) + 1e-10)).sqrt()
    update = update * max(1, p.size(-2) / p.size(-1)) ** 0.5  # tall matrices: same size of change per output
    # Cautious decay: shrink a weight only where the update agrees, so that decay never fights the gradient.
    p.sub_(lr * (update + decay * p * (update * p >= 0)))


def adam_update(p: Tensor, gradient: Tensor, first: Tensor, second: Tensor, scalars: Tensor) -> None:
    """Apply AdamW (Loshchilov and Hutter 2019) in place to one parameter; scalars: rate, decay, betas, step count."""
    lr, decay, beta1, beta2, step = scalars.unbind()
    first.lerp_(gradient, 1 - beta1)
    second.lerp_(gradient.square(), 1 - beta2)
    update = first / (1 - beta1**step) / ((second / (1 - beta2**step)).sqrt() + 1e-10)
    p.sub_(lr * (update + decay * p))


def update_all(
    muon: list[tuple[Tensor, ...]], adam: list[tuple[Tensor, ...]], muon_scalars: Tensor, adam_scalars: Tensor
) -> None:
    """Apply both optimisers to all dense parameters: one graph, so that small kernels are fused."""
    for tensors, scalars in zip(muon, muon_scalars.unbind(), strict=True):
        muon_update(*tensors, scalars)
    for tensors, scalars in zip(adam, adam_scalars.unbind(), strict=True):
        adam_update(*tensors, scalars)


class Optimiser:
    """Muon for matrices inside the layers, AdamW for embeddings, head and scalars, sparse RMSProp for memories."""

    def __init__(self, model: GPT, device: str, *, compiled: bool) -> None:
        width = (MODEL_DIM / 768) ** -0.5
        self.model = model
        self.device = device
        self.adam_rates = [  # parameter, rate, decay, beta1
            (model.embedding.weight, EMBEDDING_LR * width, EMBEDDING_DECAY, ADAM_BETA1),
            (model.values.weight, VALUE_LR * width, VALUE_DECAY, ADAM_BETA1),
            (model.hint.weight, HINT_LR * width, 0.0, ADAM_BETA1),
            (model.confidence.weight, HINT_LR * width, 0.0, ADAM_BETA1),
            (model.head, UNEMBEDDING_LR * width, 0.01, ADAM_BETA1),
            (model.smear, 0.01, 0.0, ADAM_BETA1),
            (model.output_gates, 0.01, 0.0, ADAM_BETA1),
            (model.resid_lambdas, SCALAR_LR * 0.01, 0.0, ADAM_BETA1),  # they compound over layers, so they move slowly
            (model.readout, SCALAR_LR * 0.01, 0.0, ADAM_BETA1),
            (model.x0_lambdas, SCALAR_LR, 0.0, 0.96),
        ]
        self.adam_rates = [group for group in self.adam_rates if self.is_used(group[0])]
        self.matrices = [model.attention, model.up, model.down, model.gates]
        self.adam = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p, *_ in self.adam_rates]
        self.muon = [(p, torch.zeros_like(p), torch.zeros_like(p[..., :1])) for p in self.matrices]
        self.update_all = torch.no_grad()(torch.compile(update_all, dynamic=False) if compiled else update_all)
        self.row_update = torch.compile(row_update, dynamic=False) if compiled else row_update
        self.steps = 0

    def is_used(self, p: Tensor) -> bool:
        """Whether the constants let this parameter take part."""
        model = self.model
        unused = [] if HINTS else [model.hint.weight, model.confidence.weight]
        unused += ([] if SMEAR else [model.smear]) + ([] if READOUT else [model.readout])
        unused += [] if OUTPUT_GATE else [model.output_gates]
        return all(p is not other for other in unused)

    def reset(self) -> None:
        """Forget moments, step count and what memories hold."""
        self.steps = 0
        for _, *state in (*self.muon, *self.adam):
            for tensor in state:
                tensor.zero_()
        for memory in self.model.memories:
            memory.reset()

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """Update every parameter from its gradient, then drop the gradients; progress is the budget's, 0 to 1."""
        self.steps += 1
        rate = learning_rate(progress)
        momentum = MUON_MOMENTUM - (MUON_MOMENTUM - 0.85) * max(0.0, 1 - progress / max(MOMENTUM_WARMUP, 1e-9))
        muon = [(MATRIX_LR * rate, WEIGHT_DECAY * (1 - progress), momentum, MUON_BETA2) for _ in self.muon]
        adam = [(lr * rate, decay, beta1, ADAM_BETA2, self.steps) for _, lr, decay, beta1 in self.adam_rates]
        muon_tensors = [(p, p.grad, *state) for p, *state in self.muon]
        adam_tensors = [(p, p.grad, *state) for p, *state in self.adam]
        self.update_all(muon_tensors, adam_tensors, self.on_device(muon), self.on_device(adam))
        scalars = self.on_device((MEMORY_LR, rate, MEMORY_BETA2, MEMORY_PATIENCE))
        for memory in self.model.memories:
            memory.learn(self.row_update, scalars)
        for p in self.model.parameters():
            p.grad = None

    def on_device(self, numbers) -> Tensor:
        """Return numbers as a float32 tensor on the device, without waiting for it."""
        tensor = torch.tensor(numbers)
        tensor = tensor.pin_memory() if self.device == "cuda" else tensor
        return tensor.to(self.device, non_blocking=True)


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
    for name in ("DEPTH", "HEAD_DIM", "SHORT_WINDOW", "DEVICE_BATCH_SIZE", "VALUE_EVERY"):
        assert globals()[name] >= 1, f"{name} {globals()[name]} must be at least 1"
    assert MODEL_DIM % HEAD_DIM == 0, f"MODEL_DIM {MODEL_DIM} must be a multiple of HEAD_DIM {HEAD_DIM}"
    assert HEAD_DIM % 2 == 0, f"HEAD_DIM {HEAD_DIM} must be even: rotary positions turn pairs of channels"
    assert WINDOW_PATTERN and set(WINDOW_PATTERN) <= {"L", "S"}, f"WINDOW_PATTERN '{WINDOW_PATTERN}' may hold L and S"
    kinds = ("auto", "varlen", "flex", "sdpa", "dense")
    assert ATTENTION in kinds, f"ATTENTION '{ATTENTION}' must be one of {', '.join(kinds)}"
    assert 1 <= GATE_CHANNELS <= MODEL_DIM, f"GATE_CHANNELS {GATE_CHANNELS} must be from 1 to MODEL_DIM {MODEL_DIM}"
    for name, rows in (("BIGRAM_ROWS", BIGRAM_ROWS), ("TRIGRAM_ROWS", TRIGRAM_ROWS)):
        assert rows & (rows - 1) == 0, f"{name} {rows} must be a power of two, or 0 for none"
    assert TOTAL_BATCH_SIZE % T == 0, f"TOTAL_BATCH_SIZE {TOTAL_BATCH_SIZE} must be a multiple of the row length {T}"
    rows = TOTAL_BATCH_SIZE // T
    part = min(DEVICE_BATCH_SIZE, rows)
    assert rows % part == 0, f"a step of {rows} rows must be a multiple of DEVICE_BATCH_SIZE {DEVICE_BATCH_SIZE}"
    return rows


def compiling_pays(device: str, budget_seconds: float) -> bool:
    """Whether compiled steps are worth their start: always on CUDA, never on a Mac, on a CPU when the run is long."""
    has_compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    return device == "cuda" or (device == "cpu" and budget_seconds >= COMPILE_FROM and has_compiler)


def bf16_pays(device: str) -> bool:
    """Whether bfloat16 multiplies faster than float32 here: as measured, or by what the device is."""
    if measured := os.environ.get("AUTORESEARCH_BF16"):
        return measured == "1"
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "cpu":
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return False


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


def driver_memory_mb(device: str) -> float:
    """Return the memory in use on the GPU as its driver counts it, in MiB: with what no allocator here knows of."""
    if device != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def stop_if_diverged(loss: float, step: int) -> None:
    """End the run at once when the loss is not a number: nothing after it can be of use."""
    if not math.isfinite(loss):
        print(f"FAIL: loss is {loss} at step {step}", flush=True)
        sys.exit(1)


def gradient_step(model: GPT, optimiser: Optimiser, inputs: Tensor, targets: Tensor, progress: float) -> Tensor:
    """Take one optimiser step on a batch, in parts of at most DEVICE_BATCH_SIZE rows. Returns the mean loss."""
    parts = list(zip(inputs.split(DEVICE_BATCH_SIZE), targets.split(DEVICE_BATCH_SIZE), strict=True))
    total = torch.zeros((), device=inputs.device)
    for x, y in parts:
        loss = model(x, y) / len(parts)
        loss.backward()
        total += loss.detach()
    optimiser.step(progress)
    return total


def warm_up(model: GPT, optimiser: Optimiser, loader: harness.Loader) -> None:
    """Compile and allocate on random tokens before the clock starts, then put every weight back."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):
        gradient_step(model, optimiser, *loader.warmup_batch(), progress=0.0)
    model.load_state_dict(before)
    optimiser.reset()


def train(model: GPT, optimiser: Optimiser, loader: harness.Loader, runtime: harness.Runtime) -> None:
    """Train until the loader ends, which is when the budget does. Prints a line about every 2 % of it."""
    lag = 2 if runtime.device == "cuda" else 0  # reading a fresh loss would stall a GPU; one two steps old is free
    waiting: list[Tensor] = []
    smooth, next_line = 0.0, 0.02
    for inputs, targets in loader:
        for memory in model.memories:
            memory.turn_to(math.ceil(loader.epochs) - 1)
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
    compiled = USE_COMPILE and compiling_pays(device, 0.0 if runtime.max_steps else runtime.budget_seconds)
    bf16 = USE_BF16 and bf16_pays(device)
    with torch.device(device):
        model = GPT(data.vocab_size, data.sequence_length, data.bos_id, device, bf16=bf16, compiled=compiled)
    optimiser = Optimiser(model, device, compiled=compiled)
    loader = data.make_loader(rows_per_step, runtime)
    num_params = sum(p.numel() for p in model.parameters()) + sum(m.rows * m.width for m in model.memories)
    runtime.describe(
        constants()
        | {
            "num_params": num_params,
            "device": device,
            "bf16": bf16,
            "compiled": compiled,
            "attention": attention_kind(device, compiled),
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
    warm_up(model, optimiser, loader)
    gc.collect()
    gc.freeze()  # nothing built so far is garbage: spare the collector from walking it during training

    train(model, optimiser, loader, runtime)
    data.evaluate_bpb(model, min(DEVICE_BATCH_SIZE, rows_per_step), runtime)
    speed = loader.steps * TOTAL_BATCH_SIZE / max(loader.seconds, 1e-9)
    peak = float(os.environ.get("AUTORESEARCH_PEAK_FLOPS", "0"))  # measured by `doctor`; 0 when it was not
    runtime.finish(
        {
            "peak_vram_mb": round(peak_memory_mb(device), 1),
            "driver_memory_mb": round(driver_memory_mb(device), 1),
            "mfu_percent": round(100 * speed * model.flops_per_token() / peak, 2) if peak else 0.0,
            "num_params_M": round(num_params / 1e6, 3),
            "depth": DEPTH,
        }
    )


if __name__ == "__main__":
    try:
        main()
    except (harness.DataError, AssertionError) as error:
        sys.exit(f"FAIL: {error}")
