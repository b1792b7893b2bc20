"""Real runs of the pretraining lab, many seeds of many configurations, and the noise in them.

    python bench/judge/replicates.py                                   # forty minutes on one CPU core
    python bench/judge/replicates.py --device cuda --jobs 4 --out bench/judge/data/replicates-cuda.json
    python bench/judge/replicates.py --analyse                         # no runs, only the tables

Every figure about the judge rests on what two runs of one program differ by. Here that is measured, not assumed: the
lab's program and one-step variations of it, a mixture of better, equal and worse, each under the same seeds.

**Values do not depend on the machine's load.** A run under a time budget sees fewer batches when something else uses
the machine. So each configuration's speed is measured once, alone; the budget divided by it gives its number of steps,
which is then the same for all its runs. The schedule follows the steps. What a budget of time adds to the noise is
measured beside it, with one seed and nothing but the clock to tell the runs apart (configuration `baseline`, budget
`time`). Runs of one seed and one number of steps (`take` 0, 1, ...) show what the arithmetic itself adds.

**Resumable.** Each finished run is in the output file; the same command goes on where it was killed. The program is
copied to the working folder at the first start, so that edits of the lab do not mix with a measurement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autoresearch.domain.constants import ConstantValue, find_constants, rewrite_constants
from autoresearch.errors import UserError
from autoresearch.host.files import write_text
from autoresearch.host.hardware import describe_hardware
from autoresearch.judge.rows import Rows, paired_row_error

HERE = Path(__file__).resolve().parent
LAB = HERE.parents[1] / "src" / "autoresearch" / "labs" / "pretrain"
OUT = HERE / "data" / "replicates-cpu.json"
CALIBRATION_STEPS = 60
GENEROUS_SECONDS = 86_400.0
"""A time budget that never ends a run whose steps are counted."""


@dataclass(frozen=True)
class Configuration:
    """The lab's program with some constants changed."""

    name: str
    changes: dict[str, ConstantValue]
    changes_speed: bool = False
    """False: a step costs what the baseline's costs, so the number of steps is the baseline's."""


BASELINE = Configuration("baseline", {})

TRUE_ZERO = "same sum in parts"
"""A change without effect: a step's rows are added up in other parts, which is equal but for rounding."""

BASES: dict[str, dict[str, ConstantValue]] = {
    "cpu": {"TOTAL_BATCH_SIZE": 1024, "DEVICE_BATCH_SIZE": 4},
    "cuda": {"DEPTH": 4, "MODEL_DIM": 512, "HEAD_DIM": 128, "TOTAL_BATCH_SIZE": 2**15, "DEVICE_BATCH_SIZE": 128,
             "USE_COMPILE": False},
}  # fmt: skip
"""What the baseline changes of the shipped program. On one CPU core, the batch that a campaign finds first: with the
shipped one, twelve seconds are forty steps, and every change is a landslide. On a GPU, a larger model, and no
compilation, which would take longer than the run. Rows are of 256 tokens, as the default data set has them."""


