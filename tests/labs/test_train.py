"""The tuned start of the pretraining lab: attention, optimisers, switches, and what is compiled.

What it shares with the plain start is in test_starts.py, what it recalls in test_recall.py.
"""

import warnings

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

VOCAB, LENGTH, BOS = 50, 32, 0


def tokens(rows=4, seed=1):
    """Return random inputs and targets."""
    draw = torch.randint(VOCAB, (rows, LENGTH + 1), generator=torch.Generator().manual_seed(seed))
    return draw[:, :-1], draw[:, 1:]


def build(train, *, compiled=False, random=True, **constants):
    """Return a model and its optimiser, with random weights where the initial zeros would hide mistakes."""
    for name, value in constants.items():
        setattr(train, name, value)
    torch.manual_seed(0)
    model = train.GPT(VOCAB, LENGTH, BOS, "cpu", bf16=False, compiled=compiled)
    if random:
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn_like(p) * 0.3)
    return model, train.Optimiser(model, "cpu", compiled=compiled)


# ---------------------------------------------------------------------------------------------------------------------
# Attention


def queries_keys_values(seed=0, heads=4, channels=8):
    """Return three random tensors (2, LENGTH, heads, channels)."""
    return torch.randn(3, 2, LENGTH, heads, channels, generator=torch.Generator().manual_seed(seed)).unbind()


def slow_attention(q, k, v, window):
    """Return softmax over exactly the window's keys, position by position."""
    out = torch.empty_like(q)
    for t in range(LENGTH):
        near = slice(max(0, t - window + 1), t + 1)
        scores = torch.einsum("bhd,bkhd->bhk", q[:, t], k[:, near]) / q.size(-1) ** 0.5
        out[:, t] = torch.einsum("bhk,bkhd->bhd", scores.softmax(-1), v[:, near])
    return out


@pytest.mark.parametrize("window", [1, 5, 8, LENGTH])
def test_windows_match_a_slow_reading(train, window):
    """Dense attention sees exactly the tokens of its window, the current one included."""
    qkv = queries_keys_values()
    torch.testing.assert_close(train.make_attention("dense", LENGTH, "cpu")(*qkv, window), slow_attention(*qkv, window))


def test_without_windows_sdpa_is_dense_attention(train):
    """On whole rows both are the same; with a shorter window `sdpa` sees the whole row all the same, as documented."""
    qkv = queries_keys_values()
    sdpa, dense = (train.make_attention(kind, LENGTH, "cpu") for kind in ("sdpa", "dense"))
    torch.testing.assert_close(sdpa(*qkv, LENGTH), dense(*qkv, LENGTH))
    assert torch.equal(sdpa(*qkv, 5), sdpa(*qkv, LENGTH))


@pytest.mark.parametrize("window", [8, LENGTH])
def test_flex_is_dense_attention(train, window):
    """Block-sparse attention sees the same tokens; here uncompiled, as a compiler may be missing."""
    train.WINDOW_PATTERN = "S"
    qkv = queries_keys_values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow without a compiler
        found = train.make_attention("flex", LENGTH, "cpu")(*qkv, window)
    torch.testing.assert_close(found, slow_attention(*qkv, window))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention of variable length needs a CUDA GPU")
@pytest.mark.parametrize("window", [8, LENGTH])
def test_varlen_is_dense_attention(train, window):
    """Flash attention sees the same tokens, within the rounding of bfloat16."""
    qkv = [x.cuda().bfloat16() for x in queries_keys_values(channels=64)]
    found = train.make_attention("varlen", LENGTH, "cuda")(*qkv, window)
    torch.testing.assert_close(found.float(), slow_attention(*(x.float() for x in qkv), window), rtol=0.02, atol=0.02)


