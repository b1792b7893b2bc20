r"""Race our pretraining lab against other projects' training scripts: same data, tokenizer, seconds, evaluation rows.

    python bench/pretrain/race.py --data PREPARED --parquet TEXT --rival original=FOLDER --rival mar8=FOLDER \
        --seconds 100,300 --seeds 3 --out race.jsonl --logs logs

Ours is a copy of the lab's folder (`--ours`); `--arm NAME:CONSTANT=VALUE,…` adds another copy with other constants, for
settings and ablations. A rival is a folder with train.py and prepare.py, run by `rival.py` beside this file, which says
how. Each arm runs under each seed, arms taking turns, so that a machine that warms up does so for all of them; one run
at a time on a device, and with `--gpus 0,1,2` one on each. Arms keep their compile caches (`--caches`), so an arm's
first run on a machine is cold and is told apart.

`--out` gets one line of JSON as each run ends, so a race that is cut short has lost nothing; the same command goes on
where it stopped, and `--table` only prints what is there. A run that fails is a line too, with its last words.

On two CPU cores a model for an H100 has to shrink. What suits it best there, of batches of 1,024, 2,048 and 4,096
tokens, rates as they are and halved, heads of 64 and 128 channels, compiled as it is, is this (and `mar8` alike, with
ASPECT_RATIO=64 besides), on text that its loader does not crop away (see `export.py`):

    python prepare.py --data-dir DATA && python bench/pretrain/export.py --piece-bytes 700 --out TEXT
    python bench/pretrain/race.py --device cpu --threads 2 --seconds 60 --data DATA --parquet TEXT --rival \
        original=FOLDER --rival-set original:DEPTH=2,HEAD_DIM=64,DEVICE_BATCH_SIZE=8,TOTAL_BATCH_SIZE=2048

How to read the table: `bpb` is bits per byte on our evaluation rows, mean ± spread over seeds; `paired` is the
difference to the reference on the very same rows under the same seed, ± its standard error from the rows, of one pair
(mean over pairs); `beyond` is wall time minus the budget (start-up, compile, evaluation; for rivals without our second
evaluation and the choice of attention), warm runs and the first one. Needs numpy; the runs need what they need.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import queue
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import constants
import numpy as np

HERE = Path(__file__).resolve().parent
LAB = HERE.parents[1] / "src" / "autoresearch" / "labs" / "pretrain"

REPORTED = {
    "val_bpb": "val_bpb",
    "val_bpb_ours": "val_bpb_ours",
    "num_steps": "steps",
    "total_tokens_M": "tokens_M",
    "training_seconds": "training_seconds",
    "total_seconds": "total_seconds",
    "startup_seconds": "startup_seconds",
    "eval_seconds": "eval_seconds",
    "epochs": "epochs",
    "peak_vram_mb": "peak_mb",
    "mfu_percent": "mfu_percent",
    "num_params_M": "params_M",
    "second_evaluation_seconds": "second_evaluation_seconds",
    "attention_seconds": "attention_seconds",
}
"""What scripts print as `name: number`, and its name in a line of the output."""


@dataclass(frozen=True)
class Arm:
    """One contestant: a folder, and constants to change in a copy of it."""

    name: str
    folder: Path
    is_rival: bool
    settings: dict[str, str] = field(default_factory=dict, hash=False)

    def identity(self) -> str:
        """Hash what is run, so that going on never mixes two versions of an arm."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for file in sorted(self.folder.glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Job:
    """One run to make."""

    arm: Arm
    seconds: float
    seed: int