def configurations_of(shipped: Mapping[str, ConstantValue]) -> tuple[Configuration, ...]:
    """The baseline and twelve changes of one thing that a researcher would try.

    Args:
        shipped: The baseline's constants, all of them.
    """
    value = {name: float(v) for name, v in shipped.items() if not isinstance(v, str)}
    tokens, rows, depth = (int(value[name]) for name in ("TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE", "DEPTH"))
    return (
        BASELINE,
        Configuration(TRUE_ZERO, {"DEVICE_BATCH_SIZE": rows // 2}),
        Configuration("matrix rate x 0.5", {"MATRIX_LR": value["MATRIX_LR"] * 0.5}),
        Configuration("matrix rate x 1.5", {"MATRIX_LR": value["MATRIX_LR"] * 1.5}),
        Configuration("embedding rate x 0.5", {"EMBEDDING_LR": value["EMBEDDING_LR"] * 0.5}),
        Configuration("head rate x 2", {"UNEMBEDDING_LR": value["UNEMBEDDING_LR"] * 2}),
        Configuration("batch x 0.5", {"TOTAL_BATCH_SIZE": tokens // 2, "DEVICE_BATCH_SIZE": rows // 2}, True),
        Configuration("batch x 2", {"TOTAL_BATCH_SIZE": tokens * 2, "DEVICE_BATCH_SIZE": rows * 2}, True),
        Configuration("one layer more", {"DEPTH": depth + 1}, True),
        Configuration("no weight decay", {"WEIGHT_DECAY": 0.0}),
        Configuration("warm-down 0.8", {"WARMDOWN_RATIO": 0.8}),
        Configuration("momentum 0.9", {"MUON_MOMENTUM": 0.9}),
        Configuration("rotary base x 5", {"ROPE_BASE": value["ROPE_BASE"] * 5}),
    )


@dataclass(frozen=True)
class Request:
    """One run to make."""

    configuration: str
    seed: int
    take: int = 0
    """Repetition under one seed."""
    budget: str = "steps"
    """`steps`: a fixed number of them; `time`: the lab's own clock ends the run."""


@dataclass(frozen=True)
class Replicate:
    """One run as it ended."""

    configuration: str
    seed: int
    take: int
    budget: str
    value: float
    """Validation bits per byte, lower is better."""
    steps: int
    training_seconds: float
    total_seconds: float
    evaluation_error: float | None = None
    """Standard error of the difference to the baseline under the same seed that comes from the finite evaluation
    text, in bits per byte; None for the baseline itself."""

    @property
    def request(self) -> Request:
        """What was asked for."""
        return Request(self.configuration, self.seed, self.take, self.budget)


@dataclass
class Study:
    """The content of the output file."""

    setup: dict[str, Any]
    machine: dict[str, Any]
    steps: dict[str, int] = field(default_factory=dict)
    """Steps of each configuration."""
    runs: list[Replicate] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Study:
        """Read a study; UserError when the file is not one."""
        try:
            content = json.loads(path.read_text())
            runs = [Replicate(**run) for run in content.pop("runs")]
            return cls(**content, runs=runs)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; run without --analyse first") from None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path} is not a file of replicates ({error}); move it away or name another --out"
            ) from None

    def write(self, path: Path) -> None:
        """Write it whole, one line for each run."""
        head = json.dumps({"setup": self.setup, "machine": self.machine, "steps": self.steps}, indent=1)
        runs = ",\n".join("  " + json.dumps(asdict(run)) for run in self.runs)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, head.removesuffix("\n}") + f',\n "runs": [\n{runs}\n ]\n}}\n')

    def table(self) -> tuple[list[str], list[int], np.ndarray]:
        """Values by configuration and seed: the largest full table that the runs hold.

        Returns:
            Names, seeds, and values of shape (configurations, seeds).
        """
        known = self._values
        seeds = sorted({seed for _, seed in known})
        tables = [
            ([name for name in self.steps if all((name, seed) in known for seed in seeds[:count])], seeds[:count])
            for count in range(len(seeds) + 1)
        ]
        names, whole = max(tables, key=lambda table: len(table[0]) * len(table[1]))
        return names, whole, np.array([[known[name, seed] for seed in whole] for name in names])

    def gains(self) -> dict[str, float]:
        """Mean gain of each change over the baseline under the seeds that both have; at least two."""
        known, found = self._values, {}
        for name in self.steps:
            seeds = [seed for configuration, seed in known if configuration == name and (BASELINE.name, seed) in known]
            if name != BASELINE.name and len(seeds) > 1:
                found[name] = float(np.mean([known[BASELINE.name, seed] - known[name, seed] for seed in seeds]))
        return found

    @property
    def _values(self) -> dict[tuple[str, int], float]:
        """The value of each configuration under each seed."""
        first = [run for run in self.runs if run.take == 0 and run.budget == "steps"]
        return {(run.configuration, run.seed): run.value for run in first}


# ---------------------------------------------------------------------------------------------------------------------
# Making the runs


@dataclass(frozen=True)
class Bench:
    """Where and how runs are made."""

    work: Path
    data: Path
    device: str
    threads: int
    budget_seconds: float
    base: dict[str, ConstantValue]
    lab: Path = LAB

    @property
    def clock(self) -> str:
        """Processor time on a CPU, which others' work hardly touches; a GPU has only the wall clock."""
        return "cpu" if self.device == "cpu" else "wall"

    def prepare(self, dataset: str) -> None:
        """Copy the lab and prepare the data, once."""
        lab = self.work / "lab"
        if not lab.exists():
            draft = self.work / "lab.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            for name in ("train.py", "prepare.py"):
                shutil.copyfile(self.lab / name, draft / name)
            draft.rename(lab)
        if not self.data.exists():
            command = [sys.executable, str(lab / "prepare.py"), "--dataset", dataset, "--data-dir", str(self.data)]
            # Sizes are the CPU's defaults on every device, with half the text to evaluate: time is for training.
            command += ["--vocab-size", "2048", "--sequence-length", "256", "--eval-tokens", "65536"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"the data could not be prepared: {_last_line(done.stderr)}")

    def digest(self) -> str:
        """Fingerprint of the program and of the data."""
        parts = [(self.work / "lab" / name).read_bytes() for name in ("train.py", "prepare.py")]
        parts += [path.read_bytes() for path in sorted(self.data.glob("*.json"))]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]

    def program(self, configuration: Configuration) -> Path:
        """The folder of a configuration's program, written when it is not there yet."""
        folder = self.work / "programs" / configuration.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        source = (self.work / "lab" / "train.py").read_text()
        write_text(folder / "train.py", rewrite_constants(source, self.base | configuration.changes))
        shutil.copyfile(self.work / "lab" / "prepare.py", folder / "prepare.py")
        return folder

    def run(self, folder: Path, request: Request, steps: int) -> dict[str, Any]:
        """Run a program once and return its metrics; UserError with the program's last words when it fails.

        Args:
            folder: From `program`.
            request: Which seed and kind of budget.
            steps: Optimiser steps; 0 leaves the end to the time budget.
        """
        where = self.rows_of(request).parent
        shutil.rmtree(where, ignore_errors=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AUTORESEARCH_")}
        ours = {
            "SEED": request.seed,
            "MAX_STEPS": steps,
            "BUDGET_SECONDS": GENEROUS_SECONDS if steps else self.budget_seconds,
            "BUDGET_CLOCK": self.clock,
            "DEVICE": self.device,
            "THREADS": self.threads,
            "DATA_DIR": self.data,
            "RUN_DIR": where,
        }
        done = subprocess.run(
            [sys.executable, str(folder / "train.py")],
            env=inherited | {f"AUTORESEARCH_{name}": str(value) for name, value in ours.items()},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = _last_line(done.stderr or done.stdout)
            raise UserError(f"{request.configuration} failed under seed {request.seed}: {last}")
        metrics: dict[str, Any] = json.loads((where / "metrics.json").read_text())
        # The metrics are rounded for people; the file beside them is not.
        metrics["val_bpb"] = json.loads((where / "evaluation.json").read_text())["bpb"]
        return metrics

    def rows_of(self, request: Request) -> Path:
        """The file with the evaluation of each row."""
        name = f"{request.configuration}-{request.budget}-{request.seed}-{request.take}".replace(" ", "-")
        return self.work / "runs" / name / "eval_rows.npz"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def evaluation_error(rows: Path, other: Path) -> float | None:
    """Standard error of the difference of two runs' metrics that comes from the finite text; None when unknown."""
    if not (rows.exists() and other.exists()):
        return None
    with np.load(rows) as mine, np.load(other) as theirs:
        return paired_row_error(*(Rows(each["row"], each["nats"], each["bytes"]) for each in (mine, theirs)))


def requests(configurations: Sequence[Configuration], seeds: int, retakes: int) -> Iterator[Request]:
    """All runs, seed by seed, so that a study cut short has whole seeds."""
    for seed in range(seeds):
        for configuration in configurations:
            yield Request(configuration.name, seed)
        if seed == 0:
            yield from (Request(BASELINE.name, 0, take) for take in range(1, retakes))
            yield from (Request(BASELINE.name, 0, take, "time") for take in range(2 * retakes))


def measure(bench: Bench, configurations: tuple[Configuration, ...], options: argparse.Namespace) -> Study:
    """Make every run that the output file does not have yet."""
    bench.prepare(options.data)
    setup = {
        "base": bench.base,
        "configurations": {c.name: c.changes for c in configurations},
        "device": bench.device,
        "threads": bench.threads,
        "budget_seconds": bench.budget_seconds,
        "clock_of_calibration": bench.clock,
        "dataset": Path(options.data).name,
        "digest": bench.digest(),
    }
    study = Study.read(options.out) if options.out.exists() else Study(setup, _machine())
    if study.setup != setup:
        different = ", ".join(key for key in setup if study.setup.get(key) != setup[key])
        raise UserError(f"{options.out} was measured with another setup ({different}); name another --out")
    programs = {c.name: bench.program(c) for c in configurations}
    done = {run.request for run in study.runs}
    now = [c for c in configurations if not options.only or c.name in {BASELINE.name, *options.only.split(",")}]
    wanted = [r for r in requests(now, options.seeds, options.retakes) if r not in done]
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bar, ThreadPoolExecutor(options.jobs) as pool:
        task = bar.add_task("measuring speeds", total=len(wanted) + len(configurations) - len(study.steps))
        for configuration in configurations:
            if configuration.name in study.steps:
                continue
            if configuration.changes_speed or configuration == BASELINE:
                metrics = bench.run(programs[configuration.name], Request(configuration.name, 0), CALIBRATION_STEPS)
                steps = round(bench.budget_seconds * metrics["num_steps"] / metrics["training_seconds"])
            else:
                steps = study.steps[BASELINE.name]
            study.steps[configuration.name] = steps
            study.write(options.out)
            bar.console.print(f"{configuration.name}: {steps} steps in {bench.budget_seconds:g} s")
            bar.advance(task)
        bar.update(task, description="runs")
        pending: set[Future[Replicate]] = set()
        for request in wanted:
            steps = study.steps[request.configuration] if request.budget == "steps" else 0
            pending.add(pool.submit(_replicate, bench, programs[request.configuration], request, steps))
        while pending:
            ended, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in ended:
                try:
                    run = future.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                study.runs.append(run)
                study.write(options.out)
                bar.console.print(
                    f"{run.configuration}, seed {run.seed}, take {run.take} ({run.budget}): {run.value:.5f} "
                    f"after {run.steps} steps, {run.total_seconds:.0f} s"
                )
                bar.advance(task)
    return study


def _replicate(bench: Bench, folder: Path, request: Request, steps: int) -> Replicate:
    metrics = bench.run(folder, request, steps)
    baseline = bench.rows_of(Request(BASELINE.name, request.seed))
    is_baseline = request.configuration == BASELINE.name
    error = None if is_baseline else evaluation_error(bench.rows_of(request), baseline)
    return Replicate(
        **asdict(request),
        value=metrics["val_bpb"],
        steps=metrics["num_steps"],
        training_seconds=metrics["training_seconds"],
        total_seconds=metrics["total_seconds"],
        evaluation_error=error,
    )


def _machine() -> dict[str, Any]:
    """What the values and speeds were measured on."""
    hardware = describe_hardware()
    return {
        "cpu": hardware.cpu,
        "logical_cores": hardware.logical_cores,
        "gpus": [gpu.name for gpu in hardware.gpus],
        "driver": hardware.driver,
        "system": hardware.system.split()[0],
        "python": hardware.python,
        "torch": hardware.torch,
    }


def setting(text: str) -> tuple[str, ConstantValue]:
    """Read `NAME=VALUE` as Python writes it."""
    found = find_constants(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE with a plain value")
    ((name, constant),) = found.items()
    return name, constant.value


def main() -> int:
    """Measure, then print and save the analysis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="the file of values; runs that it holds are not repeated")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "autoresearch-replicates")
    parser.add_argument("--data", default="stdlib", help="a dataset or path, as prepare.py takes it")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--retakes", type=int, default=2, help="runs of the baseline under seed 0")
    parser.add_argument("--budget-seconds", type=float, default=12.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; the values do not depend on it")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE",
                        help="another constant of the baseline; repeatable")  # fmt: skip
    parser.add_argument("--only", default="", help="configurations to run now, by name and comma, beside the baseline")
    parser.add_argument("--analyse", action="store_true", help="only read what was measured")
    options = parser.parse_args()
    from variance import describe, summarise

    try:
        if options.analyse:
            study = Study.read(options.out)
        else:
            base = BASES.get(options.device, BASES["cpu"]) | dict(options.set)
            bench = Bench(options.work, options.work / f"data-{Path(options.data).name}", options.device,
                          options.threads, options.budget_seconds, base)  # fmt: skip
            shipped = {
                name: constant.value for name, constant in find_constants((LAB / "train.py").read_text()).items()
            }
            study = measure(bench, configurations_of(shipped | base), options)
        summary = summarise(study)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    write_text(options.out.with_suffix(".analysis.json"), json.dumps(summary, indent=1) + "\n")
    print(describe(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
