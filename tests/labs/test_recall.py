"""What the tuned start of the pretraining lab recalls: n-gram keys, hints from the document, learnt tables.

A slip here would let the future, another row or another document into a prediction, and make a score that no model
deserves. So all of it is compared with slow readings of the same rules, and exactly.
"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

BOS = 0
VOCAB, LENGTH = 50, 32


def random_rows(rows, length, alphabet=VOCAB, seed=0, bos=0.08):
    """Return random tokens with a BOS here and there, (rows, length)."""
    draw = torch.Generator().manual_seed(seed)
    idx = torch.randint(1, alphabet, (rows, length), generator=draw)
    return idx.masked_fill(torch.rand(rows, length, generator=draw) < bos, BOS)


def changed_from(idx, row, position, seed):
    """Return copies of idx that differ in one row from a position on: replaced, a BOS put in, a token taken out."""
    copies = [idx.clone() for _ in range(4)]
    rest = idx[row, position:]
    copies[0][row, position:] = random_rows(1, len(rest), seed=seed, bos=0.3)[0]
    copies[1][row, position:] = torch.cat([torch.tensor([BOS]), rest])[: len(rest)]
    copies[2][row, position:] = torch.cat([rest[1:], torch.tensor([7])])
    copies[3][row, position] = 3 if rest[0] == BOS else BOS
    return copies


# One row of any text: a small alphabet repeats itself, and documents begin anywhere.
texts = st.integers(2, 4).flatmap(lambda letters: st.lists(st.integers(0, letters), min_size=2, max_size=40))


# ---------------------------------------------------------------------------------------------------------------------
# Looking back


def slow_reading(row):
    """Return, for each position, the two tokens before it, the hinted token and its confidence, straight from rules."""
    answers, begin = [], 0
    for t, token in enumerate(row):
        begin = t if token == BOS else begin
        document = row[begin : t + 1]
        grams = [tuple([BOS, BOS, *document[: i + 1]][-3:]) for i in range(len(document))]
        now, hint, confidence = grams[-1], BOS, None
        for width, by in ((3, 1), (2, 0)):
            places = [i for i in range(len(grams) - 1) if grams[i][-width:] == now[-width:]]
            if places and token != BOS:
                hint = document[places[-1] + 1]
                confidence = by * 12 + min(11, int(math.log2(len(grams) - 1 - places[-1])))
                break
        answers.append((now[1], now[0], hint, 24 if confidence is None else confidence))
    return answers


@settings(deadline=None, max_examples=150)
@given(text=texts)
def test_hints_are_what_a_slow_reading_finds(shared_train, text):
    """Tokens before, hints and confidences are those of a reading of the document from its start."""
    idx = torch.tensor([text])
    one, two = shared_train.history(idx, BOS)
    _, _, hint, confidence = shared_train.look_back(idx, BOS)
    found = zip(*(x[0].tolist() for x in (one, two, hint, confidence)), strict=True)
    assert list(found) == slow_reading(text)


def test_hints_of_long_rows_and_large_tokens(shared_train):
    """With tokens up to 65,535, and with thousands of documents in one row, no key is taken for another."""
    draw = torch.Generator().manual_seed(0)
    large = torch.randint(65_536 - 30, 65_536, (1, 1500), generator=draw)
    many = random_rows(1, 4000, alphabet=4, bos=0.5)
    for idx in (large.masked_fill(torch.rand(1, 1500, generator=draw) < 0.002, BOS), many):
        _, _, hint, confidence = shared_train.look_back(idx, BOS)
        expected = slow_reading(idx[0].tolist())
        assert hint[0].tolist() == [e[2] for e in expected]
        assert confidence[0].tolist() == [e[3] for e in expected]


@settings(deadline=None, max_examples=50)
@given(keys=st.lists(st.lists(st.integers(-3, 3), min_size=9, max_size=9), min_size=1, max_size=3))
def test_earlier_match_is_the_last_equal_key_before(shared_train, keys):
    """For each position the answer is the nearest earlier one of the same row with the same key, or -1."""
    expected = [[max([i for i in range(t) if row[i] == row[t]], default=-1) for t in range(9)] for row in keys]
    assert shared_train.earlier_match(torch.tensor(keys)).tolist() == expected


def test_nothing_later_and_no_other_row_is_looked_at(shared_train):
    """Keys and hints before a change, and those of other rows, stay what they were."""
    differs = 0
    for seed in range(40):
        idx = random_rows(3, LENGTH, alphabet=6, seed=seed)
        row, position = seed % 3, 1 + seed % (LENGTH - 1)
        before = shared_train.look_back(idx, BOS)
        for other in changed_from(idx, row, position, seed):
            for was, now in zip(before, shared_train.look_back(other, BOS), strict=True):
                assert torch.equal(was[row, :position], now[row, :position])
                elsewhere = [i for i in range(3) if i != row]
                assert torch.equal(was[elsewhere], now[elsewhere])
                differs += not torch.equal(was, now)
    assert differs > 300


def test_nothing_enters_from_an_earlier_document(shared_train):
    """After a BOS, keys and hints are those that the document would have at the start of a row."""
    for seed in range(40):
        begin = 1 + seed % (LENGTH - 2)
        idx = random_rows(1, LENGTH, alphabet=5, seed=seed)
        idx[0, begin] = BOS
        alone = shared_train.look_back(idx[:, begin:], BOS)
        for whole, part in zip(shared_train.look_back(idx, BOS), alone, strict=True):
            assert torch.equal(whole[:, begin:], part)


@pytest.mark.parametrize("stride", [1, 128])
@pytest.mark.parametrize("rows", [64, 4096])
@pytest.mark.parametrize("width", [2, 3])
def test_hashed_rows_are_uniform(train, rows, width, stride):
    """Orderly tuples of tokens fall into rows as if thrown: chi-square within seven standard deviations."""
    side = {2: 400, 3: 54}[width]
    axes = torch.meshgrid(*[torch.arange(0, side * stride, stride)] * width, indexing="ij")
    keys = train.hashed(*(axis.flatten() for axis in axes), rows=rows)
    assert keys.min() >= 0 and keys.max() < rows
    counts = torch.bincount(keys, minlength=rows).double()
    expected = len(keys) / rows
    chi_square = ((counts - expected).square() / expected).sum().item()
    assert abs(chi_square - (rows - 1)) < 7 * math.sqrt(2 * (rows - 1))


def test_hashed_rows_depend_on_order(train):
    """The pair (a, b) and the pair (b, a) share a row as seldom as two unrelated pairs do."""
    a, b = torch.triu_indices(200, 200, offset=1)
    same = (train.hashed(a, b, rows=256) == train.hashed(b, a, rows=256)).double().mean().item()
    assert 0.5 / 256 < same < 1.5 / 256
    assert train.hashed(a, b, rows=1).max() == 0


# ---------------------------------------------------------------------------------------------------------------------
# The whole model


def full_model(train, **constants):
    """Return a model with random weights and filled tables; NaN in the spare rows, which nobody may read."""
    for name, value in constants.items():
        setattr(train, name, value)
    torch.manual_seed(0)
    model = train.GPT(VOCAB, LENGTH, BOS, "cpu", bf16=False, compiled=False)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
        for memory in model.memories:
            memory.turn_to(1)
            for page in memory.pages:
                page.table.normal_(std=0.5)
                page.touches.random_(3)
                for spare in vars(page).values():
                    spare[-1] = math.nan
    return model.eval()


@pytest.mark.parametrize("attention", ["dense", "sdpa"])
@pytest.mark.parametrize("pattern", ["L", "S", "SSL"])
def test_no_loss_depends_on_the_future_or_on_other_rows(train, pattern, attention):
    """Replacing, inserting or removing later tokens, BOS included, changes no bit of an earlier loss or other row."""
    model = full_model(train, DEPTH=3, WINDOW_PATTERN=pattern, ATTENTION=attention)
    for seed in range(8):
        idx, targets = random_rows(3, LENGTH, alphabet=9, seed=seed), random_rows(3, LENGTH, seed=seed + 100)
        row, position = seed % 3, 1 + (7 * seed) % (LENGTH - 1)
        before = model(idx, targets, reduction="none")
        assert before.isfinite().all()
        for other in changed_from(idx, row, position, seed):
            after = model(other, targets, reduction="none")
            elsewhere = [i for i in range(3) if i != row]
            assert torch.equal(before[row, :position], after[row, :position])
            assert torch.equal(before[elsewhere], after[elsewhere])
            assert torch.equal(idx, other) or not torch.equal(before[row, position:], after[row, position:])


def test_only_attention_sees_an_earlier_document(train):
    """Without attention's output, losses from a BOS on are the same whatever came before it; with it they are not."""
    model = full_model(train)
    idx, targets = random_rows(2, LENGTH, alphabet=9, bos=0), random_rows(2, LENGTH, seed=1)
    for begin in (1, 2, 11, LENGTH - 2):
        idx[:, begin] = BOS
        other = idx.clone()
        other[:, :begin] = random_rows(2, begin, seed=begin, bos=0.2)
        assert not torch.equal(*(model(x, targets, reduction="none")[:, begin:] for x in (idx, other)))
    with torch.no_grad():
        model.attention[:, 3] = 0
    for begin in (1, 2, 11, LENGTH - 2):
        other = idx.clone()
        other[:, :begin] = random_rows(2, begin, seed=begin, bos=0.2)
        assert torch.equal(*(model(x, targets, reduction="none")[:, begin:] for x in (idx, other)))


