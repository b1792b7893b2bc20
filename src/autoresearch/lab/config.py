"""The lab file `autoresearch.toml`: read, validated, hashed, and checked against its repository.

The tables stand in `sections`; `python -m autoresearch.lab.config` prints their reference, `docs/lab-file.md`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, field_validator

from autoresearch.domain.disturbance import Tolerance
from autoresearch.errors import LabError, UserError
from autoresearch.lab.config_text import ReferenceRow, markdown_table, reference_rows, sentence_for
from autoresearch.lab.git import Git, split_paths
from autoresearch.lab.guard import PathRules, matches
from autoresearch.lab.sections import (
    BudgetSection,
    CampaignSection,
    LabSection,
    MetricSection,
    PreflightSection,
    ResearcherSection,
    Section,
    SlotsSection,
    TelemetrySection,
    TunerSection,
    as_tuple,
)

FILE_NAME = "autoresearch.toml"
PLACEHOLDER = "SET_ME"
"""The metric's name in a lab file whose metric could not be guessed."""
_OUR_INTERPRETER = ("python", "python3")
_KINDS = ("tuner", "recombiner", "claude", "codex", "gemini", "opencode", "api")
_SCRIPTS = (".py", ".sh", ".js", ".mjs", ".ts", ".rb", ".pl", ".jl", ".R", ".lua")