def test_the_last_layer_sees_the_whole_row(train):
    """Patterns repeat over the layers below the last, which always sees the whole row."""
    train.DEPTH, train.WINDOW_PATTERN = 5, "SSL"
    assert train.windows(LENGTH) == [8, 8, LENGTH, 8, LENGTH]
    train.DEPTH, train.WINDOW_PATTERN = 1, "S"
    assert train.windows(LENGTH) == [LENGTH]
    assert train.windows(4) == [4]


def test_attention_follows_the_constant_then_the_measurement(train, monkeypatch):
    """A constant decides; with `auto` what `doctor` measured does, and without that the kind of device."""
    monkeypatch.delenv("AUTORESEARCH_ATTENTION", raising=False)
    assert [train.attention_kind("cpu", False), train.attention_kind("cuda", True)] == ["dense", "flex"]
    assert [train.attention_kind("cuda", False), train.attention_kind("mps", False)] == ["sdpa", "sdpa"]
    monkeypatch.setenv("AUTORESEARCH_ATTENTION", "varlen")
    assert train.attention_kind("cuda", True) == "varlen"
    train.ATTENTION = "sdpa"
    assert train.attention_kind("cuda", True) == "sdpa"


def test_rotation_keeps_length_and_sees_distance(train):
    """Rotated vectors keep their norm, and their dot product depends on the distance between positions only."""
    table = train.rotary_table(LENGTH)
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    turned_q, turned_k = (train.rotate(x.expand(1, LENGTH, 1, 16), table)[0, :, 0] for x in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(LENGTH))
    torch.testing.assert_close(turned_q[9] @ turned_k[4], turned_q[25] @ turned_k[20])


# ---------------------------------------------------------------------------------------------------------------------
# Optimiser


SHAPES = [(2, 4, 8, 8), (2, 24, 8), (3, 8, 24)]


def muon_step(train, p, gradient, lr=0.1, decay=0.0, momentum=None, square=None):
    """Apply one step to a copy and return it; Muon's memory is new unless given, and changes in place."""
    p = p.clone()
    momentum = torch.zeros_like(p) if momentum is None else momentum
    square = torch.zeros_like(p[..., :1]) if square is None else square
    train.muon_update(p, gradient, momentum, square, torch.tensor([lr, decay, 0.9, 0.95]))
    return p


def weights_and_gradient(shape, seed=0):
    """Return random weights, and gradients whose rows differ much in size."""
    p, gradient, rows = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed)).unbind()
    return p, gradient * rows[..., :1].exp()


