"""Prepared data: made once, from text to packed rows on disk, and opened by whoever owns the score (`evaluate.py`).

    python prepare.py                                   # the Python standard library's own source, no download
    python prepare.py --dataset climbmix --shards 40    # from the Hugging Face hub, resumable; or --tokens 500000000
    python prepare.py --dataset path/to/folder          # your own .parquet .jsonl .txt .md

Two decisions give the numbers their meaning:

* **Bits per byte counts raw bytes.** Each token is worth the bytes it stands for in the file. Decoding tokens to
  text first would turn every lone byte of a multi-byte character into a three-byte replacement mark and read low.
* **No text is lost in packing.** Every row starts with BOS. A document longer than a row is cut into pieces that
  each start with their own BOS; pieces are best-fit into rows and, when none fits, the longest is cut to fill the gap.
  The price is a few extra BOS tokens (reported in the manifest as `bos_fraction`), not cropped text.
"""

# ruff: noqa: PLC0415 (late imports on purpose: reading prepared data needs no pyarrow and no tokenizer)
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import hub
import numpy as np

FORMAT_VERSION = 1
"""Raised whenever prepared files change meaning; older folders are then refused with the cure."""

BOS = "<|bos|>"
"""The only special token: starts every document piece, is worth 0 bytes, takes the last id."""

# The usual GPT-style split into word-like chunks, with numbers in groups of at most two digits: in a vocabulary of a
# few thousand, longer digit groups would waste entries.
SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)

TOKENIZER_SAMPLE_BYTES = 32 << 20
"""Text the tokenizer is trained on, at most. Merges of a small vocabulary no longer change beyond this."""

SHARD_BYTES = 128 << 20
"""Size of one file of packed training rows, roughly."""

HELD_OUT_FRACTION_MAX = 0.06
"""Largest share of text held out for validation, and again for test, where the dataset has no such split."""

HELD_OUT_SCAN_BYTES = 256 << 20
"""Text read to choose what is held out."""

ROTATIONS_MAX = 4
"""Disjoint sets of validation rows that are prepared where there is text enough: whoever has climbed one for long
goes on with the next, which no decision has touched."""

ROTATION_BLOCKS = 8
"""Runs of neighbouring rows that a set of validation rows consists of, spread over the whole split."""

BYTES_PER_TOKEN_MIN, BYTES_PER_TOKEN_MAX = 3.0, 5.0
"""English text and source code, vocabularies of two thousand and of eight thousand: which end is safe depends."""

PORTION_BYTES = 8 << 20
"""Files are tokenised in portions of at least this size on disk: what a kill costs at most is one portion each."""

TEXT_CHUNK_BYTES = 8192
"""Plain text files are cut at line ends into documents of about this size, so that one long file can be split too."""

DOCUMENT_SEPARATOR = b"<|endoftext|>"
"""Plain text files may mark document ends with this (TinyStories does)."""

CLIMBMIX_REPO = "karpathy/climbmix-400b-shuffle"
CLIMBMIX_LAST_SHARD = 6542  # pinned as validation, as in the original; the one before it is our sealed test
TINYSTORIES_REPO = "roneneldan/TinyStories"
TINYSTORIES_TRAIN = (
    "data/train-00000-of-00004-2d5a1467fff1081b.parquet",
    "data/train-00001-of-00004-5852b56a2bd28fd9.parquet",
    "data/train-00002-of-00004-a26307300439e943.parquet",
    "data/train-00003-of-00004-d243063613e5a057.parquet",
)
TINYSTORIES_VALIDATION = "data/validation-00000-of-00001-869c898b519ad725.parquet"

SPLITS = ("train", "val", "test")


class DataError(Exception):
    """Something a person can fix: bad arguments, missing or damaged data. The message is one sentence and its cure."""


def say(message: str) -> None:
    """Print one line of progress to stderr: stdout is kept for results."""
    print(message, file=sys.stderr, flush=True)


def cache_directory() -> Path:
    """Return the user's cache folder: XDG_CACHE_HOME, %LOCALAPPDATA% on Windows, otherwise ~/.cache."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    return Path.home() / ".cache"


def default_data_dir(dataset: str = "stdlib") -> Path:
    """Return where prepared data lives: AUTORESEARCH_DATA_DIR, otherwise `<cache>/autoresearch/<dataset name>`."""
    if os.environ.get("AUTORESEARCH_DATA_DIR"):
        return Path(os.environ["AUTORESEARCH_DATA_DIR"])
    name = dataset if dataset in ("stdlib", "climbmix", "tinystories") else Path(dataset).resolve().stem
    return cache_directory() / "autoresearch" / name


def hub_directory() -> Path:
    """Return where files of hub datasets are kept, validation and test text among them: no program under study's."""
    return cache_directory() / "autoresearch" / "hub"


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Write a binary file under a temporary name and rename it, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        write(file)
    temporary.replace(path)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Where documents come from


@dataclass(frozen=True)
class Source:
    """Files of a dataset by split. A split without files is made by holding out training documents by content."""

    name: str
    files: dict[str, list[Path]]
    whole_files: bool = False
    """True: a file is one document (source code). False: readers choose by suffix."""

    def fingerprint(self) -> str:
        """Hash names and sizes, so that a changed dataset is noticed without reading it all."""
        rows = [f"{split} {f.name} {f.stat().st_size}" for split in SPLITS for f in self.files.get(split, [])]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def open_source(dataset: str, shards: int, tokens: int = 0) -> Source:
    """Find (and for hub datasets download) the files of a dataset.

    Args:
        dataset: A name, or a path.
        shards: Training shards of a hub dataset; 0: as many as hold `tokens`.
        tokens: Training tokens that a run will read.

    Raises:
        DataError: Unknown name, missing or empty folder, failed download.
    """
    if dataset == "stdlib":
        return stdlib_source()
    if dataset == "climbmix":
        shards = shards or shards_for(tokens, CLIMBMIX_REPO, "shard_00000.parquet")
        numbers = range(min(shards, CLIMBMIX_LAST_SHARD - 1))
        return hub_source(
            "climbmix",
            CLIMBMIX_REPO,
            {
                "train": [f"shard_{n:05d}.parquet" for n in numbers],
                "val": [f"shard_{CLIMBMIX_LAST_SHARD:05d}.parquet"],
                "test": [f"shard_{CLIMBMIX_LAST_SHARD - 1:05d}.parquet"],
            },
        )
    if dataset == "tinystories":
        return hub_source(
            "tinystories",
            TINYSTORIES_REPO,
            {
                "train": list(TINYSTORIES_TRAIN[: shards or len(TINYSTORIES_TRAIN)]),
                "val": [TINYSTORIES_VALIDATION],
            },
        )
    path = Path(dataset).expanduser()
    if not path.exists():
        raise DataError(
            f"there is no dataset or path named '{dataset}'; "
            "use stdlib, climbmix, tinystories, or an existing file or folder"
        )
    return folder_source(path)


