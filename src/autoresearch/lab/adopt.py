"""Write a lab file for a program that already exists: find out what can be found out, and say each guess aloud."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from autoresearch.domain.constants import find_constants
from autoresearch.errors import LabError
from autoresearch.lab.config import FILE_NAME, PLACEHOLDER
from autoresearch.lab.config_text import toml_value
from autoresearch.lab.git import Git, split_paths
from autoresearch.lab.guard import matches
from autoresearch.lab.template import Setting, Tables, render_lab_file

_SCRIPTS = ("train.py", "**/train.py", "**/train_*.py", "bench*.py", "**/bench*.py", "main.py", "run.py", "src/main.py")
"""Programs worth a number, the likeliest first."""

_TESTS = ("tests", "test", "**/test_*.py", "**/*_test.py", "**/conftest.py")
_MEASUREMENT = (*_TESTS, "**/prepare.py", "**/eval*.py", "**/*_eval.py", "**/metric*.py")
_SOURCES = ("**/*.py", "**/*.c", "**/*.cc", "**/*.cpp", "**/*.h", "**/*.rs", "**/*.go", "**/*.js", "**/*.ts", "**/*.jl")
_TARGETS = ("bench", "benchmark", "train", "run")
_LINE = re.compile(r"\bMETRIC[ ]+([A-Za-z][\w./-]*)=")
_SUMMARY = re.compile(r"""["']([A-Za-z][\w./]*)[ ]*:[ ]*\{|["'](val_\w+)["'][ ]*:""")
_TELLING = (
    *("val_bpb", "val_loss", "val", "bpb", "loss", "acc", "score", "f1", "error", "perplexity"),
    *("latency", "time", "second", "throughput", "speed"),
)
"""Words of a metric that decides, the likeliest first."""

_HIGHER = (
    "acc",
    "score",
    "f1",
    "auc",
    "reward",
    "throughput",
    "per_sec",
    "speed",
    "bleu",
    "psnr",
    "recall",
    "precision",
)
_FOUND_PROTECTED = "Found by name as preparation, evaluation or tests; add whatever makes the number."
_NO_PROTECTED = "Nothing looks like an evaluation; name whatever makes the number."
_LARGEST_SOURCE_BYTES = 1_000_000
_USUAL_SECONDS = 300
_PROGRAM = """# Research directions

What to improve: `{metric}`. What may be edited: {editable}.

- One idea at a time; say in one sentence what should improve and why.
- Keep the program simple: a gain that is within the noise is no gain.