@pytest.mark.parametrize("shape", SHAPES)
def test_normalised_rows_keep_the_size_of_the_update(train, shape):
    """Rows are made equally large, and each matrix moves as far as without that."""
    p, gradient = weights_and_gradient(shape)
    update = (p - muon_step(train, p, gradient)) / 0.1
    plain = train.orthogonalise(gradient.flatten(0, -3), train.MUON_STEPS).view(shape)
    plain = plain * max(1, shape[-2] / shape[-1]) ** 0.5
    torch.testing.assert_close(update.norm(dim=(-2, -1)), plain.norm(dim=(-2, -1)), rtol=1e-3, atol=0)
    rows = update.square().mean(-1)
    torch.testing.assert_close(rows, rows[..., :1].expand_as(rows), rtol=1e-3, atol=0)
    torch.testing.assert_close(update / update.norm(dim=-1, keepdim=True), plain / plain.norm(dim=-1, keepdim=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_stacked_matrices_are_updated_as_if_alone(train, shape):
    """Over three steps each matrix of a stack goes where it goes alone: none sees its neighbours."""
    p, _ = weights_and_gradient(shape)
    together, momentum, square = p, torch.zeros_like(p), torch.zeros_like(p[..., :1])
    alone = list(p.flatten(0, -3))
    memory = [(torch.zeros_like(one[None]), torch.zeros_like(one[None, :, :1])) for one in alone]
    for seed in range(3):
        _, gradient = weights_and_gradient(shape, seed)
        together = muon_step(train, together, gradient, decay=0.1, momentum=momentum, square=square)
        for i, one in enumerate(gradient.flatten(0, -3)):
            alone[i] = muon_step(train, alone[i][None], one[None], 0.1, 0.1, *memory[i])[0]
    torch.testing.assert_close(together.flatten(0, -3), torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_decay_never_fights_the_gradient(train):
    """Weights shrink where the update makes them smaller too, and nowhere else."""
    p, gradient = weights_and_gradient((2, 4, 8, 8))
    plain, decayed = (muon_step(train, p, gradient, decay=decay) for decay in (0.0, 0.2))
    agrees = (p - plain) * p > 0
    assert 0.2 < agrees.double().mean() < 0.8
    torch.testing.assert_close(decayed, plain - 0.1 * 0.2 * p * agrees)
    assert torch.equal(decayed[~agrees], plain[~agrees])


def test_muon_leaves_what_has_no_gradient(train):
    """A matrix without gradient, as the first steps have them, stays as it is and finite."""
    p, _ = weights_and_gradient((2, 8, 8))
    assert torch.equal(muon_step(train, p, torch.zeros_like(p)), p)


def test_adam_matches_torch(train):
    """Our few lines of AdamW take the same steps as torch's."""
    start, *gradients = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.3)
    first, second = torch.zeros(7), torch.zeros(7)
    for step, gradient in enumerate(gradients, 1):
        theirs.grad = gradient.clone()
        train.adam_update(ours, gradient, first, second, torch.tensor([0.1, 0.3, 0.8, 0.95, step]))
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


# ---------------------------------------------------------------------------------------------------------------------
# Constants and switches


MOVED = {
    "QK_SCALE": 0.9,
    "LOGIT_SOFTCAP": 23.0,
    "ROPE_BASE": 5000.0,
    "RESID_LAMBDA": 0.9,
    "X0_LAMBDA": 0.2,
    "INIT_SCALE": 0.5,
    "EMBEDDING_INIT": 0.5,
    "MEMORY_LR": 0.1,
    "MEMORY_BETA2": 0.9,
    "MEMORY_PATIENCE": 8.0,
    "EMBEDDING_LR": 0.1,
    "VALUE_LR": 0.1,
    "HINT_LR": 0.1,
    "UNEMBEDDING_LR": 0.01,
    "MATRIX_LR": 0.01,
    "SCALAR_LR": 0.1,
    "WEIGHT_DECAY": 0.1,
    "EMBEDDING_DECAY": 0.01,
    "VALUE_DECAY": 0.01,
    "ADAM_BETA1": 0.7,
    "ADAM_BETA2": 0.9,
    "MUON_MOMENTUM": 0.9,
    "MUON_BETA2": 0.9,
    "MOMENTUM_WARMUP": 0.3,
    "WARMDOWN_RATIO": 0.5,
    "FINAL_LR_FRAC": 0.1,
}
"""Constants that a tuner moves again and again, with other values."""


def end_of(train, **constants):
    """Return the losses of a batch after four steps from the initial weights."""
    train.__dict__.update(constants)
    model, optimiser = build(train, random=False)
    for i in range(4):
        train.gradient_step(model, optimiser, *tokens(seed=i), progress=i / 4)
    return model.eval()(*tokens(), reduction="none").detach()


def test_every_rate_and_scale_matters(train):
    """Each constant that a tuner moves has an effect on a short run: none is read by nobody."""
    first, without_effect = end_of(train), []
    for name, value in (MOVED | {"MUON_STEPS": 3}).items():
        before = getattr(train, name)
        if torch.equal(first, end_of(train, **{name: value})):
            without_effect.append(name)
        setattr(train, name, before)
    assert without_effect == []
    assert torch.equal(first, end_of(train))


@pytest.mark.parametrize(
    "constants",
    [
        {"BIGRAM_ROWS": 0},
        {"TRIGRAM_ROWS": 0},
        {"BIGRAM_ROWS": 0, "TRIGRAM_ROWS": 0},
        {"HINTS": False},
        {"SMEAR": False},
        {"READOUT": False},
        {"DEPTH": 1},
        {"DEPTH": 3, "VALUE_EVERY": 1},
        {"BIGRAM_ROWS": 0, "TRIGRAM_ROWS": 0, "HINTS": False, "SMEAR": False, "READOUT": False},
    ],
    ids=lambda constants: ",".join(f"{name}={value}" for name, value in constants.items()),
)
def test_each_part_can_be_left_out(train, constants):
    """Without a part the model runs and learns a batch, and what is left out alone is not trained."""
    model, optimiser = build(train, random=False, **constants)
    before = {name: p.clone() for name, p in model.named_parameters()}
    losses = [train.gradient_step(model, optimiser, *tokens(), progress=0.0).item() for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    still = {name.split(".")[0] for name, p in model.named_parameters() if p.equal(before[name])}
    left_out = {"HINTS": ("hint", "confidence"), "SMEAR": ("smear",), "READOUT": ("readout",)}
    assert still == {name for switch, names in left_out.items() if switch in constants for name in names}
    assert len(model.memories) == (train.BIGRAM_ROWS > 0) + (train.TRIGRAM_ROWS > 0)
    assert all(memory.pages[-1].table.any() for memory in model.memories)
    assert model.flops_per_token() > 0


# ---------------------------------------------------------------------------------------------------------------------
# Compiling


@pytest.fixture(params=["eager"])
def graphs(request, monkeypatch):
    """Have torch.compile hand its graphs to a list, as text, and run them without compiling: no compiler is needed."""
    found = []
    real = torch.compile

    def collect(graph, inputs):
        found.append(graph.print_readable(print_output=False, include_stride=True))
        return torch._dynamo.lookup_backend(request.param)(graph, inputs)

    monkeypatch.setattr(torch, "compile", lambda function, **how: real(function, backend=collect, **how))
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def run_of(train, steps=3, **constants):
    """Train a few steps on changing batches, evaluate one, and return all losses."""
    model, optimiser = build(train, **constants)
    losses = [train.gradient_step(model, optimiser, *tokens(seed=i), progress=i / steps) for i in range(steps)]
    model.eval()
    with torch.no_grad():
        x, y = tokens(rows=train.DEVICE_BATCH_SIZE)
        evaluated = model(x, y, reduction="none")
    return torch.cat([torch.stack(losses), evaluated.flatten()])


@pytest.mark.parametrize("graphs", ["aot_eager"], indirect=True)  # gradients of the compiled graph, too
def test_compiled_and_plain_runs_agree(train, graphs):
    """Losses of training and evaluation are the same compiled, in one graph per function and kind of layer."""
    plain = run_of(train)
    assert not graphs
    torch.testing.assert_close(run_of(train, compiled=True), plain, rtol=1e-4, atol=1e-4)
    kinds = {(train.windows(LENGTH)[i], (train.DEPTH - 1 - i) % train.VALUE_EVERY == 0) for i in range(train.DEPTH)}
    assert len(graphs) == 5 + len(kinds)  # looking back, embedding, losses, dense update, rows of both tables alike


def test_moving_a_rate_compiles_nothing_anew(train, graphs):
    """Graphs do not know rates, scales and schedules: with others they are the same, and found where they were kept."""
    run_of(train, 1, compiled=True)
    first = graphs[:]
    graphs.clear()
    torch._dynamo.reset()
    for name, value in MOVED.items():
        assert getattr(train, name) != value, name
    moved = run_of(train, 1, compiled=True, **MOVED)
    assert graphs == first
    torch.testing.assert_close(run_of(train, 1), moved, rtol=1e-4, atol=1e-4)
    graphs.clear()
    torch._dynamo.reset()
    run_of(train, 1, compiled=True, MLP_RATIO=2)
    assert graphs != first  # a size is another graph