def stdlib_source() -> Source:
    """List the running interpreter's own library: text that is on every machine, about 12 MB without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    unwanted = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}
    files: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in unwanted]  # do not even look inside
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    files.sort()
    if not files:
        raise DataError(f"the standard library at {root} holds no .py files; pass --dataset PATH with text of your own")
    # Sorted by name, neighbours are alike; a fixed shuffle keeps the tokenizer sample and --max-bytes representative.
    order = np.random.default_rng(0).permutation(len(files))
    return Source("stdlib", {"train": [files[i] for i in order]}, whole_files=True)


def folder_source(path: Path) -> Source:
    """List a folder (or one file) of text; files named val…, validation…, test… become those splits."""
    suffixes = (".parquet", ".jsonl", ".txt", ".md")
    found = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    found = [f for f in found if f.suffix in suffixes]
    if not found:
        raise DataError(f"'{path}' holds no {', '.join(suffixes)} files; point --dataset at a folder that does")
    files: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for file in found:
        named = path.is_dir() and re.match(r"(val|test)(?![a-z])|validation|valid(?![a-z])", file.name.lower())
        files["train" if not named else "test" if named.group(0) == "test" else "val"].append(file)
    if not files["train"]:
        raise DataError(f"'{path}' holds only validation or test files; add files with other names to train on")
    return Source(path.resolve().stem, files)


def hub_source(name: str, repo: str, wanted: dict[str, list[str]]) -> Source:
    """Fetch files of a hub dataset into the cache, resumable at any byte; `hub.py` says how.

    Raises:
        DataError: A file could not be had.
    """
    folder = hub_directory() / repo.replace("/", "--")
    names = [filename for filenames in wanted.values() for filename in filenames]
    try:
        paths = dict(zip(names, hub.fetch(repo, names, folder, say=say, check=open_parquet), strict=True))
    except hub.HubError as error:
        raise DataError(f"{error}, or use --dataset stdlib") from error
    return Source(name, {split: [paths[filename] for filename in filenames] for split, filenames in wanted.items()})


def shards_for(tokens: int, repo: str, first: str) -> int:
    """Return how many shards of the size of the first, which is fetched for that, hold so many tokens."""
    (file,) = hub_source("the first shard", repo, {"train": [first]}).files["train"]
    per_shard = text_bytes(file) / BYTES_PER_TOKEN_MAX
    shards = math.ceil(tokens / per_shard)
    say(f"{repo}: {shards} shard(s) of at least {per_shard / 1e6:.0f} M tokens for {tokens / 1e6:.0f} M")
    return shards


def open_parquet(path: Path) -> Any:
    """Open a parquet file and check that it has a `text` column.

    Raises:
        DataError: The file is truncated, corrupt, or has no such column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise damaged_parquet(path) from error
    if "text" not in file.schema_arrow.names:
        raise DataError(f"{path} has no column named 'text' (it has {', '.join(file.schema_arrow.names)}); rename one")
    return file


def damaged_parquet(path: Path) -> DataError:
    """Describe a damaged parquet file and its cure."""
    return DataError(f"{path} is truncated or corrupt; delete that file, fetch it again, and run the same command")


def read_documents(path: Path, whole_file: bool = False) -> Iterator[bytes]:
    """Yield the documents of one file as raw bytes: text is measured in the bytes that are on the disk.

    Raises:
        DataError: The file cannot be read as what its suffix says.
    """
    if whole_file:
        yield path.read_bytes()
    elif path.suffix == ".parquet":
        import pyarrow

        file = open_parquet(path)
        try:
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                yield from (text.encode() for text in batch.column(0).to_pylist() if text)
        except (pyarrow.ArrowException, OSError) as error:
            raise damaged_parquet(path) from error
    elif path.suffix == ".jsonl":
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    text = json.loads(line)["text"]
                    # surrogatepass: JSON may spell half of a surrogate pair, which is then kept as raw bytes
                    yield text.encode("utf-8", "surrogatepass")
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise DataError(
                        f"{path} line {number} is not a JSON object with a string under 'text'; "
                        "correct or delete that line"
                    ) from error
    else:
        yield from read_plain_text(path)


def read_plain_text(path: Path) -> Iterator[bytes]:
    """Yield pieces of a plain text file, ended by a separator line or by size at the next line end."""
    pending: list[bytes] = []
    size = 0
    with path.open("rb") as lines:
        for line in lines:
            before, separator, after = line.partition(DOCUMENT_SEPARATOR)
            pending.append(before)
            size += len(before)
            if separator or size >= TEXT_CHUNK_BYTES:
                yield b"".join(pending)
                pending, size = ([after], len(after)) if after.strip() else ([], 0)
    yield b"".join(pending)


def draw_of(document: bytes) -> float:
    """Return a number from 0 to 1 that depends on content alone, so that exact copies never straddle two splits."""
    return int.from_bytes(hashlib.blake2b(document, digest_size=8).digest(), "big") / 2**64


