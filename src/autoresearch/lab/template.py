"""Make a new lab from a template that ships with the package, sized for the machine it is made on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from autoresearch.domain.constants import ConstantValue, find_constants, rewrite_constants
from autoresearch.domain.fit import Work, fit
from autoresearch.errors import LabError
from autoresearch.host.figures import Figures
from autoresearch.lab.config import FILE_NAME
from autoresearch.lab.config_text import toml_value
from autoresearch.lab.git import Git
from autoresearch.lab.sizing import (
    CLIMBMIX_SHARDS,
    Fitted,
    Probe,
    climbmix_shards,
    fit_rows,
    machine_of,
    timeouts,
    unique_tokens,
)

TEMPLATES = ("pretrain", "blank")
STARTS = {"tuned": "train.py", "baseline": "baseline.py"}
"""Starting points of `pretrain` by the file of the template that becomes train.py."""
_GIT_IGNORE = "__pycache__/\n*.pyc\n.autoresearch/\ndata/\n.data.*/\nrun.log\nresults.tsv\n"
_SHORT_ROW, _LONG_ROW = 256, 2048
_SMALL_VOCABULARY, _LARGE_VOCABULARY = 2048, 8192
_EVAL_TOKENS = {True: 10_485_760, False: 131_072}
"""What prepare.py prepares for an evaluation, for GPUs and for others."""
_HUB = ("climbmix", "tinystories")
"""Datasets by name; any other but `stdlib` is a path."""
_MOST_CPU_SLOTS = 16
_CLOCK_REASONS = {
    "wall": "Wall time: a run has its GPU for itself.",
    "cpu": "Processor time: other work on this machine then does not change a result.",
}


class Setting(NamedTuple):
    """One line of a lab file with the reason for its value."""

    key: str
    value: object
    why: str


Tables = dict[str, list[Setting]]
"""Settings by table, in the order in which they are written."""


@dataclass(frozen=True)
class Trial:
    """What a probe of a new lab is made of."""

    lab: Path
    """The lab as it was copied; not yet committed."""
    run: list[str]
    """The command of one run, as the lab file will say it."""
    work: Work


def init_lab(
    directory: Path,
    template: str = "pretrain",
    hardware: Mapping[str, object] | None = None,
    *,
    budget_seconds: float | None = None,
    dataset: str | None = None,
    start: str | None = None,
    figures: Figures | None = None,
    probe: Callable[[Trial], Probe] | None = None,
) -> list[str]:
    """Make a lab in a new or empty folder and commit it.

    Args:
        directory: Where; made when missing.
        template: One of `TEMPLATES`.
        hardware: The machine, as `Hardware.to_dict()` gives it; a single CPU core when None.
        budget_seconds: Seconds of one run; chosen for the machine when None.
        dataset: For `pretrain`: stdlib, climbmix, tinystories or a path; chosen for the machine when None.
        start: For `pretrain`, one of `STARTS`; the tuned recipe when None.
        figures: What this machine was measured to do; a table of chips is asked when None.
        probe: Makes the trial of the real step, for machines with a GPU; sizes are estimates when None.

    Returns:
        One sentence for each thing written, with its reason.

    Raises:
        LabError: The folder is not empty, there is no such template, or git cannot make the repository.
    """
    if template not in TEMPLATES:
        raise LabError(f"there is no template {template!r}: use {' or '.join(TEMPLATES)}")
    if start is not None and (template != "pretrain" or start not in STARTS):
        raise LabError(f"there is no start {start!r} of the template {template!r}: pretrain has {' and '.join(STARTS)}")
    if dataset is not None and template != "pretrain":
        raise LabError(f"the template {template!r} reads no dataset: leave the dataset out, or use pretrain")
    if budget_seconds is not None and not 0 < budget_seconds < float("inf"):
        raise LabError(f"a budget of {budget_seconds:g} seconds is no budget: use a number above 0")
    _take(directory)
    copied = _copy(template, directory, STARTS[start or "tuned"])
    done = [f"copied {', '.join(copied)}"]
    described = hardware or {}
    if template == "pretrain":
        tables, lines = _pretrain(directory, copied, described, budget_seconds, dataset, figures, probe)
    else:
        tables, lines = _blank(described, budget_seconds)
    (directory / FILE_NAME).write_text(render_lab_file(tables), encoding="utf-8")
    (directory / ".gitignore").write_text(_GIT_IGNORE, encoding="utf-8")
    done += [*lines, f"wrote {FILE_NAME}; each line there says why it is so"]
    _commit(directory, template)
    return [*done, "committed all of it on the branch main"]


def render_lab_file(tables: Tables) -> str:
    """Write settings as TOML with a comment over each that says why."""
    lines = ["# What AutoResearch studies here. Its docs/lab-file.md explains every key; unknown ones are errors.", ""]
    for table, settings in tables.items():
        lines.append(f"[{table}]")
        for setting in settings:
            lines.append("# " + "".join(letter if letter.isprintable() else " " for letter in setting.why))
            lines.append(f"{setting.key} = {toml_value(setting.value)}")
        lines.append("")
    return "\n".join(lines)


def slot_settings(hardware: Mapping[str, object]) -> list[Setting]:
    """Say which slots this machine offers: its GPUs, or one CPU slot for each physical core."""
    if _gpu_memories(hardware):
        return [Setting("gpus", "auto", "One slot for each GPU.")]
    cores = _cores(hardware)
    return [
        Setting("gpus", "none", "There is no NVIDIA GPU here."),
        Setting("cpu", cores, f"One run per physical core at a time; this machine offers {cores}."),
        Setting("cores_per_slot", 1, "Runs that share a core would disturb each other's time."),
    ]


def _take(directory: Path) -> None:
    """Make the folder, or make sure that nothing is in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in directory.iterdir())
    except FileExistsError:
        raise LabError(f"{directory} is a file: name a new or empty folder") from None
    except OSError as error:
        raise LabError(f"{directory} cannot be made ({error.strerror}): name a folder that you may write to") from None
    if found:
        raise LabError(f"{directory} is not empty (it has {found[0]}): name a new or empty folder")