class Race:
    """Runs jobs and writes a line for each."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.logs = args.logs.resolve()
        self.caches = (args.caches or args.logs / "caches").resolve()
        self.logs.mkdir(parents=True, exist_ok=True)
        self.evaluation = self.logs / "evaluation.npz"
        self.writing = threading.Lock()
        self.stopping = threading.Event()

    def command(self, job: Job, work: Path) -> list[str]:
        """Return the command of a run in the folder `work`; ours gets a copy of the lab there."""
        args = self.args
        if job.arm.is_rival:
            command = [args.python, str(HERE / "rival.py"), str(job.arm.folder), "--seconds", f"{job.seconds:g}"]
            command += ["--data", str(args.data), "--parquet", str(args.parquet), "--evaluation", str(self.evaluation)]
            command += ["--home", str(self.caches / f"home-{job.arm.name}"), "--out", str(work.parent / "results")]
            command += ["--device", args.device, "--seed", str(job.seed), "--threads", str(args.threads)]
            command += [
                "--clock",
                args.clock,
                "--attention",
                args.attention,
                *(["--no-compile"] if args.no_compile else []),
            ]
            return [*command, "--set", ",".join(f"{k}={v}" for k, v in job.arm.settings.items())]
        for file in job.arm.folder.glob("*.py"):
            shutil.copy(file, work)
        train = work / "train.py"
        train.write_text(constants.rewrite(train.read_text(encoding="utf-8"), job.arm.settings), encoding="utf-8")
        return [args.python, "evaluate.py" if (work / "evaluate.py").exists() else "train.py"]

    def environment(self, job: Job, work: Path, gpu: str | None) -> dict[str, str]:
        """Return the environment of a run."""
        args = self.args
        cache = self.caches / job.arm.name
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AUTORESEARCH_")}
        environment |= {
            "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
            "AUTORESEARCH_DATA_DIR": str(args.data),
            "AUTORESEARCH_BUDGET_SECONDS": f"{job.seconds:g}",
            "AUTORESEARCH_SEED": str(job.seed),
            "AUTORESEARCH_RUN_DIR": str(work.parent / "results"),
            "AUTORESEARCH_DEVICE": args.device,
            "AUTORESEARCH_BUDGET_CLOCK": args.clock,
        }
        if args.threads:
            environment |= {"AUTORESEARCH_THREADS": str(args.threads), "OMP_NUM_THREADS": str(args.threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        if args.memory_gib:
            # In the folder of the run: whoever confines the program may hide this script's own folder from it.
            shutil.copy(HERE / "cap" / "sitecustomize.py", work)
            path = os.pathsep.join(filter(None, [str(work), environment.get("PYTHONPATH", "")]))
            environment |= {"RACE_MEMORY_GIB": str(args.memory_gib), "PYTHONPATH": path}
        return environment

    def run(self, job: Job, gpu: str | None) -> dict[str, Any]:
        """Make one run and return its line."""
        folder = self.logs / f"{job.arm.name}-{job.seconds:g}s-seed{job.seed}"
        if self.args.memory_gib:
            folder = folder.with_name(f"{folder.name}-{self.args.memory_gib:g}gib")
        shutil.rmtree(folder, ignore_errors=True)
        (work := folder / "work").mkdir(parents=True)
        warm = (self.caches / job.arm.name).exists()
        (self.caches / job.arm.name).mkdir(parents=True, exist_ok=True)
        command, environment = self.command(job, work), self.environment(job, work, gpu)
        log = folder / "log.txt"
        began = time.monotonic()
        timed_out = False
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=work, start_new_session=True
            )
            try:
                while process.poll() is None:
                    time.sleep(0.05)
                    timed_out = time.monotonic() - began > job.seconds + self.args.grace
                    if timed_out or self.stopping.is_set():
                        break
            finally:
                with_children_ended(process)
        wall = time.monotonic() - began
        text = log.read_text(errors="replace").replace("\r", "\n")
        line = self.identity(job)
        line |= {
            "rival": job.arm.is_rival,
            "settings": job.arm.settings,
            "gpu": gpu,
            "warm": warm,
            "wall_seconds": round(wall, 2),
        }
        line |= figures(text, folder / "results" / "metrics.json")
        finished = process.returncode == 0 and isinstance(line.get("val_bpb"), float)
        line["outcome"] = "finished" if finished else "timed_out" if timed_out else "crashed"
        if not finished:
            line["detail"] = last_words(text)
        if job.arm.is_rival:
            line["val_bpb_own"], line["val_bpb"] = line.pop("val_bpb", None), line.pop("val_bpb_ours", None)
        aside = sum(float(line.get(name, 0)) for name in ("second_evaluation_seconds", "attention_seconds"))
        line["beyond_seconds"] = round(wall - aside - job.seconds, 2)
        if self.args.memory_gib:
            line["capped"] = "memory capped to" in text
        return line | {"log": str(log)}

    def identity(self, job: Job) -> dict[str, Any]:
        """Return what is run and under which conditions: a finished line that has all of it need not be run again."""
        args = self.args
        return {
            "arm": job.arm.name,
            "identity": job.arm.identity(),
            "seconds": job.seconds,
            "seed": job.seed,
            "device": args.device,
            "threads": args.threads,
            "clock": args.clock,
            "memory_gib": args.memory_gib,
            "data": json.loads((args.data / "manifest.json").read_text())["files"]["val.bin"]["sha256"][:12],
        }

    def write(self, line: dict[str, Any]) -> None:
        """Append a line for good."""
        with self.writing, self.args.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def all(self, jobs: list[Job]) -> None:
        """Run all jobs, as many at a time as there are GPUs (one on a CPU)."""
        left: queue.Queue[Job] = queue.Queue()
        for job in jobs:
            left.put(job)

        def work(gpu: str | None) -> None:
            while not self.stopping.is_set():
                try:
                    job = left.get_nowait()
                except queue.Empty:
                    return
                line = self.run(job, gpu)
                if self.stopping.is_set():
                    return
                self.write(line)
                say(line, left.qsize())

        workers = [threading.Thread(target=work, args=(gpu,)) for gpu in self.args.gpus]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                while worker.is_alive():
                    worker.join(0.2)
        except BaseException:
            self.stopping.set()
            for worker in workers:
                worker.join()
            raise


def with_children_ended(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a run: it has a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


IDENTITY = ("arm", "identity", "seconds", "seed", "device", "threads", "clock", "memory_gib", "data")


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells runs apart."""
    return tuple(line.get(name) for name in IDENTITY)