class HeldOut(NamedTuple):
    """Which training documents are held out: those that draw low are for test, those that draw high for validation."""

    test_up_to: float = -1.0
    val_from: float = 2.0

    def split_of(self, document: bytes) -> str:
        """Return the split of a training document."""
        draw = draw_of(document)
        return "test" if draw <= self.test_up_to else "val" if draw >= self.val_from else "train"


def choose_held_out(source: Source, eval_tokens: int) -> HeldOut:
    """Choose what to hold out of the training files for the splits a dataset lacks.

    One and a half evaluations' worth of text each, times ROTATIONS_MAX for validation, but at most
    HELD_OUT_FRACTION_MAX of all, and at least one document. Very large datasets are judged by their first part, which
    then holds out more than needed, never less.
    """
    make_val, make_test = not source.files.get("val"), not source.files.get("test")
    if not (make_val or make_test):
        return HeldOut()
    sizes: dict[float, int] = {}
    total = 0
    for file in source.files["train"]:
        for document in read_documents(file, source.whole_files):
            if document and total < HELD_OUT_SCAN_BYTES:
                draw = draw_of(document)
                sizes[draw] = sizes.get(draw, 0) + len(document)
                total += len(document)
        if total >= HELD_OUT_SCAN_BYTES:
            break
    if len(sizes) < 1 + make_val + make_test:
        raise DataError(f"{source.name} has {len(sizes)} distinct documents, too few to split; give more text")
    # Four bytes a token is the pessimistic end for vocabularies of this size.
    test_bytes = min(HELD_OUT_FRACTION_MAX * total, 1.5 * 4 * eval_tokens)
    val_bytes = min(HELD_OUT_FRACTION_MAX * total, 1.5 * 4 * eval_tokens * ROTATIONS_MAX)
    draws = sorted(sizes)

    def reach(order: list[float], wanted: float) -> float:
        held = 0
        for draw in order:
            held += sizes[draw]
            if held >= wanted:
                break
        return draw

    middle = len(draws) // 2  # for tiny corpora: neither side may reach across
    return HeldOut(
        reach(draws[:middle], test_bytes) if make_test else -1.0,
        reach(draws[:middle:-1], val_bytes) if make_val else 2.0,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizer


class Tokenizer:
    """Byte-level BPE: trained by rustbpe, applied by tiktoken. Any bytes encode, and encode losslessly.

    Stored as JSON (base64 per token), not pickle, so that opening a shared data folder can run nothing.
    """

    def __init__(self, tokens: list[bytes], pattern: str = SPLIT_PATTERN) -> None:
        """Build from the raw bytes of each ordinary token in id order; BOS takes the next id."""
        import tiktoken

        self.tokens = tokens
        self.pattern = pattern
        self.bos_id = len(tokens)
        self.vocab_size = len(tokens) + 1
        ranks = {token: rank for rank, token in enumerate(tokens)}
        self._byte_ids = [ranks[bytes([value])] for value in range(256)]
        self._encoding = tiktoken.Encoding(
            name="autoresearch", pat_str=pattern, mergeable_ranks=ranks, special_tokens={BOS: self.bos_id}
        )

    @classmethod
    def train(cls, documents: Iterable[bytes], vocab_size: int) -> Tokenizer:
        """Learn merges from documents; with very little text the vocabulary may come out smaller than asked."""
        import rustbpe

        bpe = rustbpe.Tokenizer()
        texts = (document.decode("utf-8", "replace") for document in documents)
        bpe.train_from_iterator(texts, vocab_size - 1, pattern=SPLIT_PATTERN)
        ranked = sorted(bpe.get_mergeable_ranks(), key=lambda pair: pair[1])
        return cls([bytes(token) for token, _ in ranked])

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        """Read what `write` wrote.

        Raises:
            DataError: The file holds something else.
        """
        try:
            stored = json.loads(path.read_text())
            return cls([base64.b64decode(token) for token in stored["tokens"]], stored["pattern"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is not a tokenizer.json of a prepared folder; give one, or let one be learnt"
            ) from error

    def write(self, path: Path) -> None:
        """Write as JSON."""
        tokens = [base64.b64encode(token).decode() for token in self.tokens]
        path.write_text(json.dumps({"pattern": self.pattern, "bos": BOS, "tokens": tokens}))

    def token_bytes(self) -> np.ndarray:
        """Return the raw bytes each token is worth, shape (vocab_size,), int32; BOS is worth 0."""
        return np.array([len(token) for token in self.tokens] + [0], dtype=np.int32)

    def encode(self, documents: list[bytes], threads: int | None = None) -> list[list[int]]:
        """Encode documents in parallel, without BOS. Bytes that are not UTF-8 become single-byte tokens."""
        texts = [document.decode("utf-8", "surrogateescape") for document in documents]
        odd = {i: text for i, text in enumerate(texts) if re.search("[\udc80-\udcff]", text)}
        for i in odd:
            texts[i] = ""
        encoded = self._encoding.encode_ordinary_batch(texts, num_threads=threads or num_cores())
        for i, text in odd.items():
            for part in re.split("([\udc80-\udcff])", text):
                escaped = len(part) == 1 and "\udc80" <= part <= "\udcff"
                ids = [self._byte_ids[ord(part) - 0xDC00]] if escaped else self._encoding.encode_ordinary(part)
                encoded[i].extend(ids)
        return encoded

    def decode(self, ids: Iterable[int]) -> bytes:
        """Return the raw bytes of a token sequence; BOS adds none."""
        return b"".join(self.tokens[i] for i in ids if i != self.bos_id)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------------------------------------------------------------
# Tokenising


@dataclass(frozen=True)
class Portion:
    """Files that are tokenised together, and kept together until all are: then a kill costs this much and no more."""

    files: tuple[Path, ...]
    whole_files: bool
    limits: dict[str, int]
    """The splits that these files feed, and how many bytes of text each takes at most (0: all)."""
    held_out: HeldOut
    """Which documents go where, if the files feed more than one split."""

    def name(self, tokenizer: Path) -> str:
        """Return the name of the result: of everything it follows from, so that it is never taken for another."""
        rows = [f"{FORMAT_VERSION} {sha256_of(tokenizer)} {self.whole_files} {self.limits} {self.held_out}"]
        rows += [f"{file.suffix} {content_of(file)}" for file in self.files]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:24] + ".npz"

    def split_of(self, document: bytes) -> str:
        """Return the split of a document of these files."""
        return next(iter(self.limits)) if len(self.limits) == 1 else self.held_out.split_of(document)


def content_of(file: Path) -> str:
    """Return the SHA-256 that a file should have: noted when it was fetched, of other files the one that it has."""
    return hub.known_sha256(file) or sha256_of(file)


def portions_of(source: Source, limits: dict[str, int], held_out: HeldOut) -> list[Portion]:
    """Part the files of a dataset into portions, in order; training files also feed the splits without their own."""
    lacking = [split for split in SPLITS if not source.files.get(split)]
    portions = []
    for split in SPLITS:
        fed = [split, *lacking] if split == "train" else [split]
        files: list[Path] = []
        size = 0
        for file in source.files.get(split, []):
            files.append(file)
            size += file.stat().st_size
            if size >= PORTION_BYTES:
                portions.append(Portion(tuple(files), source.whole_files, {s: limits[s] for s in fed}, held_out))
                files, size = [], 0
        if files:
            portions.append(Portion(tuple(files), source.whole_files, {s: limits[s] for s in fed}, held_out))
    return portions


def tokenise(portion: Portion, tokenizer: Tokenizer, path: Path, threads: int | None = None) -> None:
    """Write the tokens of a portion: for each split one array of ids, and each document's length in tokens and bytes.

    Raises:
        DataError: A file is damaged or not what its suffix says.
    """
    for file in portion.files:
        expected = hub.known_sha256(file)
        if expected and sha256_of(file) != expected:
            hub.forget(file)
            raise DataError(
                f"{file} is no longer what was fetched: the disk damaged it, or somebody changed it; it has been "
                "removed, so run the same command again to fetch it anew"
            )
    tokens: dict[str, list[np.ndarray]] = {split: [] for split in portion.limits}
    sizes: dict[str, list[int]] = {split: [] for split in portion.limits}
    taken = dict.fromkeys(portion.limits, 0)
    batch: list[tuple[str, bytes]] = []

    def encode() -> None:
        for (split, document), ids in zip(batch, tokenizer.encode([text for _, text in batch], threads), strict=True):
            tokens[split].append(np.array(ids, dtype="<u2"))
            sizes[split].append(len(document))
        batch.clear()

    pending = 0
    for document in (text for file in portion.files for text in read_documents(file, portion.whole_files) if text):
        split = portion.split_of(document)
        if split not in taken or _is_full(taken[split], portion.limits[split]):
            continue
        batch.append((split, document))
        taken[split] += len(document)
        pending += len(document)
        if pending > 4 << 20:
            encode()
            pending = 0
            if all(_is_full(taken[s], limit) for s, limit in portion.limits.items()):
                break
    encode()
    arrays = {}
    for split, parts in tokens.items():
        arrays[f"{split}_tokens"] = np.concatenate([np.empty(0, "<u2"), *parts])
        arrays[f"{split}_lengths"] = np.array([len(part) for part in parts], dtype=np.int64)
        arrays[f"{split}_bytes"] = np.array(sizes[split], dtype=np.int64)
    write_atomically(path, lambda file: np.savez(file, **arrays))


def _is_full(taken: int, limit: int) -> bool:
    return 0 < limit <= taken


def tokenise_all(portions: list[Portion], tokenizer_path: Path, directory: Path) -> list[Path]:
    """Tokenise all portions that have not been, in as many processes as there are cores. Returns the files, in order.

    A process each, not threads: most of the work is tiktoken's, but what is left would keep one interpreter busy.

    Raises:
        DataError: A file is damaged; what has been tokenised is kept.
    """
    paths = [directory / portion.name(tokenizer_path) for portion in portions]
    missing = [(portion, path) for portion, path in zip(portions, paths, strict=True) if not path.exists()]
    if len(missing) < len(portions):
        say(f"tokenise: {len(portions) - len(missing)} of {len(portions)} portions are there from an earlier attempt")
    if len(missing) <= 1 or num_cores() == 1:
        tokenizer = Tokenizer.read(tokenizer_path)
        for number, (portion, path) in enumerate(missing, 1):
            tokenise(portion, tokenizer, path)
            if len(missing) > 1:
                say(f"tokenise: {number} of {len(missing)} portions")
        return paths
    total = sum(file.stat().st_size for portion, _ in missing for file in portion.files)
    started = time.monotonic()
    done = 0
    with ThreadPoolExecutor(num_cores()) as pool:  # each thread only waits for a process
        running = {pool.submit(_tokenise_elsewhere, *work, tokenizer_path): work[0] for work in missing}
        try:
            for number, future in enumerate(as_completed(running), 1):
                future.result()
                done += sum(file.stat().st_size for file in running[future].files)
                left = (time.monotonic() - started) * (total / max(done, 1) - 1)
                say(f"tokenise: {number} of {len(missing)} portions, {done / 1e6:.0f} of {total / 1e6:.0f} MB on disk, "
                    f"about {left:.0f} s left")  # fmt: skip
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _tokenise_elsewhere(portion: Portion, path: Path, tokenizer_path: Path) -> None:
    """Tokenise in a process of its own: this file again, with the portion on its stdin (thousands of names may be)."""
    task = {**vars(portion), "files": [str(file) for file in portion.files], "out": str(path)}
    command = [sys.executable, str(Path(__file__).resolve()), "--tokenise", str(tokenizer_path)]
    ended = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    if ended.returncode == 2:
        raise DataError(ended.stdout.strip())
    if ended.returncode:
        words = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"tokenising {portion.files[0]} ended with code {ended.returncode} ({words}); run it again")