def _copy(template: str, directory: Path, script: str) -> list[str]:
    """Copy the template's files, without what Python left beside them; of its starts only `script`, as train.py."""
    with resources.as_file(resources.files("autoresearch.labs") / template) as source:
        shutil.copytree(
            source,
            directory,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "__init__.py", ".*"),
        )
    if template == "pretrain" and script != "train.py":
        (directory / script).replace(directory / "train.py")
    for other in set(STARTS.values()) - {"train.py"}:
        (directory / other).unlink(missing_ok=True)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # an installed package may be read-only
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def _commit(directory: Path, template: str) -> None:
    git = Git(directory)
    git.run("init", "--quiet", "--initial-branch=main")
    git.run("add", "--all")
    git.run("commit", "--quiet", "-m", f"Start a lab from the template {template}")


def _blank(hardware: Mapping[str, object], budget_seconds: float | None) -> tuple[Tables, list[str]]:
    seconds = budget_seconds or 5
    tables: Tables = {
        "lab": [
            Setting("name", "blank", "What reports call it."),
            Setting("run", ["python", "run.py"], "One run: it prints the metric and ends."),
            Setting("editable", ["run.py"], "The program under study."),
            Setting("protected", ["objective.py"], "The measurement: whoever edits it could write any number."),
        ],
        "metric": [
            Setting("name", "loss", "As `objective.py` prints it."),
            Setting("direction", "min", "0 is the best there can be."),
            Setting("source", "metric", "Lines `METRIC loss=…`."),
        ],
        "budget": [
            Setting("seconds", seconds, "A run takes some hundredths of a second; this only stops a broken one.")
        ],
        "slots": [Setting("gpus", "none", "Nothing here uses a GPU."), *_cpu_only(hardware)],
        "campaign": [Setting("baseline_runs", 3, "Runs are cheap, so measure the noise first.")],
        "tuner.constants": [
            Setting("X", {"low": -2.0, "high": 2.0}, "Where the built-in tuner may look."),
            Setting("Y", {"low": -2.0, "high": 2.0}, "The same for the other coordinate."),
        ],
    }
    return tables, ["it minimises a noisy function with a known best value of 0, in hundredths of a second"]


