"""Data, tokenizer and packing of the pretraining lab."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labs.pretrain_lab import LAB, parquet, plan, words

np = pytest.importorskip("numpy")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")

BOS = 999


# ---------------------------------------------------------------------------------------------------------------------
# Packing


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(0, 70), max_size=40), row_length=st.integers(2, 20), buffer=st.integers(1, 30))
def test_packing_loses_no_token_and_starts_rows_with_bos(prepare, lengths, row_length, buffer):
    """Rows are full, start with BOS, and hold every token of every document exactly once, in reading order."""
    # Token values carry document and position, so that order inside a document can be checked; 10**6 is BOS.
    documents = [[1000 * d + t for t in range(n)] for d, n in enumerate(lengths)]
    rows = list(prepare.pack_rows(iter(documents), row_length, 10**6, buffer))
    assert all(len(row) == row_length and row[0] == 10**6 for row in rows)
    tokens = [t for row in rows for t in row if t != 10**6]
    assert sorted(tokens) == sorted(t for document in documents for t in document)
    assert all(b == a + 1 for row in rows for a, b in itertools.pairwise(row) if 10**6 not in (a, b))


def test_packing_cost_is_small(prepare):
    """At a realistic mix of lengths, BOS tokens and padding take less than three percent of the slots."""
    lengths = np.random.default_rng(0).lognormal(4.5, 1, 2000).astype(int)
    rows = list(prepare.pack_rows(([1] * n for n in lengths), 257, BOS))
    assert len(rows) * 257 < 1.03 * lengths.sum()


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizer


@settings(max_examples=100, deadline=None)
@given(document=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda s: s.encode("utf-8", "replace"))))
def test_any_bytes_survive_the_tokenizer(prepare, data_dir, document):
    """Encoding is lossless for text and for bytes that are no text, and token bytes sum to the document's bytes."""
    data = prepare.load(data_dir)
    tokenizer = data.tokenizer()
    (ids,) = tokenizer.encode([document])
    assert tokenizer.decode(ids) == document
    assert data.token_bytes[ids].sum() == len(document)


def test_lone_bytes_count_as_one(prepare, data_dir):
    """A byte of a multi-byte character is worth one byte, not the three of a replacement mark."""
    data = prepare.load(data_dir)
    (ids,) = data.tokenizer().encode(["é🙂".encode()[:3]])
    assert data.token_bytes[ids].sum() == 3


def test_a_given_tokenizer_is_used_as_it_is(prepare, corpus, data_dir, tmp_path):
    """Another folder's tokenizer gives the same ids without training; its content is part of the identity."""
    given = tmp_path / "tokenizer.json"
    given.write_bytes((data_dir / "tokenizer.json").read_bytes())
    manifest = prepare.prepare(plan(prepare, corpus, vocab_size=280, tokenizer=given), tmp_path / "own")
    assert (tmp_path / "own" / "tokenizer.json").read_bytes() == given.read_bytes()
    assert manifest["vocab_size"] == prepare.load(data_dir).vocab_size
    with pytest.raises(prepare.DataError, match="another tokenizer"):
        prepare.prepare(plan(prepare, corpus, vocab_size=280), tmp_path / "own")


@pytest.mark.parametrize(("text", "expected"), [(None, "is not a file"), ("{}", "is not a tokenizer.json")])
def test_an_unusable_tokenizer_is_one_sentence(prepare, corpus, tmp_path, text, expected):
    """A missing file, or another file, is named with what to give."""
    given = tmp_path / "given.json"
    if text is not None:
        given.write_text(text)
    with pytest.raises(prepare.DataError, match=expected):
        prepare.prepare(plan(prepare, corpus, tokenizer=given), tmp_path / "own")


def test_bos_is_worth_nothing(prepare, data_dir):
    """BOS takes the last id and 0 bytes."""
    data = prepare.load(data_dir)
    assert data.bos_id == data.vocab_size - 1
    assert data.token_bytes[data.bos_id] == 0


# ---------------------------------------------------------------------------------------------------------------------
# Preparing


def test_splits_hold_every_byte_once(prepare, corpus, data_dir):
    """Over all splits, the packed targets are worth exactly the bytes of the source file."""
    data = prepare.load(data_dir)
    splits = data.manifest["splits"]
    total = 0
    for figures in splits.values():
        packed = sum(data.token_bytes[data._map(name)[:, 1:]].sum() for name in figures["files"])
        assert packed == figures["bytes"]
        total += packed
    assert total == (corpus / "text.txt").stat().st_size