def tokenise_task(tokenizer_path: str) -> int:
    """Do what `_tokenise_elsewhere` asked for. Returns the exit code; the reason for 2 goes to stdout."""
    task = json.load(sys.stdin)
    files = tuple(map(Path, task["files"]))
    portion = Portion(files, task["whole_files"], task["limits"], HeldOut(*task["held_out"]))
    try:
        tokenise(portion, Tokenizer.read(Path(tokenizer_path)), Path(task["out"]), threads=1)
    except DataError as error:
        print(error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def read_tokens(paths: list[Path], split: str) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the documents of a split: token ids, uint16, and size in bytes."""
    for path in paths:
        with np.load(path) as stored:
            if f"{split}_tokens" not in stored:
                continue
            tokens, lengths, sizes = (stored[f"{split}_{what}"] for what in ("tokens", "lengths", "bytes"))
        end = 0
        for length, size in zip(lengths.tolist(), sizes.tolist(), strict=True):
            yield tokens[end : end + length], size
            end += length


def check_space(portions: list[Portion], directory: Path) -> None:
    """Refuse to begin what the disk cannot hold: two bytes a token, once as they come and once packed.

    Raises:
        DataError: Too little space is free.
    """
    text = sum(text_bytes(file) for portion in portions for file in portion.files)
    needed = 2 * 2 * text / BYTES_PER_TOKEN_MIN
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise DataError(
            f"preparing {text / 1e9:.1f} GB of text needs about {needed / 1e9:.1f} GB at {directory}, where "
            f"{free / 1e9:.1f} GB are free; free some, take fewer --shards or --max-bytes, or choose another --data-dir"
        )


def text_bytes(file: Path) -> int:
    """Return the bytes of text in a file: of parquet its column's size, from the footer, otherwise the file's."""
    if file.suffix != ".parquet":
        return file.stat().st_size
    footer = open_parquet(file).metadata
    groups = (footer.row_group(n) for n in range(footer.num_row_groups))
    columns = (group.column(n) for group in groups for n in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == "text")


# ---------------------------------------------------------------------------------------------------------------------
# Packing


def pack_rows(
    documents: Iterable[np.ndarray | list[int]], row_length: int, bos_id: int, buffer_size: int = 2048
) -> Iterator[np.ndarray]:
    """Pack documents into full rows that each start with BOS, losing no token.

    Each document becomes one or more pieces of BOS + at most row_length - 1 tokens. From a buffer of pieces, each row
    takes the longest that still fits (best fit); when none fits, the longest in the buffer is cut: its head fills the
    row and its tail goes back as a piece with its own BOS. A gap of one slot, and the end of the very last row, are
    filled with BOS, which is worth 0 bytes. So every token of every document is a target exactly once.

    Best fit with a buffer follows Ding et al. (2024, "Fewer truncations improve language modeling"); cutting in place
    of cropping is ours, because cropping throws a third of the text away at these lengths.

    Args:
        documents: Token ids without BOS; empty ones are skipped.
        row_length: Tokens in a row: the sequence length plus one.
        bos_id: The BOS token.
        buffer_size: Pieces to choose from. More means fewer cuts.

    Yields:
        Rows of exactly row_length token ids, int64.
    """
    # A piece is a view of its document, without BOS: until its row is written, nothing is copied.
    by_length: list[list[np.ndarray]] = [[] for _ in range(row_length)]
    lengths = 0  # bit n is set when by_length[n] is not empty: finds the best fit without a scan
    num_pieces = 0

    def put(piece: np.ndarray) -> None:
        nonlocal lengths, num_pieces
        by_length[len(piece)].append(piece)
        lengths |= 1 << len(piece)
        num_pieces += 1

    def take(at_most: int) -> np.ndarray | None:
        nonlocal lengths, num_pieces
        length = (lengths & ((2 << at_most) - 1)).bit_length() - 1
        if length < 0:
            return None
        piece = by_length[length].pop()
        lengths ^= 0 if by_length[length] else 1 << length
        num_pieces -= 1
        return piece

    def next_row() -> np.ndarray:
        row = np.full(row_length, bos_id, dtype=np.int64)
        filled = 0
        while (gap := row_length - filled - 1) > 0:  # what is left after a BOS
            piece = take(gap)
            if piece is None:
                longest = take(row_length - 1)
                if longest is None:
                    break
                piece = longest[:gap]
                put(longest[gap:])
            row[filled + 1 : filled + 1 + len(piece)] = piece
            filled += 1 + len(piece)
        return row

    for document in documents:
        for start in range(0, len(document), row_length - 1):
            put(np.asarray(document[start : start + row_length - 1]))
        while num_pieces > buffer_size:
            yield next_row()
    while num_pieces:
        yield next_row()


# ---------------------------------------------------------------------------------------------------------------------
# Preparing


@dataclass(frozen=True)
class Plan:
    """What was asked of `prepare.py`, with every default filled in; two equal plans prepare the same folder."""

    dataset: str
    vocab_size: int
    sequence_length: int
    eval_tokens: int
    shards: int
    max_bytes: int
    """Bytes of training text to use at most; 0 is no limit."""
    tokenizer: Path | None = None
    """A tokenizer.json to use as it is, so that folders share their ids; None trains one on this dataset."""
    tokens: int | None = None
    """Training tokens that a run reads: with `shards` 0, as many shards as hold them."""

    def check(self) -> None:
        """Raise DataError when a value cannot work."""
        for name, value, low, high in (
            ("--vocab-size", self.vocab_size, 257, 65_536),  # 256 bytes + BOS; uint16 files
            ("--sequence-length", self.sequence_length, 2, 1 << 20),
            ("--eval-tokens", self.eval_tokens, 1, 1 << 40),
            ("--tokens", 1 if self.tokens is None else self.tokens, 1, 1 << 50),
            ("--shards", self.shards, 0 if self.tokens else 1, CLIMBMIX_LAST_SHARD - 1),
            ("--max-bytes", self.max_bytes, 0, 1 << 60),
        ):
            if not low <= value <= high:
                raise DataError(f"{name} is {value}; choose a value from {low} to {high}")
        if self.tokenizer and not self.tokenizer.is_file():
            raise DataError(f"--tokenizer {self.tokenizer} is not a file; give the tokenizer.json of a prepared folder")

    def identity(self) -> dict[str, Any]:
        """Return what two plans must share to prepare the same folder: a given tokenizer counts by its content."""
        return {**vars(self), "tokenizer": sha256_of(self.tokenizer) if self.tokenizer else None}


def prepare(plan: Plan, data_dir: Path, *, force: bool = False) -> dict[str, Any]:
    """Tokenise and pack a dataset into `data_dir`, once. Returns the manifest.

    Everything is written to a neighbouring temporary folder that is renamed at the end, so an interruption leaves
    either the old folder, the new one, or none; never half of one. Tokens are kept in another, portion by portion, and
    the next attempt with the same arguments goes on from there.

    Raises:
        DataError: Bad arguments, unreadable data, or `data_dir` holds something else and `force` is not given.
    """
    plan.check()
    data_dir = data_dir.resolve()  # a lab may hold a link to its data: replace what it points at, not the link
    source = open_source(plan.dataset, plan.shards, plan.tokens or 0)
    identity = {
        **plan.identity(),
        "dataset": source.name,
        "fingerprint": source.fingerprint(),
        "version": FORMAT_VERSION,
    }
    kept = data_dir.with_name(f".{data_dir.name}.tokens")
    manifest = None if force else find_prepared(data_dir, identity)
    if manifest is None:
        with hub.alone(kept / "lock"):
            manifest = None if force else find_prepared(data_dir, identity)  # by whoever had the lock before
            manifest = manifest or build_beside(plan, source, identity, data_dir, kept)
            shutil.rmtree(kept, ignore_errors=True)
    return manifest


def find_prepared(data_dir: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a folder that was prepared with these very arguments; None where there is nothing.

    Raises:
        DataError: It holds something else.
    """
    if not (data_dir.exists() and any(data_dir.iterdir())):
        return None
    try:
        manifest = PreparedData.open(data_dir).manifest
    except DataError as error:
        raise DataError(f"{error} [add --force to replace it]") from error
    differences = [k for k, v in identity.items() if manifest["identity"].get(k) != v]
    if differences:
        raise DataError(
            f"{data_dir} was prepared with another {', '.join(differences)}; "
            "choose another --data-dir, or add --force to replace it"
        )
    say(f"{data_dir} is already prepared with these arguments: nothing to do")
    return manifest


def build_beside(plan: Plan, source: Source, identity: dict[str, Any], data_dir: Path, kept: Path) -> dict[str, Any]:
    """Build in a temporary folder and move it into place."""
    building = kept / "packed"
    shutil.rmtree(building, ignore_errors=True)  # left by a killed process: nobody else is at work here now
    (building / "sealed").mkdir(parents=True)
    try:
        manifest = build(plan, source, identity, building, kept)
        if data_dir.exists():
            shutil.rmtree(data_dir)
        building.replace(data_dir)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return manifest


def build(plan: Plan, source: Source, identity: dict[str, Any], directory: Path, kept: Path) -> dict[str, Any]:
    """Write tokenizer, packed splits and manifest into an empty directory.

    Tokens go to `kept` first, where they outlive a kill.
    """
    started = time.monotonic()
    held_out = choose_held_out(source, plan.eval_tokens)

    def sample() -> Iterator[bytes]:
        # An equal share of every file, so that a folder sorted by topic is still represented.
        share = max(1 << 16, TOKENIZER_SAMPLE_BYTES // len(source.files["train"]))
        left = plan.max_bytes or TOKENIZER_SAMPLE_BYTES
        for file in source.files["train"]:
            left_here = share
            for document in read_documents(file, source.whole_files):
                if left <= 0 or left_here <= 0:
                    break
                if held_out.split_of(document) == "train":
                    left -= len(document)
                    left_here -= len(document)
                    yield document

    if plan.tokenizer:
        tokenizer = Tokenizer.read(plan.tokenizer)
        say(f"tokenizer: {tokenizer.vocab_size} tokens, as given in {plan.tokenizer}")
    else:
        say(f"tokenizer: learning {plan.vocab_size} tokens from {source.name}")
        tokenizer = Tokenizer.train(sample(), plan.vocab_size)
    tokenizer.write(directory / "tokenizer.json")
    np.save(directory / "token_bytes.npy", tokenizer.token_bytes())

    # Held-out splits need no more than a few evaluations' worth of text; evaluation strides over what is there.
    evaluation_bytes = 4 * plan.eval_tokens
    limits = {
        "train": plan.max_bytes,
        "val": (ROTATIONS_MAX + 1) * evaluation_bytes,
        "test": 4 * evaluation_bytes,
    }
    portions = portions_of(source, limits, held_out)
    check_space(portions, directory)
    parts = tokenise_all(portions, directory / "tokenizer.json", kept)
    splits = {}
    for split in SPLITS:
        where = directory / "sealed" if split == "test" else directory
        documents = read_tokens(parts, split)
        splits[split] = write_split(documents, tokenizer, plan.sequence_length + 1, where, split, limits[split])
        if not splits[split]["documents"]:
            raise DataError(
                f"'{plan.dataset}' left no documents for the {split} split; give more text"
                + ("" if split == "train" else f", or a file named {split}*")
            )
    files = {
        file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }
    eval_rows = min(max(1, plan.eval_tokens // plan.sequence_length), splits["val"]["rows"], splits["test"]["rows"])
    manifest = {
        "version": FORMAT_VERSION,
        "dataset": source.name,
        "vocab_size": tokenizer.vocab_size,
        "sequence_length": plan.sequence_length,
        "bos_id": tokenizer.bos_id,
        "eval_rows": eval_rows,
        "rotations": num_rotations(splits["val"]["rows"], eval_rows),
        "identity": identity,
        "splits": splits,
        "files": files,
    }
    text = json.dumps(manifest, indent=1)
    write_atomically(directory / "manifest.json", lambda file: file.write(text.encode()))
    train = splits["train"]
    say(
        f"prepared {source.name}: {train['bytes'] / 1e6:.1f} MB, {train['tokens'] / 1e6:.2f} M training tokens "
        f"({train['bytes'] / train['tokens']:.2f} bytes each), {eval_rows} evaluation rows of {plan.sequence_length}, "
        f"{time.monotonic() - started:.1f} s"
    )
    sets = manifest["rotations"]
    fresh = f"{sets} disjoint sets of rows, to rotate through" if sets > 1 else "one set of rows, too few to rotate"
    say(f"validation: {fresh}")
    return manifest


def num_rotations(num_rows: int, eval_rows: int) -> int:
    """Return how many disjoint sets of `eval_rows` rows `num_rows` validation rows make, from 1 to ROTATIONS_MAX."""
    return max(1, min(ROTATIONS_MAX, num_rows // (ROTATION_BLOCKS * -(-eval_rows // ROTATION_BLOCKS))))


def write_split(
    documents: Iterable[tuple[np.ndarray, int]],
    tokenizer: Tokenizer,
    row_length: int,
    directory: Path,
    split: str,
    max_bytes: int,
) -> dict[str, Any]:
    """Pack documents (token ids, size in bytes) and write them as uint16 rows. Returns the split's figures."""
    figures = {"documents": 0, "bytes": 0, "tokens": 0}
    next_report = time.monotonic() + 5

    def counted() -> Iterator[np.ndarray]:
        nonlocal next_report
        for ids, size in documents:
            if _is_full(figures["bytes"], max_bytes):
                break
            figures["documents"] += 1
            figures["bytes"] += size
            figures["tokens"] += len(ids)
            yield ids
            if time.monotonic() > next_report:
                say(f"pack {split}: {figures['bytes'] / 1e6:.0f} MB, {figures['tokens'] / 1e6:.1f} M tokens")
                next_report = time.monotonic() + 5

    rows_per_file = max(1, SHARD_BYTES // (2 * row_length))
    names: list[str] = []
    rows = 0
    block: list[np.ndarray] = []

    def flush() -> None:
        if rows - len(block) == len(names) * rows_per_file:
            names.append(f"{split}_{len(names):05d}.bin" if split == "train" else f"{split}.bin")
        with (directory / names[-1]).open("ab") as file:
            np.array(block, dtype="<u2").tofile(file)
        block.clear()

    for row in pack_rows(counted(), row_length, tokenizer.bos_id):
        block.append(row)
        rows += 1
        if len(block) == 1024 or (split == "train" and rows % rows_per_file == 0):
            flush()
    if block:
        flush()
    slots = max(1, rows * row_length)
    prefix = "sealed/" if split == "test" else ""
    return {
        **figures,
        "rows": rows,
        "files": [prefix + name for name in names],
        "bos_fraction": round(1 - figures["tokens"] / slots, 5),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Reading prepared data


@dataclass
class PreparedData:
    """A prepared folder: packed rows on disk, opened without reading them all."""

    directory: Path
    manifest: dict[str, Any]
    token_bytes: np.ndarray
    """Raw bytes each token stands for, shape (vocab_size,), int32; 0 for BOS."""
    _shards: list[np.ndarray] = field(default_factory=list)
    _val: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def open(cls, directory: Path) -> PreparedData:
        """Open and check a prepared folder: version, the size of every file, the hash of what the metric rests on.

        Training shards are checked by size only: hashing gigabytes at every start would cost more than it finds.

        Raises:
            DataError: Not prepared, prepared by another version, or damaged.
        """
        cure = f"run `python prepare.py --data-dir {directory}` with your dataset"
        path = directory / "manifest.json"
        if not path.is_file():
            raise DataError(f"{directory} holds no prepared data; {cure}")
        try:
            manifest = json.loads(path.read_text())
            version = manifest["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not a readable manifest; {cure} and --force") from error
        if version != FORMAT_VERSION:
            raise DataError(
                f"{directory} was prepared by version {version} of the format, this is {FORMAT_VERSION}; "
                f"{cure} and --force"
            )
        for name, expected in manifest["files"].items():
            file = directory / name
            if name.startswith("sealed/"):
                continue  # not visible to a run, on purpose
            if not file.is_file() or file.stat().st_size != expected["bytes"]:
                raise DataError(f"{file} is missing or has the wrong size; {cure} and --force")
            if not name.startswith("train_") and sha256_of(file) != expected["sha256"]:
                raise DataError(f"{file} has changed since it was prepared; {cure} and --force")
        data = cls(directory, manifest, np.load(directory / "token_bytes.npy"))
        # Mapped now, not at the evaluation: a mapping outlives its name, so preparing anew meanwhile cannot mix data.
        data._shards = [data._map(name) for name in manifest["splits"]["train"]["files"]]
        data._val = data._map(manifest["splits"]["val"]["files"][0])
        return data

    @property
    def vocab_size(self) -> int:
        """Number of token ids, BOS included."""
        return int(self.manifest["vocab_size"])

    @property
    def sequence_length(self) -> int:
        """Tokens a model sees in one row."""
        return int(self.manifest["sequence_length"])

    @property
    def bos_id(self) -> int:
        """The token that starts every document."""
        return int(self.manifest["bos_id"])

    @property
    def num_train_rows(self) -> int:
        """Packed rows in the training split."""
        return int(self.manifest["splits"]["train"]["rows"])

    @property
    def num_eval_rows(self) -> int:
        """Rows an evaluation reads."""
        return int(self.manifest["eval_rows"])

    @property
    def num_rotations(self) -> int:
        """Disjoint sets of validation rows; 1 in folders prepared before there was more than one."""
        return int(self.manifest.get("rotations", 1))

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer; training does not need it."""
        return Tokenizer.read(self.directory / "tokenizer.json")

    def _map(self, name: str) -> np.ndarray:
        return np.memmap(self.directory / name, dtype="<u2", mode="r").reshape(-1, self.sequence_length + 1)

    def train_rows(self, numbers: np.ndarray) -> np.ndarray:
        """Return packed training rows, shape (len(numbers), sequence_length + 1), uint16."""
        if len(self._shards) == 1:
            return np.asarray(self._shards[0][numbers])
        per_shard = len(self._shards[0])
        return np.stack([self._shards[n // per_shard][n % per_shard] for n in numbers])

    def eval_rows(self, split: str = "val", rotation: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the fixed evaluation rows and their row numbers.

        They are strided over the whole split: neighbouring rows come from the same documents, so "the first N" would
        measure a few documents very precisely and the language hardly at all. For that same reason the sets of
        different rotations take turns in blocks of rows, not row by row: what one set has been climbed on is not in
        the next, but for a document or two at the edges of a block. The sealed split has one set.

        Raises:
            DataError: There are not so many rotations.

        Returns:
            Rows, shape (num_eval_rows, sequence_length + 1), uint16, and numbers, shape (num_eval_rows,), int64.
        """
        self.check_rotation(rotation)
        rows = self._val if split == "val" else self._sealed_rows()
        own = np.arange(len(rows))
        if split == "val" and self.num_rotations > 1:
            block = -(-self.num_eval_rows // ROTATION_BLOCKS)
            own = own[own // block % self.num_rotations == rotation]
        numbers = own[np.arange(self.num_eval_rows) * len(own) // self.num_eval_rows]
        return rows[numbers], numbers

    def check_rotation(self, rotation: int) -> None:
        """Raise DataError unless there are so many sets of validation rows."""
        if rotation >= self.num_rotations:
            raise DataError(
                f"AUTORESEARCH_EVAL_ROTATION is {rotation}, but {self.directory} holds {self.num_rotations} set(s) of "
                "validation rows, counted from 0; lower it, or prepare more text"
            )

    def _sealed_rows(self) -> np.ndarray:
        """Return all rows of the test split, which only the harness mounts: in `sealed/` or AUTORESEARCH_SEALED_DIR."""
        name = self.manifest["splits"]["test"]["files"][0]
        sealed = os.environ.get("AUTORESEARCH_SEALED_DIR")
        path = Path(sealed, Path(name).name).resolve() if sealed else self.directory / name
        if not path.is_file():
            raise DataError(f"the test split is not at {path}: it is sealed except when a result is confirmed")
        if sha256_of(path) != self.manifest["files"][name]["sha256"]:
            raise DataError(f"{path} is not the test split that {self.directory} was prepared with; prepare both anew")
        return np.memmap(path, dtype="<u2", mode="r").reshape(-1, self.sequence_length + 1)


def load(data_dir: Path | None = None) -> PreparedData:
    """Open the prepared data that this run is about: `data_dir`, otherwise AUTORESEARCH_DATA_DIR or the default.

    Raises:
        DataError: It is missing or damaged; the message says how to prepare it.
    """
    return PreparedData.open(data_dir or default_data_dir())


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def _has_large_device() -> bool:
    """Whether to choose the GPU-sized defaults; asks for the driver's device node first, torch takes seconds."""
    if os.environ.get("AUTORESEARCH_DEVICE"):
        return os.environ["AUTORESEARCH_DEVICE"] == "cuda"
    return Path("/dev/nvidiactl").exists() or (sys.platform == "win32" and shutil.which("nvidia-smi") is not None)


def parse_arguments(argv: list[str] | None) -> tuple[Plan, Path, bool]:
    """Read the command line. Defaults for size follow the dataset and the machine."""
    parser = argparse.ArgumentParser(description="Prepare data for train.py: tokenizer, packed rows, splits.")
    parser.add_argument("--dataset", default="stdlib", help="stdlib (default), climbmix, tinystories, or a path")
    parser.add_argument("--data-dir", type=Path, help="where to write (default: AUTORESEARCH_DATA_DIR or the cache)")
    parser.add_argument("--vocab-size", type=int, help="tokens, BOS included (default: 2048 on CPU, 8192 on a GPU)")
    parser.add_argument("--sequence-length", type=int, help="tokens a row (default: 256 on CPU, 2048 on a GPU)")
    parser.add_argument("--eval-tokens", type=int, help="tokens an evaluation reads (default: 131072, GPU 10485760)")
    parser.add_argument("--shards", type=int, default=10, help="training shards of a hub dataset (default: 10)")
    parser.add_argument("--tokens", type=int, help="or: as many shards as hold the training tokens that a run reads")
    parser.add_argument("--max-bytes", type=int, default=0, help="training text to use at most (default: all)")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json to use (default: learn one from the dataset)")
    parser.add_argument("--force", action="store_true", help="replace what is in --data-dir")
    args = parser.parse_args(argv)
    large = args.dataset != "stdlib" and _has_large_device()
    plan = Plan(
        dataset=args.dataset,
        vocab_size=args.vocab_size if args.vocab_size is not None else 8192 if large else 2048,
        sequence_length=args.sequence_length if args.sequence_length is not None else 2048 if large else 256,
        eval_tokens=args.eval_tokens if args.eval_tokens is not None else 10_485_760 if large else 131_072,
        shards=args.shards if args.tokens is None else 0,
        max_bytes=args.max_bytes,
        tokenizer=args.tokenizer,
        tokens=args.tokens,
    )
    return plan, args.data_dir or default_data_dir(args.dataset), args.force


def main(argv: list[str] | None = None) -> int:
    """Prepare data from the command line. Returns the exit code: 0, or 2 for what the user can fix."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--tokenise"]:
        return tokenise_task(arguments[1])
    plan, data_dir, force = parse_arguments(argv)
    try:
        prepare(plan, data_dir, force=force)
    except DataError as error:
        say(f"error: {error}")
        return 2
    except OSError as error:  # full disk, no permission: the system's own words name the file
        say(f"error: {error}; free space or choose another --data-dir, and run the same command again")
        return 2
    except KeyboardInterrupt:
        say("interrupted: nothing is half prepared; run the same command again, it goes on with the files not yet done")
        return 130
    print(data_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
