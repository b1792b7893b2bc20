"""The tables of the lab file `autoresearch.toml`, key by key.

Every key stands here once, with its meaning (`description`) and the values it accepts (`title`); error messages and
`docs/lab-file.md` are made from these words, so neither can drift.
"""

from __future__ import annotations

import math
import re
import shlex
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from autoresearch.domain.budget import BRIEF_TOKENS, LEAST_BRIEF_TOKENS, Limits
from autoresearch.domain.metric import Direction, Metric, Source
from autoresearch.domain.operator import EVERY, SERVES, Operator
from autoresearch.domain.usage import Price
from autoresearch.lab.config_text import mistake


def as_tuple(value: object) -> object:
    """TOML has lists, frozen values have tuples."""
    return tuple(value) if isinstance(value, list) else value


def _as_command(value: object) -> object:
    """Accept a command as a list, or as one line in shell quoting (no shell ever runs it)."""
    parts = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts or not parts[0]:
        raise ValueError("not a command")
    if not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise ValueError("not a command")
    return tuple(parts)


def _as_paths(value: object) -> object:
    """Paths relative to the lab, none of which leads out of it."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("not paths")  # noqa: TRY004 - pydantic reports ValueError alone
    for part in parts:
        if (
            not isinstance(part, str)
            or not part
            or "\0" in part
            or part.startswith(("/", "~"))
            or ".." in part.split("/")
        ):
            raise ValueError("not a path within the lab")
    return tuple(part.removeprefix("./") for part in parts)


def _as_gpus(value: object) -> object:
    if value in ("auto", "none") and isinstance(value, str):
        return value
    is_list = isinstance(value, list | tuple) and all(type(index) is int and index >= 0 for index in value)
    if isinstance(value, list | tuple) and value and is_list and len(set(value)) == len(value):
        return tuple(value)
    raise ValueError("not GPUs")


def _as_cores(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError("not a number of cores")


_Command = Annotated[tuple[str, ...], BeforeValidator(_as_command)]
_Paths = Annotated[tuple[str, ...], BeforeValidator(_as_paths)]
_Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
_CONSTANT = re.compile(r"[A-Z][A-Z0-9_]*")
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, title="a number of seconds above 0")]


class Section(BaseModel):
    """One table of the lab file. A field's `title` says what it accepts, its `description` what it means."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _unreserved(value: dict[str, str]) -> dict[str, str]:
    """Variables that a lab may set for its runs."""
    for name, text in value.items():
        if name.upper().startswith("AUTORESEARCH_") and name != "AUTORESEARCH_DATA_DIR":
            raise mistake(f"sets {name}: names that begin with AUTORESEARCH_ are ours, choose another")
        if not name or "=" in name or "\0" in name + text:
            raise mistake(f"has the name {name!r}: a variable's name has no = and no NUL in it")
    return value