def test_test_split_is_sealed(prepare, data_dir, tmp_path, monkeypatch):
    """A folder without its sealed part still trains and validates; asking for the test split says why it cannot."""
    for file in data_dir.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    data = prepare.load(tmp_path)
    data.eval_rows("val")
    with pytest.raises(prepare.DataError, match="sealed"):
        data.eval_rows("test")
    monkeypatch.setenv("AUTORESEARCH_SEALED_DIR", str(data_dir / "sealed"))
    assert len(data.eval_rows("test")[0]) == data.num_eval_rows


def test_equal_documents_share_a_split(prepare):
    """The split is a function of content, so a copied document cannot be both trained on and tested on."""
    held_out = prepare.HeldOut(0.1, 0.9)
    splits = [held_out.split_of(str(i).encode()) for i in range(2000)]
    assert splits == [held_out.split_of(str(i).encode()) for i in range(2000)]
    assert 100 < splits.count("val") < 300
    assert 100 < splits.count("test") < 300


@given(sizes=st.lists(st.integers(1, 50_000), min_size=3, max_size=12))
@settings(max_examples=20, deadline=None)
def test_small_corpora_get_every_split(prepare, tmp_path_factory, sizes):
    """Three distinct documents are enough: each split gets at least one, and training gets at least one."""
    file = tmp_path_factory.mktemp("small") / "a.jsonl"
    file.write_text("".join(json.dumps({"text": f"{i}" + "x" * n}) + "\n" for i, n in enumerate(sizes)))
    held_out = prepare.choose_held_out(prepare.folder_source(file), 1000)
    assert {held_out.split_of(d) for d in prepare.read_documents(file)} == {"train", "val", "test"}


def test_preparing_again_does_nothing(prepare, corpus, data_dir, capsys):
    """The same arguments find the folder prepared, say so, and write nothing."""
    before = {f: f.stat().st_mtime_ns for f in data_dir.rglob("*")}
    prepare.prepare(plan(prepare, corpus), data_dir)
    assert "nothing to do" in capsys.readouterr().err
    assert before == {f: f.stat().st_mtime_ns for f in data_dir.rglob("*")}


def test_other_arguments_need_force(prepare, corpus, data_dir, tmp_path):
    """A folder prepared differently is not overwritten in passing; with force it is replaced as a whole."""
    target = tmp_path / "data"
    prepare.prepare(plan(prepare, corpus), target)
    with pytest.raises(prepare.DataError, match="another vocab_size"):
        prepare.prepare(plan(prepare, corpus, vocab_size=280), target)
    prepare.prepare(plan(prepare, corpus, vocab_size=280), target, force=True)
    assert prepare.load(target).vocab_size == 280
    assert [f.name for f in tmp_path.iterdir()] == ["data"]