def test_the_smear_reaches_one_token_back(train):
    """Of the parts other than attention and recall, the smear alone looks back: one token, never past a BOS."""
    model = full_model(train, BIGRAM_ROWS=0, TRIGRAM_ROWS=0, HINTS=False)
    with torch.no_grad():
        model.attention[:, 3] = 0
    idx, targets = random_rows(1, LENGTH, bos=0), random_rows(1, LENGTH, seed=1)
    idx[0, 20] = BOS
    before = model(idx, targets, reduction="none")
    for position, reached in ((9, [9, 10]), (19, [19])):
        other = idx.clone()
        other[0, position] = idx[0, position] % (VOCAB - 1) + 1
        differs = before != model(other, targets, reduction="none")
        assert differs[0].nonzero().flatten().tolist() == reached


# ---------------------------------------------------------------------------------------------------------------------
# Memories


RATE, BETA2, PATIENCE = 0.3, 0.9, 4.0
ROWS, WIDTH = 16, 6


def filled(train, dtype=torch.float32):
    """Return a small memory with random rows."""
    memory = train.Memory(ROWS, WIDTH, dtype)
    memory.pages[-1].table.normal_(generator=torch.Generator().manual_seed(0))
    return memory


def known(memory):
    """Return rows, squares and touches of the page that is being written, without the spare row."""
    page = memory.pages[-1]
    return page.table[:-1], page.square[:-1], page.touches[:-1]