class LabConfig(Section):
    """A whole lab file, validated and frozen; each attribute is a table of it."""

    lab: LabSection
    metric: MetricSection
    budget: BudgetSection
    preflight: PreflightSection = PreflightSection()
    slots: SlotsSection = SlotsSection()
    telemetry: TelemetrySection = TelemetrySection()
    campaign: CampaignSection = CampaignSection()
    researcher: Annotated[tuple[ResearcherSection, ...], BeforeValidator(as_tuple)] = (ResearcherSection(),)
    tuner: TunerSection = TunerSection()

    @field_validator("researcher", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else [{}] if value == [] else value

    @property
    def protected(self) -> tuple[str, ...]:
        """All protected patterns: the lab's own, the lab file and the program."""
        return tuple(dict.fromkeys((*self.lab.protected, FILE_NAME, self.lab.program)))

    @property
    def tolerance(self) -> Tolerance:
        """What is still taken for a quiet machine, as a value of the domain."""
        return Tolerance(self.telemetry.band, self.telemetry.disturbed_retries, self.budget.clock == "cpu")

    def on_rotation(self, rotation: int) -> LabConfig:
        """The same lab, scored on another set of its validation data."""
        return self.model_copy(update={"metric": self.metric.model_copy(update={"rotation": rotation})})

    def comparable_hash(self) -> str:
        """Hash everything that must be equal for two results to be comparable, as 64 hexadecimal digits.

        Names, researchers, limits and policies are left out: they change what is tried, not what a number means.
        """
        lab = self.lab
        # What is left out says which data there are beside; `rotation` 0 is left out for campaigns of before it.
        aside = {"sealed", "rotations"} | ({"rotation"} if self.metric.rotation == 0 else set())
        metric = self.metric.model_dump(exclude=aside)
        meaning = {
            "run": lab.run,
            "editable": sorted(lab.editable),
            "protected": sorted(self.protected),
            "metric": metric,
            "budget": [self.budget.seconds, self.budget.run_timeout_seconds, self.budget.clock],
            "check": lab.check,
            "evaluate": lab.evaluate,
            "environment": lab.environment,
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def parse_config(document: Mapping[str, Any], file: str = FILE_NAME) -> LabConfig:
    """Validate a parsed lab file.

    Raises:
        LabError: A key is unknown, missing or has a value that it does not accept; the first such key is named.
    """
    try:
        return LabConfig.model_validate(dict(document))
    except ValidationError as error:
        raise LabError(sentence_for(error, LabConfig, document, file)) from None


def load_config(root: Path) -> LabConfig:
    """Read and validate the lab file in the folder `root`.

    Raises:
        LabError: There is no lab file, it is not TOML, or it does not say what it must.
    """
    path = root / FILE_NAME
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise LabError(f"{root} has no {FILE_NAME}: write one with `autoresearch init`") from None
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}): make it a file that you may read") from None
    except UnicodeDecodeError as error:
        raise LabError(f"{FILE_NAME} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise LabError(f"{FILE_NAME} is not TOML: {error or 'nested too deeply'}; correct that line") from None
    return parse_config(document)


def check_lab(root: Path, config: LabConfig, *, proposes: bool = True) -> None:
    """Check a lab file against the repository that it stands in, as its latest commit has it.

    Runs see committed files only, so a file that exists but was never committed counts as missing. A detached HEAD is
    fine; for uncommitted changes ask `dirty_paths`. Where nobody `proposes`, researchers need not be there.

    Raises:
        LabError: The first thing that would make a campaign fail, with its key, its file and a cure.
    """
    if config.metric.name == PLACEHOLDER:
        raise LabError(
            f"{FILE_NAME}: metric.name is still {PLACEHOLDER!r}: set it to the name of the number to improve"
        )
    git = Git(root)
    if git.text("rev-parse", "--is-bare-repository") == "true":
        raise LabError(f"{root} is a bare repository, without files to work on: clone it and use the clone")
    top = git.text("rev-parse", "--show-toplevel")
    if Path(top).resolve() != root.resolve():
        raise LabError(
            f"{root} lies inside the repository {top}: a lab is a repository of its own, run `git init` in it"
        )
    try:
        files = git.tree(git.resolve("HEAD"))
    except LabError as error:
        raise LabError(f"{root} has no commit yet: run `git add -A && git commit` there ({error})") from error
    _check_files(root, config, list(files))
    for key in ("run", "check", "evaluate"):
        _check_command(root, f"lab.{key}", getattr(config.lab, key) or (), files)
    _check_command(root, "preflight.run", config.preflight.run or (), files)
    for number, researcher in enumerate(config.researcher, start=1):
        if proposes and researcher.program:
            key = "command" if researcher.command else "kind"
            _check_program(root, f"researcher[{number}].{key}", researcher.program, files)


def with_team(config: LabConfig, team: Sequence[str]) -> LabConfig:
    """The same lab with the researchers that the command line names, `NAME[@MODEL][:COUNT]` each; its own for none.

    A name is that of a researcher of the lab file, with all that stands there, or else a kind. The recombiner joins
    them where `campaign.recombine` says so, except where only commands are at work: those are somebody's own harness.

    Raises:
        UserError: There is no such researcher, or it cannot be what is asked of it.
    """
    seats = tuple(_seat(config, text) for text in team) or config.researcher
    kinds = {seat.kind for seat in seats}
    if config.campaign.recombine and "recombiner" not in kinds and kinds != {"command"}:
        seats = (*seats, ResearcherSection(kind="recombiner"))
    return config.model_copy(update={"researcher": seats})


def _seat(config: LabConfig, text: str) -> ResearcherSection:
    asked = re.fullmatch(r"(?P<name>[^@:]+)(@(?P<model>.+?))?(:(?P<count>\d+))?", text)
    name, model, count = (asked["name"], asked["model"], asked["count"]) if asked else (text, None, None)
    own = next((section for section in config.researcher if section.label == name), None)
    fields: dict[str, Any] = {"kind": name} if own is None else own.model_dump(exclude_unset=True)
    fields |= {"model": model} if model else {}
    fields |= {"count": int(count)} if count else {}
    try:
        return ResearcherSection.model_validate(fields)
    except ValidationError as error:
        if own is None and any(problem["loc"] == ("kind",) or name == "command" for problem in error.errors()):
            known = ", ".join(dict.fromkeys([*(section.label for section in config.researcher), *_KINDS]))
            raise UserError(
                f"--researcher {text}: use NAME, NAME:COUNT or NAME@MODEL:COUNT with a researcher of {FILE_NAME} or a "
                f"kind, out of: {known}"
            ) from None
        raise UserError(sentence_for(error, ResearcherSection, fields, f"--researcher {text}")) from None


def dirty_paths(root: Path) -> list[str]:
    """Paths with uncommitted changes, untracked ones included; a campaign would not see those changes."""
    rows = iter(
        split_paths(Git(root).run("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal"))
    )
    return [row[3:] for row in rows if row[3:].rstrip("/") != ".autoresearch"]


def _check_files(root: Path, config: LabConfig, files: list[str]) -> None:
    """Every pattern means at least one committed file, and nothing is both editable and protected."""
    rules = PathRules(config.lab.editable, config.protected)
    for key, patterns in (("editable", config.lab.editable), ("protected", config.lab.protected)):
        for pattern in patterns:
            meant = [path for path in files if matches(path, [pattern])]
            if not meant and not (key == "protected" and matches(pattern, config.lab.link)):
                raise _missing(root, f"lab.{key}", pattern)
            if key == "editable" and not any(rules.is_editable(path) for path in meant):
                raise LabError(
                    f"{FILE_NAME}: lab.editable names {pattern!r}, but {meant[0]} is protected too: "
                    "take it out of lab.editable or out of lab.protected"
                )
    if not (root / config.lab.program).is_file():
        raise LabError(
            f"{FILE_NAME}: lab.program names {config.lab.program!r}, which does not exist: "
            "write your research directions there"
        )
    for name in config.lab.link:
        if not (root / name).exists() and config.lab.prepare is None:  # else `prepare` may be what makes it
            raise LabError(f"{FILE_NAME}: lab.link names {name!r}, which does not exist: make it, or remove the name")
        if any(matches(path, [name]) for path in files):
            raise LabError(f"{FILE_NAME}: lab.link names {name!r}, which git tracks, so runs have it: remove the name")


def _missing(root: Path, key: str, pattern: str) -> LabError:
    """The error for a pattern that means no committed file, told apart by what is on disk."""
    untracked = split_paths(Git(root).run("ls-files", "-z", "--others", "--exclude-standard"))
    name = next((path for path in [pattern, *untracked] if matches(path, [pattern]) and (root / path).exists()), None)
    if name is not None:
        cure = f"run `git add -f {shlex.quote(name)} && git commit`"
        return LabError(f"{FILE_NAME}: {key} names {pattern!r}, but {name} is not committed, so runs lack it: {cure}")
    return LabError(f"{FILE_NAME}: {key} names {pattern!r}, which matches no file: correct the path, or make the file")


def _check_command(root: Path, key: str, command: tuple[str, ...], files: Mapping[str, object]) -> None:
    """The program can be found, and a script among its arguments is committed."""
    if not command:
        return
    _check_program(root, key, command[0], files)
    script = next((part for part in command[1:] if Path(part).suffix in _SCRIPTS and not part.startswith("-")), None)
    if script and not script.startswith("/") and str(Path(script)) not in files:
        raise _missing(root, key, script)


def _check_program(root: Path, key: str, program: str, files: Mapping[str, object]) -> None:
    """The program can be found."""
    if "/" in program and not program.startswith("/"):
        if program.removeprefix("./") not in files and not (root / program).exists():
            raise LabError(f"{FILE_NAME}: {key} starts {program!r}, which does not exist: correct the path")
    elif program not in _OUR_INTERPRETER and shutil.which(program) is None:
        raise LabError(
            f"{FILE_NAME}: {key} starts {program!r}, which is not installed: install it, or correct the name"
        )


def config_reference() -> list[ReferenceRow]:
    """Every key with its type, default and meaning, in the order of the lab file."""
    return reference_rows(LabConfig)


def reference_markdown() -> str:
    """The lab file's reference, as `docs/lab-file.md` holds it."""
    return markdown_table(LabConfig)


if __name__ == "__main__":
    print(reference_markdown(), end="")