def test_interruption_leaves_no_half_folder(prepare, corpus, tmp_path, monkeypatch):
    """When packing dies half-way, the target is not there; what was tokenised waits for the next attempt."""
    monkeypatch.setattr(prepare, "write_split", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(plan(prepare, corpus), tmp_path / "data")
    assert [f.name for f in tmp_path.iterdir()] == [".data.tokens"]


def test_abandoned_work_is_tidied_up(prepare, corpus, tmp_path):
    """Rows that a killed preparation had packed are packed anew, and nothing of it remains beside the folder."""
    left = tmp_path / ".data.tokens" / "packed"
    left.mkdir(parents=True)
    (left / "train_00099.bin").write_bytes(b"half")
    prepare.prepare(plan(prepare, corpus, max_bytes=20_000), tmp_path / "data")
    assert [f.name for f in tmp_path.iterdir()] == ["data"]
    assert not (tmp_path / "data" / "train_00099.bin").exists()


def test_unwritable_target_is_one_sentence(prepare, corpus, tmp_path, capsys):
    """A target that cannot be written is named, without a traceback."""
    (tmp_path / "file").write_text("in the way")
    assert prepare.main(["--dataset", str(corpus), "--data-dir", str(tmp_path / "file" / "data")]) == 2
    assert "error: " in capsys.readouterr().err


def test_max_bytes_limits_training_text(prepare, corpus, tmp_path):
    """--max-bytes stops training text at the first document past the limit, and leaves held-out text alone."""
    manifest = prepare.prepare(plan(prepare, corpus, max_bytes=50_000), tmp_path / "data")
    assert 50_000 <= manifest["splits"]["train"]["bytes"] < 50_000 + 2 * prepare.TEXT_CHUNK_BYTES
    assert manifest["splits"]["val"]["documents"] > 0


def test_folder_formats_and_named_splits(prepare, tmp_path):
    """Parquet, JSON lines, Markdown and plain text are read together; files named val… and test… are those splits."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(parquet(1))
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": words(i, 500)}) + "\n" for i in range(40)))
    (folder / "c.md").write_text(words(50, 9000), encoding="utf-8")
    (folder / "validation_0.txt").write_text(words(51, 5000), encoding="utf-8")
    (folder / "test.txt").write_text(words(52, 5000), encoding="utf-8")
    manifest = prepare.prepare(plan(prepare, folder), tmp_path / "data")
    sizes = {split: figures["bytes"] for split, figures in manifest["splits"].items()}
    assert sizes["val"] == (folder / "validation_0.txt").stat().st_size
    assert sizes["test"] == (folder / "test.txt").stat().st_size
    assert sizes["train"] > 30_000


def test_document_separator_splits_plain_text(prepare, tmp_path):
    """A plain text file may mark its documents; the mark itself is no text."""
    (tmp_path / "t.txt").write_bytes(b"one\ntwo<|endoftext|>\nthree\n")
    assert [d.strip() for d in prepare.read_documents(tmp_path / "t.txt") if d.strip()] == [b"one\ntwo", b"three"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda d: "nonesuch", "no dataset or path named 'nonesuch'"),
        (lambda d: (d / "empty").mkdir() or d / "empty", "holds no .parquet"),
        (lambda d: (d / "a.parquet").write_bytes(parquet(0)[:-100]) and d, "a.parquet is truncated or corrupt"),
        (lambda d: (d / "a.parquet").write_bytes(parquet(0, column="body")) and d, "no column named 'text'"),
        (lambda d: (d / "a.jsonl").write_text('{"text": "x"}\n{"txt": 1}\n') and d, "a.jsonl line 2"),
        (lambda d: (d / "val.txt").write_text("x") and d, "only validation or test files"),
        (lambda d: (d / "a.txt").write_text("short") and d, "too few to split"),
    ],
)
def test_bad_input_is_one_sentence(prepare, tmp_path, capsys, make, expected):
    """What a user can fix ends with exit code 2 and one line that names it, without a traceback or a folder left."""
    assert prepare.main(["--dataset", str(make(tmp_path)), "--data-dir", str(tmp_path / "out")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert expected in line
    assert not (tmp_path / "out").exists()


def test_corruption_inside_a_parquet_file_is_named(prepare, tmp_path):
    """A shard whose footer is whole but whose pages are not is named just the same."""
    whole = bytearray(parquet(0))
    whole[4:2000] = bytes(1996)
    (tmp_path / "a.parquet").write_bytes(whole)
    with pytest.raises(prepare.DataError, match=r"a\.parquet is truncated or corrupt"):
        list(prepare.read_documents(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("--vocab-size", 100), ("--vocab-size", 70000), ("--sequence-length", 0), ("--max-bytes", -1), ("--tokens", 0)],
)
def test_impossible_sizes_are_refused(prepare, tmp_path, capsys, argument, value):
    """A size that cannot work is refused with its range before any work."""
    assert prepare.main(["--data-dir", str(tmp_path / "out"), argument, str(value)]) == 2
    assert f"{argument} is {value}; choose a value from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("val.bin", lambda b: bytes([b[0] ^ 1]) + b[1:], "has changed"),
        ("train_00000.bin", lambda b: b[:-2], "wrong size"),
        ("manifest.json", lambda b: b[:50], "not a readable manifest"),
        ("manifest.json", lambda b: b.replace(b'"version": 1', b'"version": 0'), "version 0"),
    ],
)
def test_damaged_folder_is_named_with_its_cure(prepare, corpus, tmp_path, name, damage, expected):
    """A damaged file is found at load and named, with the command that repairs it."""
    prepare.prepare(plan(prepare, corpus, max_bytes=20_000), tmp_path / "data")
    path = tmp_path / "data" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(prepare.DataError, match=expected) as caught:
        prepare.load(tmp_path / "data")
    assert "python prepare.py" in str(caught.value)


def test_missing_folder_is_named_with_its_cure(prepare, tmp_path):
    """Training before preparing says which command to run."""
    with pytest.raises(prepare.DataError, match=r"no prepared data; run `python prepare\.py"):
        prepare.load(tmp_path / "none")


def test_standard_library_is_the_default(prepare):
    """The default dataset is the interpreter's own source: many files, megabytes of them, in a fixed order."""
    source = prepare.stdlib_source()
    assert sum(f.stat().st_size for f in source.files["train"]) > 5_000_000
    assert source.files == prepare.stdlib_source().files
    assert not any("site-packages" in f.parts for f in source.files["train"])


# ---------------------------------------------------------------------------------------------------------------------
# Tokenising


@pytest.fixture
def many(prepare, tmp_path, monkeypatch):
    """A folder of three files that are tokenised each on its own."""
    monkeypatch.setattr(prepare, "PORTION_BYTES", 1)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(words(number, 60_000), encoding="utf-8")
    return folder


def contents(folder):
    """Everything in a prepared folder but the manifest, by name."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_portions_and_processes_change_nothing(prepare, many, tmp_path, monkeypatch):
    """Tokenised whole, in portions, or in processes: the prepared folder is the same, byte for byte."""
    folders = []
    for cores, portion_bytes in ((1, 1 << 30), (1, 1), (3, 1)):
        monkeypatch.setattr(prepare, "num_cores", lambda cores=cores: cores)
        monkeypatch.setattr(prepare, "PORTION_BYTES", portion_bytes)
        folders.append(tmp_path / f"{cores}-{portion_bytes}")
        prepare.prepare(plan(prepare, many), folders[-1])
    assert contents(folders[0]) == contents(folders[1]) == contents(folders[2])


def test_what_was_tokenised_is_not_tokenised_again(prepare, many, tmp_path, monkeypatch):
    """After a failure in the last file the next attempt does that one, and one that has changed meanwhile."""
    monkeypatch.setattr(prepare, "num_cores", lambda: 1)
    monkeypatch.setattr(prepare, "choose_held_out", lambda *_: prepare.HeldOut(0.1, 0.9))
    done, fails = [], True
    real = prepare.tokenise

    def tokenise(portion, *rest):
        done.append(portion.files[0].name)
        if fails and done[-1] == "2.txt":
            raise KeyboardInterrupt
        real(portion, *rest)

    monkeypatch.setattr(prepare, "tokenise", tokenise)
    tokenizer = tmp_path / "tokenizer.json"
    prepare.Tokenizer.train([words(0, 60_000).encode()], 300).write(tokenizer)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(plan(prepare, many, tokenizer=tokenizer), tmp_path / "data")
    fails = False
    (many / "1.txt").write_text(words(9, 60_000), encoding="utf-8")
    prepare.prepare(plan(prepare, many, tokenizer=tokenizer), tmp_path / "data")
    assert done == ["0.txt", "1.txt", "2.txt", "1.txt", "2.txt"]
    assert not (tmp_path / ".data.tokens").exists()


def test_a_kill_costs_one_portion(prepare, many, tmp_path):
    """After kill -9 in mid-work the same command goes on with what was not done, and the result is that of no kill."""
    code = "import prepare, sys; prepare.PORTION_BYTES = 1; sys.exit(prepare.main(sys.argv[1:]))"
    sizes = ["--vocab-size", "300", "--sequence-length", "32", "--eval-tokens", "1024"]
    command = [sys.executable, "-c", code, "--dataset", str(many), *sizes, "--data-dir"]
    process = subprocess.Popen([*command, str(tmp_path / "data")], cwd=LAB, start_new_session=True)
    kept = tmp_path / ".data.tokens"
    deadline = time.monotonic() + 60
    while not list(kept.glob("[!.]*.npz")) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = {file.name for file in kept.glob("[!.]*.npz")}
    assert there
    ended = subprocess.run([*command, str(tmp_path / "data")], cwd=LAB, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(there) == 3 or f"{len(there)} of 3 portions are there from an earlier attempt" in ended.stderr
    prepare.prepare(plan(prepare, many), tmp_path / "whole")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_a_damaged_file_is_named_by_whichever_process_reads_it(prepare, many, tmp_path, monkeypatch):
    """The sentence about a damaged shard is the same when another process found it."""
    damaged = bytearray(parquet(0))
    damaged[-3000:-2000] = bytes(1000)
    (many / "3.parquet").write_bytes(damaged)
    monkeypatch.setattr(prepare, "num_cores", lambda: 2)
    monkeypatch.setattr(prepare, "text_bytes", lambda _: 1)
    monkeypatch.setattr(prepare, "choose_held_out", lambda *_: prepare.HeldOut(0.1, 0.9))
    monkeypatch.setattr(prepare.Tokenizer, "train", lambda *_: prepare.Tokenizer([bytes([n]) for n in range(256)]))
    with pytest.raises(prepare.DataError, match=r"3\.parquet is truncated or corrupt; delete that file"):
        prepare.prepare(plan(prepare, many), tmp_path / "data")


def test_a_small_disk_is_said_before_the_work(prepare, corpus, tmp_path, monkeypatch):
    """What is needed is reckoned from the text, and told with three ways out."""
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(prepare.DataError, match=r"needs about .* free some, take fewer --shards or --max-bytes"):
        prepare.prepare(plan(prepare, corpus), tmp_path / "data")


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def test_many_shards_read_as_one(prepare, corpus, tmp_path, monkeypatch):
    """Training rows spread over several files are the same rows as in one."""
    prepare.prepare(plan(prepare, corpus), tmp_path / "one")
    monkeypatch.setattr(prepare, "SHARD_BYTES", 2 * 33 * 100)
    prepare.prepare(plan(prepare, corpus), tmp_path / "many")
    one, many = prepare.load(tmp_path / "one"), prepare.load(tmp_path / "many")
    assert len(many._shards) > 3
    rows = np.arange(one.num_train_rows)
    assert (one.train_rows(rows) == many.train_rows(rows)).all()


def test_evaluation_rows_span_the_split(prepare, data_dir):
    """Rows are strided over the whole validation split: the first is row 0, the last is near its end."""
    data = prepare.load(data_dir)
    _, numbers = data.eval_rows()
    assert len(set(numbers)) == data.num_eval_rows == 32
    assert numbers[0] == 0
    assert numbers[-1] >= data.manifest["splits"]["val"]["rows"] * 0.9


@pytest.fixture(scope="session")
def rotating_dir(prepare, corpus, tmp_path_factory):
    """A tiny folder whose evaluation is so short that its validation text is enough for all rotations."""
    directory = tmp_path_factory.mktemp("prepared") / "rotating"
    prepare.prepare(plan(prepare, corpus, eval_tokens=256), directory)
    return directory


def test_rotations_are_disjoint_and_cost_the_same(prepare, rotating_dir):
    """Every set has the rows of one evaluation, spread over the split, and shares none with another."""
    data = prepare.load(rotating_dir)
    sets = [data.eval_rows("val", rotation)[1] for rotation in range(data.num_rotations)]
    assert data.num_rotations == prepare.ROTATIONS_MAX == 4
    assert {len(numbers) for numbers in sets} == {data.num_eval_rows} == {8}
    assert len({int(number) for numbers in sets for number in numbers}) == 4 * 8
    num_rows = data.manifest["splits"]["val"]["rows"]
    assert all(numbers[0] < num_rows / 4 and numbers[-1] > num_rows / 2 for numbers in sets)


def test_folders_of_before_have_one_rotation(prepare, rotating_dir, tmp_path):
    """A manifest without the key means the rows that it always meant: strided over the whole split."""
    for file in rotating_dir.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["rotations"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    data = prepare.load(tmp_path)
    num_rows = manifest["splits"]["val"]["rows"]
    assert data.eval_rows()[1].tolist() == [i * num_rows // 8 for i in range(8)]


@given(eval_rows=st.integers(1, 500), num_rows=st.integers(1, 5000))
def test_each_rotation_has_rows_for_an_evaluation(prepare, eval_rows, num_rows):
    """However many rows there are: blocks in turn leave each set at least one evaluation's worth."""
    rotations = prepare.num_rotations(num_rows, eval_rows)
    block = -(-eval_rows // prepare.ROTATION_BLOCKS)
    own = [np.flatnonzero(np.arange(num_rows) // block % rotations == r) for r in range(rotations)]
    assert rotations == 1 or min(map(len, own)) >= eval_rows
