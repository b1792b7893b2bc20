"""Write the text behind a prepared folder as parquet, for rivals that read nothing else: the same documents and splits.

    python bench/pretrain/export.py --dataset stdlib --eval-tokens 131072 --out FOLDER

Give --dataset and --eval-tokens as they were given to prepare.py (they decide what is held out), then race with
`--parquet FOLDER`. The sealed test split is left out, as it is from training. Needs numpy and pyarrow.
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


def texts(prepare: Any, dataset: str, shards: int, eval_tokens: int, split: str) -> Iterator[str]:
    """Yield the documents of a split, in the order in which prepare.py reads them."""
    source = prepare.open_source(dataset, shards)
    held_out = prepare.choose_held_out(source, eval_tokens)
    own = source.files.get(split)
    for file in own or source.files["train"]:
        for document in prepare.read_documents(file, source.whole_files):
            if document and ((own and split != "train") or held_out.split_of(document) == split):
                yield document.decode("utf-8", "replace")


def main() -> None:
    """Write shard_00000.parquet and val.parquet."""
    parser = argparse.ArgumentParser(description="Write the text behind a prepared folder as parquet.")
    parser.add_argument("--dataset", default="stdlib")
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--eval-tokens", type=int, default=131_072)
    parser.add_argument("--lab", type=Path, default=LAB)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    prepare = load_prepare(args.lab)
    args.out.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "shard_00000.parquet"), ("val", "val.parquet")):
        documents = texts(prepare, args.dataset, args.shards, args.eval_tokens, split)
        schema = pyarrow.schema([("text", pyarrow.string())])
        with pyarrow.parquet.ParquetWriter(args.out / name, schema, compression="zstd") as writer:
            while part := list(islice(documents, 1024)):
                writer.write_table(pyarrow.table({"text": part}, schema))
        print(f"{args.out / name}: {pyarrow.parquet.read_metadata(args.out / name).num_rows} documents")


if __name__ == "__main__":
    main()
