"""Try the real step of a training script for a moment: what memory it takes, and how long it takes to start.

PyTorch's own count of memory leaves out the driver's share, the workspaces of libraries and what its allocator holds
back, which together have been several gigabytes. So the script runs as it will run, in a process of its own, for two
steps, and the driver is asked.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from autoresearch.domain.constants import rewrite_constants
from autoresearch.errors import LabError
from autoresearch.host import files
from autoresearch.host.process import Answer, Command, run_supervised
from autoresearch.lab.sizing import Probed

TIMEOUT_SECONDS = 900.0
"""Of one trial; compilers have been seen to take 13 minutes on a laptop."""

STEPS = 2

_EVAL_ROWS = 32
"""Few: what an evaluation costs beside its rows is what a trial tells."""

_PREPARE_SECONDS = 600.0
_MIB = 2**20
_OUT_OF_MEMORY = ("out of memory", "outofmemoryerror")


class TrainProbe:
    """Makes a run of a lab end after two steps, with different numbers of rows at a time, on stand-in data.

    The data is the Python standard library's own text, packed as the lab's will be: a step needs the same memory
    whatever it reads, and the lab's own data may still have to be downloaded.

    Args:
        lab: The lab's folder; only read.
        scratch: An empty folder for copies, data and results.
        command: One run of the lab, as its lab file says, with the interpreter's path.
        environment: Of the runs, without AUTORESEARCH_*.
        row_tokens: Length of a row.
        vocab_size: Of the tokenizer.
        used_bytes: Reads the used memory of the device from the driver; None where it does not say.
        report: Told what is being tried.
    """

    def __init__(
        self,
        lab: Path,
        scratch: Path,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        row_tokens: int,
        vocab_size: int,
        used_bytes: Callable[[], float | None],
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._lab = lab
        self._scratch = scratch
        self._command = list(command)
        self._environment = dict(environment)
        self._row_tokens = row_tokens
        self._vocab_size = vocab_size
        self._used_bytes = used_bytes
        self._report = report
        self._trials = 0

    def __call__(self, rows: int) -> Probed:
        """Try a step in parts of so many rows."""
        code = self._copied()
        failure = self._prepared(code)
        if failure:
            return Probed(None, failure=failure)
        self._report(f"trying {rows} rows at a time")
        script = code / "train.py"
        source = script.read_text(encoding="utf-8")
        script.write_text(rewrite_constants(source, {"DEVICE_BATCH_SIZE": rows}), encoding="utf-8")
        self._trials += 1
        place = self._scratch / f"trial-{self._trials}"
        out = place / "out"
        out.mkdir(parents=True)
        variables = {
            "AUTORESEARCH_DATA_DIR": str(self._scratch / "data"),
            "AUTORESEARCH_RUN_DIR": str(out),
            "AUTORESEARCH_MAX_STEPS": str(STEPS),
            "AUTORESEARCH_BUDGET_SECONDS": "600",
            "AUTORESEARCH_SEED": "0",
        }
        highest = [0.0]

        def look() -> None:
            highest[0] = max(highest[0], self._used_bytes() or 0.0)

        command = Command("train", self._command, code, TIMEOUT_SECONDS)
        answer = run_supervised(place / "run", [command], env={**self._environment, **variables}, poll=look)
        return self._read(answer, place, highest[0])

    def _read(self, answer: Answer, place: Path, highest: float) -> Probed:
        log = (files.read_tail(place / "run" / "train.log", 1 << 20)).decode(errors="replace")
        if not answer.succeeded:
            if any(words in log.lower() for words in _OUT_OF_MEMORY):
                return Probed(None, is_out_of_memory=True)
            lines = [line.strip() for line in log.splitlines() if line.strip()]
            timed_out = answer.commands and answer.commands[-1].timed_out
            why = f"more than {TIMEOUT_SECONDS:g} s" if timed_out else lines[-1][:200] if lines else "it said nothing"
            return Probed(None, failure=why)
        metrics = files.read_json(place / "out" / "metrics.json") or {}

        def number(name: str) -> float:
            value = metrics.get(name)
            return float(value) if isinstance(value, int | float) else 0.0

        used = max(highest, number("driver_memory_mb") * _MIB) or number("peak_vram_mb") * _MIB
        if not used:
            return Probed(None, failure="neither the driver nor metrics.json says how much memory it used")
        return Probed(used, startup_seconds=number("startup_seconds"), eval_seconds=number("eval_seconds"))

    def _copied(self) -> Path:
        """The lab's code in the scratch folder, where its constants may change."""
        code = self._scratch / "code"
        if not code.exists():
            try:
                shutil.copytree(self._lab, code, ignore=shutil.ignore_patterns(".git", ".autoresearch", "data"))
            except OSError as error:
                raise LabError(f"{code} cannot be written ({error.strerror}): free some space there") from error
        return code

    def _prepared(self, code: Path) -> str:
        """Make the stand-in data once; why it could not be made, or nothing."""
        data = self._scratch / "data"
        if data.exists():
            return ""
        self._report("preparing stand-in data")
        argv = [self._command[0], "prepare.py", "--dataset", "stdlib", "--data-dir", str(data)]
        argv += ["--vocab-size", str(self._vocab_size), "--sequence-length", str(self._row_tokens)]
        argv += ["--eval-tokens", str(_EVAL_ROWS * self._row_tokens)]
        command = Command("prepare", argv, code, _PREPARE_SECONDS)
        answer = run_supervised(self._scratch / "prepare", [command], env=self._environment)
        if answer.succeeded:
            return ""
        with contextlib.suppress(OSError):
            shutil.rmtree(data, ignore_errors=True)
        log = files.read_tail(self._scratch / "prepare" / "prepare.log", 1 << 16).decode(errors="replace")
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        return f"prepare.py: {lines[-1][:200] if lines else 'it said nothing'}"