def learn(train, memory, keys, weights, schedule):
    """Read keys in parts, let the loss be a weighted sum of what was read, and learn from it."""
    for k, w in zip(keys, weights, strict=True):
        (memory(k) * w).sum().backward()
    with torch.no_grad():
        memory.learn(train.row_update, torch.tensor([RATE, schedule, BETA2, PATIENCE]))


class Dense:
    """The same rules by dense autograd: an embedding, its whole gradient, and the formula for rows that were read."""

    def __init__(self, memory):
        self.table = known(memory)[0].float().clone()
        self.square, self.touches = torch.zeros(ROWS), torch.zeros(ROWS)

    def learn(self, keys, weights, schedule):
        """Take one step."""
        embedding = torch.nn.Embedding.from_pretrained(self.table.clone(), freeze=False)
        sum((embedding(k) * w).sum() for k, w in zip(keys, weights, strict=True)).backward()
        for row in torch.cat([k.flatten() for k in keys]).unique().tolist():
            gradient = embedding.weight.grad[row]
            self.touches[row] += 1
            self.square[row] = BETA2 * self.square[row] + (1 - BETA2) * gradient.square().mean()
            size = math.sqrt(self.square[row] / (1 - BETA2 ** self.touches[row])) + 1e-12
            rate = RATE * max(schedule, PATIENCE / (PATIENCE + self.touches[row]))
            self.table[row] -= rate / size * gradient