Write here what is known about this program, what was tried, and what is worth trying.
"""


_WORKLOAD = {"SIZE", "COUNT", "NUM", "N", "ITERATIONS", "ITERS", "REPEATS", "ROUNDS", "SAMPLES", "ROWS", "ITEMS"}
_WORKLOAD_WHY = "It looks like an amount of work, and less work is no better: give a range if it may change."


class Adoption(NamedTuple):
    """What was written for a program, and why."""

    text: str
    """The lab file."""
    lines: list[str]
    """One sentence for each guess."""


class _Command(NamedTuple):
    run: list[str]
    editable: list[str]
    why: str


class _Number(NamedTuple):
    name: str
    source: str
    why: str


def adopt(root: Path) -> Adoption:
    """Write `autoresearch.toml` (and `program.md` if missing) into an existing repository, and nothing else.

    Nothing is committed: the guesses are for a person to read first. A lab file that is there already stays.

    Raises:
        LabError: `root` is no git repository, or it holds nothing that could be run.
    """
    path = root / FILE_NAME
    if path.exists():
        return Adoption(path.read_text(encoding="utf-8"), [f"{FILE_NAME} is there already and stays as it is"])
    git = Git(root)
    files = split_paths(git.run("ls-files", "-z", "--cached", "--others", "--exclude-standard"))
    files = sorted(file for file in files if (root / file).is_file() and file[0] != "." and file.isprintable())
    command = _find_command(root, files)
    if command is None:
        raise LabError(
            f"{root} has no train.py, benchmark, main.py or Makefile target to run: "
            f"write {FILE_NAME} by hand, with your command as lab.run"
        )
    protected = [file for file in files if matches(file, _MEASUREMENT) and file not in command.editable]
    number = _find_number(root, [*command.editable, *protected])
    tables = _tables(root.resolve().name, command, _shorten(protected), number, _find_check(root, files))
    tables["budget"] = [Setting("seconds", *_find_seconds(root, [*command.editable, *protected]))]
    if workload := _find_workload(root, command.editable):
        tables["tuner.constants"] = [Setting(name, False, _WORKLOAD_WHY) for name in workload]
    text = render_lab_file(tables)
    path.write_text(text, encoding="utf-8")
    lines = [
        f"{table}.{setting.key} = {toml_value(setting.value)}: {setting.why}"
        for table, settings in tables.items()
        for setting in settings
    ]
    lines.append("runs are told a seed as AUTORESEARCH_SEED: a program that ignores it shows the noise of timing alone")
    lines.append(f"wrote {FILE_NAME}")
    if not (root / "program.md").exists():
        editable = ", ".join(f"`{name}`" for name in command.editable)
        (root / "program.md").write_text(_PROGRAM.format(metric=number.name, editable=editable), encoding="utf-8")
        lines.append("wrote program.md, where your research directions belong")
    lines.append(f"next: read {FILE_NAME}, then `git add {FILE_NAME} program.md && git commit`; nothing was committed")
    return Adoption(text, lines)


def _tables(name: str, command: _Command, protected: list[str], number: _Number, check: list[str]) -> Tables:
    lab = [
        Setting("name", name, "The folder's name."),
        Setting("run", command.run, command.why),
        Setting("editable", command.editable, "What the command runs; narrow it to what researchers should change."),
        Setting("protected", protected, _FOUND_PROTECTED if protected else _NO_PROTECTED),
    ]
    if check:
        lab.append(Setting("check", check, "Tests are there, so every candidate has to pass them first."))
    is_higher = any(word in number.name.lower() for word in _HIGHER)
    why = "Guessed from the name: turn it round if that is wrong."
    metric = [
        Setting("name", number.name, number.why),
        Setting("direction", "max" if is_higher else "min", why),
        Setting("source", number.source, "How the program prints it."),
    ]
    return {"lab": lab, "metric": metric}


def _find_command(root: Path, files: list[str]) -> _Command | None:
    for pattern in _SCRIPTS:
        found = [
            file for file in files if matches(file, [pattern]) and not matches(file, ("tests", "test", "**/test_*.py"))
        ]
        if found:
            script = min(found, key=lambda file: (file.count("/"), file))
            return _Command(["python", script], [script], f"{script} looks like the program to improve.")
    sources = [pattern for pattern in _SOURCES if any(matches(file, [pattern]) for file in files)]
    for run, why in (*_make_targets(root), *_package_scripts(root), *_project_scripts(root)):
        if sources:
            return _Command(run, sources, why)
    return None


def _make_targets(root: Path) -> list[tuple[list[str], str]]:
    text = _read(root / "Makefile")
    return [
        (["make", target], f"The Makefile has a target {target}.")
        for target in _TARGETS
        if re.search(rf"^{target}[ ]*:(?!=)", text, re.MULTILINE)
    ]


def _package_scripts(root: Path) -> list[tuple[list[str], str]]:
    try:
        scripts = json.loads(_read(root / "package.json") or "{}").get("scripts", {})
    except (ValueError, AttributeError):
        return []
    return [
        (["npm", "run", "--silent", name], f"package.json has a script {name}.") for name in _TARGETS if name in scripts
    ]


def _project_scripts(root: Path) -> list[tuple[list[str], str]]:
    try:
        scripts = tomllib.loads(_read(root / "pyproject.toml")).get("project", {}).get("scripts", {})
    except (ValueError, AttributeError):
        return []
    return [([str(name)], f"pyproject.toml installs the command {name}.") for name in scripts]


def _find_number(root: Path, paths: list[str]) -> _Number:
    """The number that the program prints and that most looks like the one to improve."""
    found: list[tuple[int, int, _Number]] = []
    for path in paths:
        text = _read(root / path)
        printed = [(match[1], "metric") for match in _LINE.finditer(text)]
        printed += [(match[1] or match[2], "summary") for match in _SUMMARY.finditer(text)]
        for name, source in printed:
            rank = next((place for place, word in enumerate(_TELLING) if word in name.lower()), len(_TELLING))
            if rank < len(_TELLING) or source == "metric":
                found.append((source != "metric", rank, _Number(name, source, f"{path} prints it.")))
    if found:
        return min(found, key=lambda item: item[:2])[2]
    why = "NOT FOUND: no printed number looks like a metric. Set the name, and print `METRIC name=value` once per run."
    return _Number(PLACEHOLDER, "metric", why)


def _find_check(root: Path, files: list[str]) -> list[str]:
    if any(matches(file, ("**/test_*.py", "**/*_test.py")) for file in files):
        return ["python", "-m", "pytest", "-q"]
    return ["make", "test"] if re.search(r"^test[ ]*:(?!=)", _read(root / "Makefile"), re.MULTILINE) else []


def _find_seconds(root: Path, paths: list[str]) -> tuple[float, str]:
    for path in paths:
        for name, constant in find_constants(_read(root / path)).items():
            value = constant.value
            is_time = "BUDGET" in name and not isinstance(value, str | bool) and 0 < value <= 7 * 86_400
            if is_time and isinstance(value, int | float):
                return value, f"{path} says {name} = {constant.text}."
    return (
        _USUAL_SECONDS,
        "A usual budget; set what one run should take. It is told to the run, and the time-out follows it.",
    )


def _find_workload(root: Path, editable: list[str]) -> list[str]:
    """Constants that look like an amount of work: fewer of it is faster, and no better."""
    scripts = [path for path in editable if path.endswith(".py") and not path.rsplit("/", 1)[-1].startswith("train")]
    names = {name for path in scripts for name in find_constants(_read(root / path))}
    return sorted(name for name in names if _WORKLOAD & set(name.split("_")) and "BATCH" not in name)


def _shorten(paths: list[str]) -> list[str]:
    """Name the folder of the tests once and not each of its files."""
    return list(dict.fromkeys(path.split("/")[0] if path.startswith(("tests/", "test/")) else path for path in paths))


def _read(path: Path) -> str:
    try:
        return (
            path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size <= _LARGEST_SOURCE_BYTES else ""
        )
    except OSError:
        return ""