def figures(text: str, metrics: Path) -> dict[str, Any]:
    """Read what a run reported: its last words of each kind, or `metrics.json` where there is one."""
    found: dict[str, Any] = {}
    for name, number in re.findall(r"^(\w+):\s+(-?[\d.]+(?:e[+-]?\d+)?)\s*$", text, re.MULTILINE):
        if name in REPORTED:
            found[REPORTED[name]] = float(number)
    if metrics.is_file():
        stored = json.loads(metrics.read_text())
        found |= {REPORTED[k]: v for k, v in stored.items() if k in REPORTED and isinstance(v, int | float)}
    return found


def last_words(text: str) -> str:
    """Return the line that says why a run failed: the last that names an error, otherwise the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|FAIL)\b", line)]
    return (errors or lines or ["no output"])[-1][:300]


def say(line: dict[str, Any], left: int) -> None:
    """Tell a person that a run has ended."""
    score = (
        f"val_bpb {line['val_bpb']:.4f}" if line["outcome"] == "finished" else f"{line['outcome']}: {line['detail']}"
    )
    print(
        f"{line['arm']} {line['seconds']:g} s seed {line['seed']}: {score}, {line.get('steps', 0):.0f} steps, "
        f"{line['beyond_seconds']:.1f} s beyond the budget{'' if line['warm'] else ' (cold)'}; {left} runs left",
        file=sys.stderr,
        flush=True,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The table


def table(lines: list[dict[str, Any]], reference: str) -> str:
    """Return the figures of all arms as a Markdown table, one block for each budget and memory."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    latest = {key_of(line): line for line in lines}  # a failed run that was made again counts no more
    for line in latest.values():
        key = (line["seconds"], line["memory_gib"] or 0, line["device"], line.get("clock", "wall"))
        groups.setdefault(key, []).append(line)
    parts = []
    for (seconds, memory, device, clock), group in sorted(groups.items()):
        arms = list(dict.fromkeys(line["arm"] for line in group))
        finished = {arm: [x for x in group if x["arm"] == arm and x["outcome"] == "finished"] for arm in arms}
        title = f"{seconds:g} {clock} s on {device}" + (f", {memory:g} GiB" if memory else "")
        rows = [
            f"**{title}**, reference: {reference}",
            "",
            "| arm | runs | bpb | ratio | paired | steps | M tokens | beyond, warm (first) s | peak GB | MFU % |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for arm in arms:
            runs, failed = finished[arm], sum(x["arm"] == arm for x in group) - len(finished[arm])
            if not runs:
                detail = next(x["detail"] for x in reversed(group) if x["arm"] == arm)
                rows.append(f"| {arm} | 0 of {failed} | {detail} | | | | | | | |")
                continue
            scores = [x["val_bpb"] for x in runs]
            others = [x["val_bpb"] for x in finished.get(reference, [])]
            ratio = f"{statistics.fmean(scores) / statistics.fmean(others):.4f}" if others else ""
            cells = [
                arm,
                f"{len(runs)}" + (f" ({failed} failed)" if failed else ""),
                spread(scores),
                ratio,
                paired(runs, finished.get(reference, [])) if arm != reference else "",
                f"{statistics.median(x.get('steps', math.nan) for x in runs):.0f}",
                f"{statistics.median(x.get('tokens_M', math.nan) for x in runs):.3g}",
                beyond(runs),
                f"{max(x.get('peak_mb', math.nan) for x in runs) / 1024:.1f}",
                f"{statistics.median(x.get('mfu_percent', math.nan) for x in runs):.1f}",
            ]
            rows.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def spread(values: list[float]) -> str:
    """Write a mean with its standard deviation over runs."""
    return f"{statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def beyond(runs: list[dict[str, Any]]) -> str:
    """Write the median of warm runs, and the first run's in brackets."""
    warm = [x["beyond_seconds"] for x in runs if x["warm"]]
    cold = [x["beyond_seconds"] for x in runs if not x["warm"]]
    return (f"{statistics.median(warm):.1f}" if warm else "–") + (f" ({cold[0]:.1f})" if cold else "")


def paired(runs: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """Write the mean difference in bits per byte over pairs of one seed, and the standard error of one pair."""
    by_seed = {x["seed"]: x for x in others}
    pairs = [difference(x, by_seed[x["seed"]]) for x in runs if x["seed"] in by_seed]
    known = [pair for pair in pairs if pair is not None]
    if not known:
        return ""
    return f"{statistics.fmean(d for d, _ in known):+.4f} ± {statistics.fmean(se for _, se in known):.4f}"


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float] | None:
    """Return the difference in bits per byte of two runs on the same rows, and its standard error, rows as clusters."""
    try:
        a, b = (np.load(Path(x["log"]).parent / "results" / "eval_rows.npz") for x in (one, other))
    except OSError:
        return None
    if not np.array_equal(a["row"], b["row"]) or not np.array_equal(a["bytes"], b["bytes"]):
        return None
    bits, sizes = (a["nats"] - b["nats"]) / math.log(2), a["bytes"]
    mean = bits.sum() / sizes.sum()
    rest = bits - mean * sizes
    n = len(bits)
    return float(mean), float(np.sqrt(n / (n - 1) * (rest**2).sum()) / sizes.sum())


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def load_prepare(lab: Path) -> Any:
    """Load a lab's prepare.py by its path: a lab is a folder of scripts, not a package."""
    sys.path.insert(0, str(lab))  # for its neighbours
    spec = importlib.util.spec_from_file_location("race_prepare", lab / "prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_evaluation_rows(lab: Path, data_dir: Path, path: Path) -> None:
    """Write the rows that our lab evaluates on, for `rival.py`: taken from the lab's own code, not reckoned again."""
    data = load_prepare(lab).PreparedData.open(data_dir)
    rows, numbers = data.eval_rows()
    beside = path.with_name(f"{os.getpid()}-{path.name}")
    np.savez(beside, rows=np.asarray(rows), numbers=numbers, token_bytes=data.token_bytes)
    beside.replace(path)


def numbers(text: str) -> list[float]:
    """Read "100,300"."""
    return [float(part) for part in text.split(",")]


def seeds(text: str) -> list[int]:
    """Read "3" as 0, 1, 2; "0,5" as it is written; "5," as that one."""
    return [int(part) for part in text.split(",") if part] if "," in text else list(range(int(text)))


def named(text: str) -> tuple[str, str]:
    """Split NAME=REST or NAME:REST."""
    at = re.match(r"([\w.-]+)[=:](.*)", text, re.DOTALL)
    if not at:
        raise argparse.ArgumentTypeError(f"'{text}' has no name; write NAME=FOLDER or NAME:CONSTANT=VALUE,…")
    return at[1], at[2]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Race our pretraining lab against others on the same data.")
    add = parser.add_argument
    add("--data", type=Path, help="folder that our prepare.py wrote")
    add("--parquet", type=Path, help="the text of that folder for rivals: shards and val.parquet")
    add("--ours", type=Path, default=LAB, help="the lab's folder")
    add("--set", default="", help="constants of ours, in all its arms: NAME=VALUE,NAME=VALUE")
    add("--arm", type=named, action="append", default=[], help="an arm of ours: NAME:CONSTANT=VALUE,…; instead of one")
    add("--no-ours", action="store_true", help="rivals only")
    add("--rival", type=named, action="append", default=[], help="NAME=FOLDER with train.py and prepare.py")
    add("--rival-set", type=named, action="append", default=[], help="constants of a rival: NAME:CONSTANT=VALUE,…")
    add("--seconds", type=numbers, default=[300.0], help="budgets: 100,300")
    add("--seeds", type=seeds, default=[0, 1, 2], help="how many, or which: 3 or 0,5 (default: 3)")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--threads", type=int, default=0, help="CPU threads of each run (default: as the scripts choose)")
    add(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor seconds over threads, on busy machines"
    )
    add("--gpus", type=lambda text: text.split(","), default=[None], help="0,1,2: one run on each at a time")
    add("--memory-gib", type=float, default=0.0, help="cap each process's GPU memory")
    add("--attention", default="auto", help="of rivals: auto (measured), flex, varlen, sdpa")
    add("--no-compile", action="store_true", help="rivals without torch.compile")
    add("--grace", type=float, default=600.0, help="seconds beyond the budget before a run is ended")
    add("--out", type=Path, default=Path("race.jsonl"), help="a line for each run")
    add("--logs", type=Path, default=Path("race-logs"), help="a folder for each run")
    add("--caches", type=Path, help="compile caches of each arm (default: inside --logs)")
    add("--reference", default="", help="arm that others are compared with (default: the first rival, or the first)")
    add("--python", default=sys.executable, help="the interpreter of the runs")
    add("--table", action="store_true", help="only print the table of --out")
    args = parser.parse_args(argv)
    if not args.table and (not args.data or (args.rival and not args.parquet)):
        parser.error("--data is needed, and --parquet with a rival")
    for name in ("data", "parquet", "out"):
        if getattr(args, name):
            setattr(args, name, getattr(args, name).resolve())
    return args


def arms_of(args: argparse.Namespace) -> list[Arm]:
    """Return the contestants, rivals first."""
    theirs = dict(args.rival_set)
    arms = [Arm(n, Path(f).resolve(), True, constants.parse(theirs.get(n, ""))) for n, f in args.rival]
    shared = constants.parse(args.set)
    if not args.no_ours:
        for name, text in args.arm or [("ours", "")]:
            arms.append(Arm(name, args.ours.resolve(), False, shared | constants.parse(text)))
    return arms


def main(argv: list[str] | None = None) -> int:
    """Run the race, or go on with it, and print the table."""
    args = arguments(argv)
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    arms = [] if args.table else arms_of(args)
    if not args.table:
        race = Race(args)
        write_evaluation_rows(args.ours, args.data, race.evaluation)
        jobs = []
        for seconds in args.seconds:
            for turn, seed in enumerate(args.seeds):
                start = turn % len(arms)
                jobs += [Job(arm, seconds, seed) for arm in arms[start:] + arms[:start]]
        done = {key_of(line) for line in lines if line["outcome"] == "finished"}
        race.all([job for job in jobs if key_of(race.identity(job)) not in done])
        lines = [json.loads(line) for line in args.out.read_text().splitlines()]
    reference = args.reference or next((x["arm"] for x in lines if x["rival"]), lines[0]["arm"] if lines else "")
    print(table(lines, reference))
    return 0


if __name__ == "__main__":
    sys.exit(main())