def steps(count=6, seed=0):
    """Return keys and weights of some steps, two parts each, full of duplicates; the last rows are seldom read."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        keys = (torch.rand(2, 3, 5, generator=draw) ** 3 * ROWS).long().unbind()
        yield keys, torch.randn(2, 3, 5, WIDTH, generator=draw).unbind()


def test_a_memory_learns_as_a_dense_table_would(train):
    """Over several steps rows, squares and touches are those of dense autograd and the formula, duplicates summed."""
    memory = filled(train)
    dense = Dense(memory)
    for number, (keys, weights) in enumerate(steps()):
        schedule = 1 - number / 6
        learn(train, memory, keys, weights, schedule)
        dense.learn(keys, weights, schedule)
        for ours, theirs in zip(known(memory), (dense.table, dense.square, dense.touches), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert dense.touches.max() > dense.touches.min() >= 0


def test_rows_that_were_not_read_stay_as_they_are(train):
    """A step changes the rows it read and no bit of any other."""
    memory = filled(train)
    for keys, weights in steps():
        before = [x.clone() for x in known(memory)]
        learn(train, memory, keys, weights, 1.0)
        read = torch.cat([k.flatten() for k in keys]).unique()
        unread = torch.tensor([r for r in range(ROWS) if r not in read])
        assert len(unread) > 0
        for was, now in zip(before, known(memory), strict=True):
            assert torch.equal(was[unread], now[unread])
        assert (before[0][read] != known(memory)[0][read]).any(1).all()


def test_the_spare_row_is_never_read(train):
    """Whatever the spare row holds, readings and learning are the same."""
    ends = []
    for spare in (0.0, math.nan):
        memory = filled(train)
        for buffer in vars(memory.pages[-1]).values():
            buffer[-1] = spare
        for keys, weights in steps():
            learn(train, memory, keys, weights, 1.0)
        ends.append((*known(memory), memory(torch.arange(ROWS)[None])))
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


def test_the_same_row_twice_is_one_touch(train):
    """Two readings of a row are one step with the sum of their gradients, not two steps."""
    twice, once = filled(train), filled(train)
    weights = torch.randn(1, 2, WIDTH, generator=torch.Generator().manual_seed(1))
    learn(train, twice, [torch.tensor([[3, 3]])], [weights], 1.0)
    learn(train, once, [torch.tensor([[3]])], [weights.sum(1, keepdim=True)], 1.0)
    for one, other in zip(known(twice), known(once), strict=True):
        torch.testing.assert_close(one, other)
    assert twice.pages[-1].touches[3] == 1
    # The reading that is not the owner wrote elsewhere: two writes to one row have no order on a GPU.
    assert twice.pages[-1].touches[-1] == 1 and once.pages[-1].touches[-1] == 0


def test_rare_rows_still_learn_late(train):
    """When the schedule has reached zero, a row that was seldom touched moves on, and one touched often hardly."""
    memory = filled(train)
    page = memory.pages[-1]
    page.touches[5] = 1e6
    page.square[:] = 1.0
    before = page.table.clone()
    learn(train, memory, [torch.tensor([[2, 5]])], [torch.ones(1, 2, WIDTH)], 0.0)
    moved = (page.table - before).abs().amax(1)
    assert moved[2] > 0.1 * RATE
    assert 0 < moved[5] < 1e-4 * RATE


def test_a_memory_of_bfloat16_learns_too(train):
    """Tables of half the bytes stay within their rounding of full ones."""
    half, full = filled(train, torch.bfloat16), filled(train)
    full.pages[-1].table.copy_(half.pages[-1].table)
    for keys, weights in steps(3):
        rounded = [w.bfloat16().float() for w in weights]
        learn(train, half, keys, [w.bfloat16() for w in rounded], 1.0)
        learn(train, full, keys, rounded, 1.0)
    assert known(half)[0].dtype == torch.bfloat16
    torch.testing.assert_close(known(half)[0].float(), known(full)[0], rtol=0.02, atol=0.02)
    assert torch.equal(known(half)[2], known(full)[2])


def test_reset_forgets_everything(train):
    """After a reset a memory is as it was made, and learns as a new one."""
    used, new = train.Memory(ROWS, WIDTH, torch.float32), train.Memory(ROWS, WIDTH, torch.float32)
    for keys, weights in steps(2):
        learn(train, used, keys, weights, 1.0)
    used.turn_to(2)
    used(torch.tensor([[1]]))  # a reading that nobody learnt from
    used.reset()
    for memory in (used, new):
        memory.turn_to(1)
        for keys, weights in steps(3, seed=1):
            learn(train, memory, keys, weights, 1.0)
    assert len(used.pages) == len(new.pages) == 2
    assert known(used)[0].any()
    for page, other in zip(used.pages, new.pages, strict=True):
        for one, two in zip(vars(page).values(), vars(other).values(), strict=True):
            assert torch.equal(one[:-1], two[:-1])


def test_each_pass_over_the_data_begins_a_blank_page(train):
    """Training reads and writes the newest page alone, whatever older ones hold; two are kept."""
    memory, new = filled(train), train.Memory(ROWS, WIDTH, torch.float32)
    first = memory.pages[-1]
    memory.turn_to(0)
    assert len(memory.pages) == 1 and memory.pages[0] is first
    before = [x.clone() for x in known(memory)]
    memory.turn_to(1)
    for keys, weights in steps(3):
        assert torch.equal(memory(keys[0]), new(keys[0]))
        memory.reads.clear()
        new.reads.clear()
        learn(train, memory, keys, weights, 1.0)
        learn(train, new, keys, weights, 1.0)
    for ours, theirs in zip(known(memory), known(new), strict=True):
        assert torch.equal(ours, theirs)
    assert memory.pages[0] is first
    assert all(torch.equal(was, now[:-1]) for was, now in zip(before, vars(first).values(), strict=True))
    second = memory.pages[-1]
    memory.turn_to(2)
    assert memory.pages[0] is second and len(memory.pages) == 2 and not known(memory)[0].any()


def test_an_evaluation_reads_the_page_that_has_seen_more(train):
    """Row by row, whichever of the last two passes touched it more often; an evaluation is nothing to learn from."""
    memory = filled(train)
    older = memory.pages[-1]
    memory.turn_to(1)
    page = memory.pages[-1]
    page.table.fill_(7.0)
    older.touches[:4] = torch.tensor([3.0, 3.0, 3.0, 0.0])
    page.touches[:4] = torch.tensor([2.0, 3.0, 4.0, 0.0])
    memory.eval()
    found = memory(torch.tensor([[0, 1, 2, 3]]))[0]
    assert torch.equal(found[0], older.table[0])
    assert (found[1:] == 7).all()
    assert not memory.reads


def test_pages_turn_with_the_passes_of_a_run(train, harness, converse):
    """A run that reads its data several times writes a page in each pass, and is scored with the last two."""
    converse(max_steps=12)
    answer, _ = harness._request({"do": "hello", "device": "cpu"})
    runtime, data = harness.Runtime(**answer), harness.load()
    train.DEPTH, train.MLP_RATIO = 1, 1  # it reads all the data three times
    model = train.GPT(data.vocab_size, data.sequence_length, data.bos_id, "cpu", bf16=False, compiled=False)
    optimiser = train.Optimiser(model, "cpu", compiled=False)
    loader = data.make_loader(data.num_train_rows // 4, runtime)
    train.DEVICE_BATCH_SIZE, memory, seen = data.num_train_rows, model.memories[0], {}

    def watch(progress, step=optimiser.step):
        step(progress)
        seen.setdefault(math.ceil(loader.epochs), []).append(
            (memory.pages[-1], memory.pages[-1].touches[:-1].max().item())
        )

    optimiser.step = watch
    train.train(model, optimiser, loader, runtime)
    assert len(seen) >= 3
    assert [id(page) for page in memory.pages] == [id(written[-1][0]) for written in [*seen.values()][-2:]]
    for written in seen.values():
        assert len({id(page) for page, _ in written}) == 1
        assert [touches for _, touches in written] == list(range(1, len(written) + 1))