class LabSection(Section):
    """What is studied, and which of its files a researcher may edit."""

    name: str = Field(
        default="", title="a short text", description="What reports call the lab; the folder's name when empty."
    )
    run: _Command = Field(
        title='a list of strings such as ["python", "train.py"], or one such line',
        description="The command of one run. No shell interprets it; `python` is the interpreter of AutoResearch.",
    )
    editable: _Paths = Field(
        min_length=1,
        title='paths or patterns within the lab, such as ["train.py"]',
        description="Files that researchers may edit. `*` stays within a folder, `**` crosses folders.",
    )
    protected: _Paths = Field(
        default=(),
        title='paths or patterns within the lab, such as ["prepare.py"]',
        description="Files that nobody may edit, compared before and after every run. "
        "`autoresearch.toml` and the program always are.",
    )
    program: str = Field(
        default="program.md",
        min_length=1,
        title="a path within the lab",
        description="The research directions, in plain English.",
    )
    prepare: _Command | None = Field(
        default=None,
        title="a command, as a list of strings or one line",
        description="A command that `autoresearch run` starts first, in the lab's own folder: it makes the data that "
        "runs need, and ends at once when they are there.",
    )
    check: _Command | None = Field(
        default=None,
        title="a command, as a list of strings or one line",
        description="A command that must succeed before a run.",
    )
    evaluate: _Command | None = Field(
        default=None,
        title="a command, as a list of strings or one line",
        description="A command that measures after the run, in a process of its own; its output carries the metric.",
    )
    machine: str = Field(
        default="",
        title="a text",
        description="What bounds a run on the machine that the lab was sized for, in words; every brief carries it. "
        "Written by `autoresearch init`.",
    )
    link: _Paths = Field(
        default=(),
        title='paths within the lab, such as ["data"]',
        description="Untracked files or folders that runs need; linked into every checkout.",
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        title='a table of texts, such as { OMP_NUM_THREADS = "1" }',
        description="Extra environment variables of every run. Runs inherit no secrets, so name here what they need.",
    )

    switches: dict[str, bool | int | float | str] = Field(
        default_factory=dict,
        title="a table of constants and the values that switch them off, such as { USE_SMEAR = false }",
        description="Components that `autoresearch ablate` may switch off: upper-case constants of the editable files, "
        "each with the value that means off.",
    )

    @field_validator("switches")
    @classmethod
    def _constants(cls, value: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        for name, off in value.items():
            if not _CONSTANT.fullmatch(name):
                raise mistake(f"names {name!r}: use the name of an upper-case constant, such as USE_SMEAR")
            if isinstance(off, float) and not math.isfinite(off):
                raise mistake(f"switches {name} off by {off}: use a finite number, a text, true or false")
        return value

    @field_validator("environment")
    @classmethod
    def _reserved(cls, value: dict[str, str]) -> dict[str, str]:
        return _unreserved(value)

    @field_validator("program")
    @classmethod
    def _inside(cls, value: str) -> str:
        return str(_as_paths([value])[0])  # type: ignore[index]


class MetricSection(Section):
    """The number that decides."""

    name: str = Field(
        min_length=1,
        pattern=r"^\S(.*\S)?$",
        title="the name that the run prints, such as 'val_bpb'",
        description="Its name.",
    )
    direction: Literal["min", "max"] = Field(title="'min' or 'max'", description="Which way is better.")
    source: Literal["summary", "metric", "json"] = Field(
        default="summary",
        title="'summary', 'metric' or 'json'",
        description="Where it is read: `summary` = lines `name: value` of the log, `metric` = lines "
        "`METRIC name=value` of the log, `json` = a key of a JSON file in the run directory.",
    )
    file: str = Field(
        default="metrics.json", min_length=1, title="a file name", description='The JSON file, for `source = "json"`.'
    )
    sealed: bool = Field(
        default=False,
        title="true or false",
        description="Whether runs can also be scored on data that decide nothing: with AUTORESEARCH_EVAL_SPLIT=test "
        "the run prints the same metric, measured on them.",
    )
    rotation: int = Field(
        default=0,
        ge=0,
        title="a whole number of at least 0, below metric.rotations",
        description="Which set of validation data a new campaign is scored on, told to runs as "
        "AUTORESEARCH_EVAL_ROTATION; a campaign keeps the set that it began with.",
    )
    rotations: int = Field(
        default=1,
        ge=1,
        title="a whole number of at least 1",
        description="How many disjoint sets of validation data there are; `autoresearch run --rotate` goes on with the "
        "next.",
    )

    @model_validator(mode="after")
    def _within(self) -> MetricSection:
        if self.rotation >= self.rotations:
            raise mistake(
                f"is {self.rotation}: use less than metric.rotations, which is {self.rotations} (counted from 0)",
                "rotation",
            )
        return self

    def to_metric(self) -> Metric:
        """The same as a value of the domain."""
        return Metric(self.name, Direction(self.direction), Source(self.source), self.file)


class BudgetSection(Section):
    """What one run may use."""

    seconds: _Seconds = Field(description="Training time of one run, told to it as AUTORESEARCH_BUDGET_SECONDS.")
    timeout_seconds: _Seconds | None = Field(
        default=None,
        title="a number of seconds above budget.seconds",
        description="When a run is killed, counted from its start. Default: 2 × seconds + 60.",
    )
    check_timeout_seconds: _Seconds = Field(default=60.0, description="When the check command is killed.")
    evaluate_timeout_seconds: _Seconds = Field(default=300.0, description="When the evaluate command is killed.")
    clock: Literal["wall", "cpu"] = Field(
        default="wall",
        title="'wall' or 'cpu'",
        description="What `seconds` counts: `wall` for GPUs; `cpu` (processor seconds) where runs share cores.",
    )
    early_stop: bool = Field(
        default=True,
        title="true or false",
        description="Whether a run that cannot win any more is ended before its time, by forecasts from this "
        "campaign's own finished runs. A run whose value is not a number is ended in any case.",
    )
    log_limit_mb: float = Field(
        default=20.0,
        gt=0,
        allow_inf_nan=False,
        title="a number of megabytes above 0",
        description="Longer logs are cut in the middle.",
    )

    @model_validator(mode="after")
    def _order(self) -> BudgetSection:
        if self.timeout_seconds is not None and self.timeout_seconds <= self.seconds:
            raise mistake(
                f"is {self.timeout_seconds:g}: use more than budget.seconds, which is {self.seconds:g}",
                "timeout_seconds",
            )
        return self

    @property
    def run_timeout_seconds(self) -> float:
        """When a run is killed, in seconds from its start: as set, or twice the budget and a minute."""
        return 2 * self.seconds + 60 if self.timeout_seconds is None else self.timeout_seconds


class PreflightSection(Section):
    """A few real steps of a proposal before it gets its run; what is wrong goes back to its researcher."""

    run: _Command | None = Field(
        default=None,
        title="a command, as a list of strings or one line",
        description="The command of a preflight, started as a run is, on a slot that is free, with "
        "AUTORESEARCH_PREFLIGHT=1 and AUTORESEARCH_MAX_STEPS; it ends with 0 when all is well, and no number that it "
        "prints counts. Default: nothing is executed; changed Python files are compiled, which finds mistakes of "
        "syntax.",
    )
    steps: int = Field(
        default=3, ge=1, title="a whole number of at least 1", description="Told to it as AUTORESEARCH_MAX_STEPS."
    )
    seconds: _Seconds = Field(
        default=10.0, description="Told to it as AUTORESEARCH_BUDGET_SECONDS; never more than `budget.seconds`."
    )
    timeout_seconds: _Seconds = Field(default=120.0, description="When it is killed, counted from its start.")
    repairs: int = Field(
        default=2,
        ge=0,
        le=10,
        title="a whole number from 0 to 10",
        description="How often a proposal goes back to the session that wrote it: for a failed preflight, for edits "
        "that are refused, for too much memory; once for a duplicate. 0 = never.",
    )
    environment: dict[str, str] = Field(
        default_factory=dict,
        title='a table of texts, such as { SMALL = "1" }',
        description="Further environment variables of preflights, beside `lab.environment`.",
    )

    @field_validator("environment")
    @classmethod
    def _reserved(cls, value: dict[str, str]) -> dict[str, str]:
        return _unreserved(value)


class TelemetrySection(Section):
    """When a run was measured on a disturbed machine, so that it is made again and not judged."""

    band: float = Field(
        default=1.15,
        ge=0,
        allow_inf_nan=False,
        title="a number above 1, or 0",
        description="How many times as slow as usual a run may be: its steps against other runs of the same commit, "
        "the GPU's clock against earlier runs, processor time lost to other machines. 0 = no run is called disturbed "
        "for what is seen of the machine. Where `budget.clock` is `cpu`, only extremes count (3 or more).",
    )
    disturbed_retries: int = Field(
        default=2,
        ge=0,
        title="a whole number of at least 0",
        description="How often a disturbed run is made again. After that a run that is merely slow is judged as it is, "
        "with a note; an experiment whose runs met somebody else's work each time is set aside.",
    )

    @model_validator(mode="after")
    def _above_one(self) -> TelemetrySection:
        if 0 < self.band <= 1:
            raise mistake(f"is {self.band:g}: use a number above 1, such as 1.15, or 0 to switch it off", "band")
        return self


class SlotsSection(Section):
    """Where runs execute."""

    gpus: Annotated[Literal["auto", "none"] | tuple[int, ...], BeforeValidator(_as_gpus)] = Field(
        default="auto",
        title="'auto', 'none' or a list of different GPU numbers, such as [0, 1]",
        description="Which GPUs make slots, one each. `auto` = all that are there.",
    )
    cpu: int = Field(
        default=1,
        ge=1,
        title="a whole number of at least 1",
        description="CPU slots; used when there are no GPU slots.",
    )
    cores_per_slot: Annotated[int | Literal["auto"], BeforeValidator(_as_cores)] = Field(
        default="auto",
        title="'auto' or a whole number of at least 1",
        description="Cores that a CPU slot's runs are pinned to. `auto` = an equal share.",
    )


class CampaignSection(Section):
    """How a campaign goes about it, and when it ends; the command line may set other limits."""

    policy: str = Field(
        default="belief",
        min_length=1,
        title="'belief', 'trust', 'explore', 'greedy', 'margin' or 'fixed-n'",
        description="The judge's rule. `belief` knows about noise; `trust` and `explore` are its two presets, which it "
        "chooses between by itself; the others are what the field does, for comparison.",
    )
    baseline_runs: int = Field(
        default=3,
        ge=1,
        title="a whole number of at least 1",
        description="Runs of the untouched lab before anything is judged.",
    )
    seed: int | None = Field(
        default=None,
        title="a whole number",
        description="All randomness of a campaign follows from it. Default: drawn anew for each campaign.",
    )
    experiments: int | None = Field(
        default=None, ge=1, title="a whole number of at least 1", description="Stop after so many. Default: no limit."
    )
    hours: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        title="a number of hours above 0",
        description="Stop after so long. Default: no limit.",
    )
    cost_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        title="an amount above 0",
        description="Ask for no more proposals when they have cost this, as far as their cost is known. "
        "Default: no limit.",
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        title="a whole number of at least 1",
        description="Ask for no more proposals when so many tokens were read and written for them. Default: no limit.",
    )
    brief_tokens: int = Field(
        default=BRIEF_TOKENS,
        ge=LEAST_BRIEF_TOKENS,
        title=f"a whole number of at least {LEAST_BRIEF_TOKENS}",
        description="How long a brief's page may be, estimated on the safe side; what does not fit is left out from "
        "the least informative end, and a line says so. Less for a local model with a short context.",
    )
    audit_every: int = Field(
        default=5,
        ge=0,
        title="a whole number of at least 0",
        description="After so many keeps, two runs of the incumbent on the sealed data check that progress is real; "
        "0 = never. Needs `metric.sealed`.",
    )
    prune_every: int = Field(
        default=25,
        ge=0,
        title="a whole number of at least 0",
        description="After so many keeps, each kept change is taken away once and judged; what no longer earns its "
        "lines goes. 0 = never.",
    )
    recombine: bool = Field(
        default=True,
        title="true or false",
        description="Whether the recombiner joins an agent or the tuner: when at least two changes nearly helped, it "
        "merges the most promising of them. It costs no model.",
    )
    borrow: bool = Field(
        default=False,
        title="true or false",
        description="Whether what other campaigns of this lab kept is combined too.",
    )
    usd_per_slot_hour: float = Field(
        default=2.0,
        gt=0,
        allow_inf_nan=False,
        title="an amount above 0",
        description="What an hour of one slot is worth to you, in US dollars. Who is asked next is chosen by gain for "
        "cost, and this weighs the time of runs against the dollars that agents cost.",
    )
    retest_share: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        allow_inf_nan=False,
        title="a share from 0 to 0.5",
        description="Share of experiments that may try near-misses again, when the incumbent's constants or the "
        "numbers that its runs report have moved by a fifth since. 0 = never.",
    )
    review_every: int = Field(
        default=20,
        ge=0,
        title="a whole number of at least 0",
        description="After so many verdicts somebody looks back and writes down what was learnt, before anything new "
        "is proposed: an agent in a short session, or the harness from its figures where there is none. 0 = never.",
    )
    plateau: int = Field(
        default=12,
        ge=0,
        title="a whole number of at least 0",
        description="The same after so many verdicts without a keep. 0 = never.",
    )
    lookahead: int | None = Field(
        default=None,
        ge=0,
        title="a whole number of at least 0",
        description="Proposals that may be written ahead for each slot while runs train; 0 = each knows every verdict "
        "before it, and slots wait for it. Default: as few as keep slots from waiting, by how long researchers think "
        "and runs take.",
    )

    def to_limits(self) -> Limits:
        """The limits as a value of the domain."""
        return Limits(self.experiments, self.hours, self.cost_usd, self.tokens)