def _cpu_only(hardware: Mapping[str, object]) -> list[Setting]:
    without = {key: value for key, value in hardware.items() if key != "gpus"}
    return [setting for setting in slot_settings(without) if setting.key != "gpus"]


def _pretrain(
    directory: Path,
    copied: Iterable[str],
    hardware: Mapping[str, object],
    budget_seconds: float | None,
    dataset: str | None,
    figures: Figures | None,
    make_probe: Callable[[Trial], Probe] | None,
) -> tuple[Tables, list[str]]:
    has_gpu = bool(_gpu_memories(hardware))
    is_gpu = has_gpu or hardware.get("has_mps") is True
    chosen = dataset or ("climbmix" if has_gpu else "stdlib")
    seconds = budget_seconds or _usual_seconds(is_gpu)
    is_large = has_gpu and chosen != "stdlib"  # as prepare.py decides
    row, vocabulary = (_LONG_ROW, _LARGE_VOCABULARY) if is_large else (_SHORT_ROW, _SMALL_VOCABULARY)
    has_tables = "BIGRAM_ROWS" in find_constants((directory / "train.py").read_text(encoding="utf-8"))
    work = Work(seconds, row, vocabulary, unique_tokens(chosen, vocabulary), has_tables)
    machine = machine_of(hardware, figures, _cores(hardware))
    fitted = Fitted(fit(machine, work))
    protected = [path for path in copied if path.endswith(".py") and path != "train.py"]
    tables = _pretrain_tables(hardware, protected, seconds, is_gpu=is_gpu, chosen=chosen)
    _write_constants(directory / "train.py", fitted.size.constants())
    if make_probe is not None and has_gpu:
        run = next(setting.value for setting in tables["lab"] if setting.key == "run")
        assert isinstance(run, list)
        probe = make_probe(Trial(directory, run, work))
        fitted = fit_rows(fitted.size, work, machine.memory_bytes, probe, _EVAL_TOKENS[is_large])
    size = fitted.size
    written = _write_constants(directory / "train.py", size.constants())
    _add_limits(tables, fitted, seconds)
    if chosen == "climbmix":
        _add_shards(tables, climbmix_shards(size, seconds))
    tables["lab"].append(Setting("machine", size.why, "What bounds a run here; every brief carries it."))
    known = "measured here" if figures and figures.kind == machine.kind else "not measured, as chips of its name go"
    lines = [f"set {written} in train.py", f"{size.why} (Its speed: {known}.)", *fitted.lines]
    lines.append(f"the first `autoresearch run` prepares its data: {chosen}")
    return tables, lines


def _add_limits(tables: Tables, fitted: Fitted, seconds: float) -> None:
    """Give runs the time that starting and evaluating were measured to take, and more."""
    limits = timeouts(fitted, seconds)
    if limits is None:
        return
    why = f"Starting took {fitted.startup_seconds:.0f} s with nothing compiled; three times that, and the budget."
    tables["budget"] = [setting for setting in tables["budget"] if setting.key != "timeout_seconds"]
    tables["budget"].append(Setting("timeout_seconds", limits[0], why))
    evaluation = f"Three times the {fitted.eval_seconds:.0f} s that an evaluation should take here, and two minutes."
    tables["budget"].append(Setting("evaluate_timeout_seconds", limits[1], evaluation))


def _add_shards(tables: Tables, shards: int) -> None:
    """Have as much text prepared as a run reads."""
    if shards <= CLIMBMIX_SHARDS:
        return
    for place, setting in enumerate(tables["lab"]):
        if setting.key == "prepare" and isinstance(setting.value, list):
            wanted = [*setting.value, "--shards", str(shards)]
            tables["lab"][place] = setting._replace(
                value=wanted, why=f"{setting.why} A run here reads {shards} shards."
            )


def _usual_seconds(is_gpu: bool) -> float:
    return 300 if is_gpu else 20


