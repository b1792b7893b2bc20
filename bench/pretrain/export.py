"""Write the text behind a prepared folder as parquet, for rivals that read nothing else: the same documents and splits.

    python bench/pretrain/export.py --dataset stdlib --eval-tokens 131072 --out FOLDER

Give --dataset and --eval-tokens as they were given to prepare.py (they decide what is held out), then race with
`--parquet FOLDER`. The sealed test split is left out, as it is from training. Needs numpy and pyarrow.

A loader that crops what does not fit a row sees little more than the first row of each document: of the standard
library's 593 files a twentieth, at rows of 256 tokens, over and over. `--piece-bytes 700` cuts documents
at line ends into pieces that fit, which gives such a rival all of the text, and is the fair race on long documents.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from race import LAB, load_prepare


def pieces(document: bytes, piece_bytes: int) -> Iterator[bytes]:
    """Cut a document at line ends into pieces of at least so many bytes, but for the last; 0 leaves it whole."""
    lines = document.splitlines(keepends=True) if piece_bytes else [document]
    pending = b""
    for line in lines:
        pending += line
        if len(pending) >= piece_bytes:
            yield pending
            pending = b""
    if pending:
        yield pending


def texts(prepare: Any, dataset: str, shards: int, eval_tokens: int, split: str, piece_bytes: int = 0) -> Iterator[str]:
    """Yield the documents of a split, in the order in which prepare.py reads them."""
    source = prepare.open_source(dataset, shards)
    held_out = prepare.choose_held_out(source, eval_tokens)
    own = source.files.get(split)
    for file in own or source.files["train"]:
        for document in prepare.read_documents(file, source.whole_files):
            if document and ((own and split != "train") or held_out.split_of(document) == split):
                yield from (piece.decode("utf-8", "replace") for piece in pieces(document, piece_bytes))


def main() -> None:
    """Write shard_00000.parquet and val.parquet."""
    parser = argparse.ArgumentParser(description="Write the text behind a prepared folder as parquet.")
    parser.add_argument("--dataset", default="stdlib")
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--eval-tokens", type=int, default=131_072)
    parser.add_argument("--piece-bytes", type=int, default=0, help="cut documents (default: leave them whole)")
    parser.add_argument("--lab", type=Path, default=LAB)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    prepare = load_prepare(args.lab)
    args.out.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "shard_00000.parquet"), ("val", "val.parquet")):
        documents = texts(prepare, args.dataset, args.shards, args.eval_tokens, split, args.piece_bytes)
        schema = pyarrow.schema([("text", pyarrow.string())])
        with pyarrow.parquet.ParquetWriter(args.out / name, schema, compression="zstd") as writer:
            while part := list(islice(documents, 1024)):
                writer.write_table(pyarrow.table({"text": part}, schema))
        print(f"{args.out / name}: {pyarrow.parquet.read_metadata(args.out / name).num_rows} documents")


if __name__ == "__main__":
    main()