class TokenPrice(Section):
    """What a model costs, where neither its agent nor our table knows."""

    input: float = Field(ge=0, allow_inf_nan=False, title="an amount", description="US dollars for a million tokens.")
    cached: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, title="an amount", description="The same for cached ones."
    )
    output: float = Field(ge=0, allow_inf_nan=False, title="an amount", description="The same for tokens written.")

    def to_price(self) -> Price:
        """The same as a value of the domain; what is not said of cached tokens is as for all."""
        return Price(self.input, self.input if self.cached is None else self.cached, self.output)


class ResearcherSection(Section):
    """Who proposes; repeat the table for several."""

    kind: Literal["tuner", "recombiner", "command", "claude", "codex", "gemini", "opencode", "api"] = Field(
        default="tuner",
        title="'tuner', 'recombiner', 'claude', 'codex', 'gemini', 'opencode', 'api' or 'command'",
        description="The built-in optimiser of constants, the built-in combiner of near-misses, a coding agent (Claude "
        "Code, Codex, Gemini CLI, opencode), "
        "a model behind an OpenAI-compatible endpoint, or any other command.",
    )
    name: str = Field(default="", title="a short text", description="Its name in the ledger; the kind when empty.")
    count: int = Field(
        default=1, ge=1, title="a whole number of at least 1", description="How many of this sort work at once."
    )
    operators: Annotated[tuple[Annotated[Operator, Field(strict=False)], ...], BeforeValidator(as_tuple)] = Field(
        default=(),
        title='a list out of "tune", "ablate", "simplify", "restructure", "combine" and "wild"',
        description="What it may be asked for. Default: all of it; the tuner tunes and the recombiner combines.",
    )
    model: str = Field(
        default="",
        title="a model's name",
        description="The agent's model, as its own `--model` takes it. Default: what the agent chooses.",
    )
    effort: str = Field(
        default="",
        title="a level, such as 'high'",
        description="How hard the agent's model is to think, in the "
        "agent's own words. Default: what the agent chooses.",
    )
    arguments: _Names = Field(
        default=(),
        title='a list of strings, such as ["--max-budget-usd", "1.5"]',
        description="Further arguments for the agent.",
    )
    usd_per_million_tokens: TokenPrice | None = Field(
        default=None,
        title="a table such as { input = 1.25, cached = 0.125, output = 10 }",
        description="What the agent's model costs, for agents that name no figure of their own.",
    )
    base_url: str = Field(
        default="",
        title="an address, such as 'http://127.0.0.1:11434/v1'",
        description="Where the model of `api` is; `/chat/completions` is added. Required for `api`.",
    )
    key_environment: str = Field(
        default="",
        title="a variable's name, such as 'OPENAI_API_KEY'",
        description="The environment variable with the key for `base_url`; the key itself stands in no file. Default: "
        "no key, as most local servers want it.",
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        allow_inf_nan=False,
        title="a number from 0 to 2",
        description="How much the model of `api` leaves to chance. Default: what the endpoint chooses.",
    )
    max_output_tokens: int | None = Field(
        default=None,
        ge=1,
        title="a whole number of at least 1",
        description="Longest answer of `api`'s model, hidden reasoning included. Default: what the endpoint allows.",
    )
    turns: int = Field(
        default=3,
        ge=1,
        le=20,
        title="a whole number from 1 to 20",
        description="Answers that one proposal of `api` may take: edits that do not fit go back with the reason.",
    )
    answers: Literal["edits", "constant"] = Field(
        default="edits",
        title="'edits' or 'constant'",
        description="How the model of `api` answers: `edits` = search/replace edits and a plan; `constant` = another "
        "number for one constant, by a JSON schema that the endpoint enforces, for models too small for edits.",
    )
    command: _Command | None = Field(
        default=None,
        title="a command, as a list of strings or one line",
        description="What is started in the worktree for each proposal; required for `command`. For an agent: its "
        "program, where it is not found by its own name.",
    )
    timeout_seconds: _Seconds = Field(default=900.0, description="When an unfinished proposal is given up.")
    pass_environment: _Names = Field(
        default=(),
        title='a list of names, such as ["ANTHROPIC_API_KEY"]',
        description="Environment variables that the command is given; all other secrets are withheld. Agents are given "
        "their provider's own without being named here.",
    )

    reviews: bool | None = Field(
        default=None,
        title="true or false",
        description="Whether it may be asked to look back and write down what was learnt. Default: agents and `api` "
        "may, a command may not, since it has to know what `AUTORESEARCH_REVIEW` means.",
    )

    @model_validator(mode="after")
    def _command_needed(self) -> ResearcherSection:
        if self.kind == "command" and self.command is None:
            raise mistake('is missing: kind = "command" needs one', "command")
        if self.is_built_in and self.command is not None:
            raise mistake(
                f'is set for the {self.kind}, which runs none: set kind = "command" or remove the command', "command"
            )
        if self.is_built_in and self.reviews:
            cure = "remove it, or set kind to an agent"
            raise mistake(f"is set for the {self.kind}, which cannot write: {cure}", "reviews")
        if self.is_built_in and set(self.operators) - set(SERVES[self.kind]):
            able = ", ".join(SERVES[self.kind])
            raise mistake(f"asks the {self.kind} for more than it can, which is to {able}: remove it", "operators")
        if not self.is_agent:
            for key in ("model", "effort", "arguments", "usd_per_million_tokens"):
                if getattr(self, key):
                    raise mistake(f'is for coding agents: set kind to one, such as "claude", or remove the {key}', key)
        if self.kind == "gemini" and self.effort:
            raise mistake("is set for Gemini CLI, which has no such setting: remove it", "effort")
        return self

    @model_validator(mode="after")
    def _endpoint_whole(self) -> ResearcherSection:
        if self.kind != "api":
            for key in ("base_url", "key_environment", "temperature", "max_output_tokens", "turns", "answers"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise mistake(f'is for kind = "api": set that, or remove the {key}', key)
            return self
        for key in ("command", "arguments"):
            if getattr(self, key):
                raise mistake(f'is set for kind = "api", which starts no program: remove the {key}', key)
        if not self.base_url:
            raise mistake(
                'is missing: write the endpoint of kind = "api" into the lab file, such as '
                "'http://127.0.0.1:11434/v1' for Ollama",
                "base_url",
            )
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", self.base_url):
            raise mistake("is no address such as 'http://127.0.0.1:11434/v1'", "base_url")
        if "@" in self.base_url:
            raise mistake("holds a password: put it into a variable and name that in key_environment", "base_url")
        if not self.model:
            raise mistake('is missing: kind = "api" needs one that its endpoint has', "model")
        if self.key_environment and not re.fullmatch(r"[A-Za-z_]\w*", self.key_environment, re.ASCII):
            raise mistake(
                "is no variable's name, such as 'OPENAI_API_KEY': never write the key itself", "key_environment"
            )
        return self

    @property
    def is_agent(self) -> bool:
        """Whether this is a coding agent that we know how to start."""
        return not self.is_built_in and self.kind != "command"

    @property
    def is_built_in(self) -> bool:
        """Whether it is ours and needs neither a model nor a command."""
        return self.kind in SERVES

    @property
    def serves(self) -> tuple[Operator, ...]:
        """What it may be asked for."""
        return self.operators or SERVES.get(self.kind, EVERY)

    @property
    def can_review(self) -> bool:
        """Whether it may be asked to look back."""
        return self.is_agent if self.reviews is None else self.reviews

    @property
    def program(self) -> str | None:
        """What has to be installed; None for the tuner and for an endpoint."""
        return self.command[0] if self.command else self.kind if self.is_agent and self.kind != "api" else None

    @property
    def label(self) -> str:
        """The name in the ledger."""
        return self.name or self.kind


class ConstantRange(Section):
    """Between which values the tuner may move a constant."""

    low: float | int | None = Field(default=None, allow_inf_nan=False, title="a number", description="Smallest value.")
    high: float | int | None = Field(default=None, allow_inf_nan=False, title="a number", description="Largest value.")
    log: bool = Field(default=False, title="true or false", description="Search the logarithm, for rates and sizes.")
    step: float | int | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        title="a number above 0",
        description="Distance of neighbouring values.",
    )
    choices: Annotated[tuple[bool | int | float | str, ...] | None, BeforeValidator(as_tuple)] = Field(
        default=None, min_length=1, title="a list of values", description="The only values, instead of a range."
    )

    @model_validator(mode="after")
    def _whole(self) -> ConstantRange:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.step is not None or self.log:
                raise mistake("has choices and a range: use either choices, or low and high")
            if any(isinstance(choice, float) and not math.isfinite(choice) for choice in self.choices):
                raise mistake("has a choice that is not finite: use finite numbers")
        elif self.low is None or self.high is None:
            raise mistake("is incomplete: use { low = …, high = … }, { choices = […] } or false")
        elif not self.low < self.high:
            raise mistake(f"has low = {self.low:g} and high = {self.high:g}: low must be below high")
        elif self.log and self.low <= 0:
            raise mistake(f"has log = true and low = {self.low:g}: low must be above 0")
        return self


def _arm(value: object) -> str:
    """Which arm of the union a value is meant for, so that a mistake inside a range is reported as such."""
    return "ConstantRange" if isinstance(value, dict | ConstantRange) else "literal[False]"


_Range = Annotated[
    Annotated[Literal[False], Tag("literal[False]")] | Annotated[ConstantRange, Tag("ConstantRange")],
    Discriminator(_arm),
]


class TunerSection(Section):
    """What the built-in tuner may do with the constants of the editable files."""

    constants: dict[str, _Range] = Field(
        default_factory=dict,
        title="false, { low = …, high = … } or { choices = […] }",
        description="By constant: `false` (never touch), `{ low, high, log, step }` or `{ choices }`. "
        "The tuner finds ranges of its own for constants that are not named.",
    )