def _pretrain_tables(
    hardware: Mapping[str, object], protected: list[str], seconds: float, *, is_gpu: bool, chosen: str
) -> Tables:
    lab = [
        Setting("name", "pretrain", "What reports call it."),
        Setting("run", ["python", "evaluate.py"], "One run: starts train.py, serves its data, and scores its model."),
        Setting("editable", ["train.py"], "Model, optimiser and loop: all that researchers may change."),
        Setting("protected", protected, "Data, clock and metric: whoever edits these could write any number."),
    ]
    prepare = ["python", "prepare.py"]
    if chosen != "stdlib":
        place = chosen if chosen in _HUB else str(Path(chosen).expanduser().absolute())
        prepare += ["--dataset", place, "--data-dir", "data"]
    lab.append(Setting("prepare", prepare, "Makes the data that runs read; ends at once when they are there."))
    if chosen != "stdlib":
        lab.append(Setting("link", ["data"], "Prepared data, too large for git; every checkout gets a link to it."))
        lab.append(Setting("environment", {"AUTORESEARCH_DATA_DIR": "data"}, f"Where prepare.py finds {chosen}."))
    if is_gpu:
        clock, why = "wall", "Five minutes, the field's own measure, so that results compare."
    else:
        clock, why = "cpu", "Enough for the loss to fall clearly; several runs an hour matter more than long ones."
    if seconds != _usual_seconds(is_gpu):
        why = "As asked for; scores compare between runs of one budget only."
    # Waiting for a core that something else uses costs wall time, which a budget in processor seconds does not count.
    timeout = Setting("timeout_seconds", 6 * seconds + 60, "Of wall time: generous, because a busy machine is slower.")
    patience = [timeout] if clock == "cpu" else []
    # TinyStories has validation text for several short evaluations, as CPUs make them, but for one long one only.
    has_more = chosen == "climbmix" or (chosen == "tinystories" and not _gpu_memories(hardware))
    rotations = [Setting("rotations", 4, "prepare.py makes so many sets of validation rows.")] if has_more else []
    slots = slot_settings(hardware)
    if is_gpu and not _gpu_memories(hardware):
        slots = [
            Setting("gpus", "none", "The GPU of a Mac is used through one CPU slot."),
            Setting("cpu", 1, "It is one."),
        ]
    return {
        "lab": lab,
        "metric": [
            Setting("name", "val_bpb", "Bits per byte of unseen text: comparable between tokenizers."),
            Setting("direction", "min", "Lower is better."),
            Setting("source", "json", "evaluate.py writes metrics.json when train.py has ended; no other word counts."),
            Setting("sealed", True, "prepare.py sets text aside that decides nothing: for audits and `confirm`."),
            *rotations,
        ],
        "budget": [
            Setting("seconds", seconds, why),
            Setting("clock", clock, _CLOCK_REASONS[clock]),
            *patience,
        ],
        "preflight": [
            Setting("run", ["python", "evaluate.py"], "Three steps of a proposal, and no score, before it gets a run."),
            Setting("timeout_seconds", 300 if is_gpu else 120, "Starting takes most of it: GPUs compile first."),
        ],
        "slots": slots,
        "campaign": [Setting("baseline_runs", 4, "Identical runs under four seeds show how far luck goes.")],
    }  # fmt: skip


def _write_constants(script: Path, constants: Mapping[str, ConstantValue]) -> str:
    """Give the training script the constants of a size, and name them; those that it lacks are left out."""
    source = script.read_text(encoding="utf-8")
    known = find_constants(source)
    used = {name: value for name, value in constants.items() if name in known}
    script.write_text(rewrite_constants(source, used), encoding="utf-8")
    return ", ".join(f"{name} = {value}" for name, value in used.items())


def _gpu_memories(hardware: Mapping[str, object]) -> list[float]:
    """Memory of each NVIDIA GPU in bytes."""
    gpus = hardware.get("gpus") or ()
    if not isinstance(gpus, list | tuple):
        return []
    return [float(gpu.get("memory_bytes") or 0) for gpu in gpus if isinstance(gpu, Mapping)]


def _cores(hardware: Mapping[str, object]) -> int:
    """Physical cores that this process may use in full, at most 16."""
    numbers = [hardware.get("physical_cores"), hardware.get("cpu_quota")]
    cores = hardware.get("cores")
    if isinstance(cores, list | tuple) and cores:
        numbers.append(len(cores))
    limits = [int(number) for number in numbers if isinstance(number, int | float) and number >= 1]
    return max(1, min([*limits, _MOST_CPU_SLOTS])) if limits else 1
