"""`autoresearch doctor`: find what would spoil a night before the night."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from autoresearch import __version__
from autoresearch.campaign.session import Home
from autoresearch.cli.figures import describe_figures, machine_figures
from autoresearch.cli.terminal import Terminal
from autoresearch.errors import AutoResearchError, UserError
from autoresearch.host.clock import SystemClock
from autoresearch.host.files import free_bytes
from autoresearch.host.hardware import Hardware, describe_hardware
from autoresearch.lab.config import check_lab, dirty_paths, load_config
from autoresearch.lab.git import Git
from autoresearch.lab.sections import ResearcherSection
from autoresearch.ledger.ledger import Ledger
from autoresearch.researchers.agents import AGENTS, Agent
from autoresearch.researchers.api import INSTALL, is_installed, probe_endpoint
from autoresearch.researchers.probe import Probe, probe
from autoresearch.runner.slots import make_slots

_LITTLE_SPACE_BYTES = 2_000_000_000
_MOST_MODELS = 8


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    level: str
    """`ok`, `warn` (the night will be worse) or `fail` (there will be no night)."""
    text: str
    figures: dict[str, object] | None = None
    """What this machine was measured to do."""

    def to_dict(self) -> dict[str, object]:
        """The same for JSON, without what is not there."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command()(doctor)


def doctor(
    lab: Annotated[Path, typer.Option("--lab", "-C", help="The lab's folder.")] = Path(),
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure this machine again.")] = False,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Only look, if it was not measured yet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check this machine and this lab; exit with 1 if a campaign could not run.

    The first time on a machine it measures how fast it multiplies, copies and attends, in half a minute, and keeps the
    figures: `init` sizes a start by them and runs choose their attention by them.
    """
    if remeasure and no_measure:
        raise UserError("--remeasure and --no-measure contradict each other: give one of them")
    findings = list(_examine(lab.resolve(), remeasure=remeasure, no_measure=no_measure))
    if as_json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        console = Terminal()
        styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
        for finding in findings:
            mark = Text(f"{finding.level:<5}", style=styles[finding.level])
            console.print(Text.assemble(mark, f"{finding.what:<13}", finding.text), soft_wrap=True)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _examine(root: Path, *, remeasure: bool, no_measure: bool) -> Iterator[Finding]:
    hardware = describe_hardware()
    yield Finding("autoresearch", "ok", f"{__version__} on Python {platform.python_version()}, {platform.system()}")
    yield Finding("hardware", "ok", _describe(hardware))
    yield _torch()
    yield from _figures(hardware, remeasure=remeasure, no_measure=no_measure)
    yield _checked("git", lambda: Git(Path.cwd()).text("version"))
    yield _sandbox()
    if not (root / "autoresearch.toml").is_file():
        yield from _agents(())
        yield Finding("lab", "warn", f"{root} is no lab: make one with `autoresearch init`")
        return
    yield from _examine_lab(root, hardware)


def _examine_lab(root: Path, hardware: Hardware) -> Iterator[Finding]:
    try:
        config = load_config(root)
        yield from _agents(config.researcher)
        check_lab(root, config)
    except AutoResearchError as error:
        yield Finding("lab", "fail", str(error))
        return
    yield Finding(
        "lab", "ok", f"{root}: {config.metric.direction} {config.metric.name}, {config.budget.seconds:g} s a run"
    )
    yield _checked(
        "slots",
        lambda: ", ".join(
            f"{slot.name} ({slot.device}{f', cores {_list(slot.cores)}' if slot.cores else ''})"
            for slot in make_slots(
                hardware, gpus=config.slots.gpus, cpu_slots=config.slots.cpu, cores_per_slot=config.slots.cores_per_slot
            )
        ),
    )
    dirty = dirty_paths(root)
    if dirty:
        more = f" and {len(dirty) - 1} more" if len(dirty) > 1 else ""
        yield Finding("git", "warn", f"{dirty[0]}{more} not committed: a new campaign starts from the last commit")
    yield _space(root)
    home = Home(root)
    if home.ledger.is_file():
        yield _checked("ledger", lambda: _ledger(home))
    process = home.running_process()
    if process:
        yield Finding("campaign", "ok", f"process {process} is running one now")


def _checked(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", look())
    except AutoResearchError as error:
        return Finding(what, "fail", str(error))


def _describe(hardware: Hardware) -> str:
    facts = hardware.to_dict()
    gpus = ", ".join(gpu.name for gpu in hardware.gpus) or ("Apple GPU" if hardware.has_mps else "no GPU")
    memory = facts.get("memory_bytes")
    gigabytes = f", {memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else ""
    return f"{facts.get('cpu') or 'a CPU without a name'}, {facts.get('physical_cores')} cores{gigabytes}, {gpus}"


def _torch() -> Finding:
    try:
        return Finding("torch", "ok", metadata.version("torch"))
    except metadata.PackageNotFoundError:
        return Finding(
            "torch", "warn", "not installed; only the pretrain lab needs it: pip install 'autoresearch[pretrain]'"
        )


def _figures(hardware: Hardware, *, remeasure: bool, no_measure: bool) -> Iterator[Finding]:
    """What this machine was measured to do, now or before; nothing where PyTorch is missing."""
    if hardware.torch is None:
        return
    try:
        figures = machine_figures(hardware, again=remeasure, never=no_measure)
    except AutoResearchError as error:
        yield Finding("measured", "warn", str(error))
        return
    if figures is None:
        yield Finding(
            "measured", "warn", "not yet, and --no-measure was given: `autoresearch doctor` takes half a minute"
        )
        return
    yield Finding("measured", "ok", describe_figures(figures), figures.to_dict())
    for what, reason in figures.failures.items():
        if not what.startswith("attention"):
            yield Finding("measured", "warn", f"{what}: {reason}")
    if figures.was_disturbed:
        yield Finding(
            "measured",
            "warn",
            "other programs were at work meanwhile: when it is quiet, `autoresearch doctor --remeasure`",
        )


def _agents(team: Sequence[ResearcherSection]) -> Iterator[Finding]:
    """The coding agents that the lab names, and those that are installed; nothing that costs anything is asked."""
    named = [section for section in team if section.is_agent]
    others = [ResearcherSection.model_validate({"kind": kind}) for kind in AGENTS]
    for section in [*named, *(other for other in others if other.kind not in {each.kind for each in named})]:
        if section.kind == "api":
            yield _endpoint(section)
            continue
        agent = AGENTS[section.kind]
        found = probe(agent, section.command or ())
        if found.path is None:
            if section in named:  # else nobody asked for it
                yield Finding(section.label, "fail", f"{agent.title} is not installed: {agent.install}")
            continue
        yield _agent(section.label, agent, found, is_named=section in named)


def endpoint_troubles(team: Sequence[ResearcherSection]) -> Iterator[str]:
    """What is wrong with the endpoints of a team, in sentences; some seconds at most for each, and no costs."""
    for section in team:
        if section.kind == "api" and (found := _endpoint(section)).level != "ok":
            yield f"{found.what}: {found.text}; it is asked all the same"


def _endpoint(section: ResearcherSection) -> Finding:
    """Whether the endpoint of an `api` answers, and has the model; the list of its models costs nothing."""
    what, where = section.label, f"the endpoint {section.base_url}"
    if not is_installed():
        return Finding(what, "fail", f"the package httpx2 is not installed: {INSTALL}")
    key = os.environ.get(section.key_environment, "") if section.key_environment else ""
    if section.key_environment and not key:
        return Finding(what, "warn", f"{where} needs a key, and {section.key_environment} is not set")
    found = probe_endpoint(section.base_url, key)
    if found.problem:
        return Finding(what, "warn", f"{where} does not answer: {found.problem}")
    if found.models is None:
        return Finding(what, "ok", f"{where} answers; whether it has {section.model} it does not say")
    if section.model in found.models or f"{section.model}:latest" in found.models:
        return Finding(what, "ok", f"{where} answers and has {section.model}")
    has = ", ".join(found.models[:_MOST_MODELS]) + (", …" if len(found.models) > _MOST_MODELS else "")
    return Finding(what, "warn", f"{where} has no model {section.model}, but: {has or 'none'}")


def _agent(what: str, agent: Agent, found: Probe, *, is_named: bool) -> Finding:
    version = f"{agent.title} {found.version or 'of an unknown version'}"
    if found.missing_flags:
        flags = ", ".join(found.missing_flags)
        cure = f"AutoResearch was tried with {agent.version}, so install that or newer: {agent.install}"
        return Finding(what, "warn", f"{version} does not know {flags}: {cure}")
    if found.is_logged_in is False:
        return Finding(what, "warn" if is_named else "ok", f"{version}, not logged in: {agent.login}")
    access = f"with {found.access}" if found.access else f"whether it is logged in is not known; if not: {agent.login}"
    return Finding(what, "ok", f"{version}, {access}")


def _sandbox() -> Finding:
    """Whether the pretraining lab can confine its program; nothing else is confined by anybody."""
    rights = "all other runs and agents have this user's rights, so run what you would run yourself"
    bwrap = shutil.which("bwrap") if sys.platform == "linux" else None
    if bwrap is None:
        found = "no bubblewrap (install it)" if sys.platform == "linux" else "none on this system"
        return Finding("sandbox", "warn", f"{found}: the pretrain lab's program can read its data; {rights}")
    trial = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--", "true"]
    try:
        works = subprocess.run(trial, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if works:
        confined = "the pretrain lab confines its program, and known agents see neither results nor data"
        return Finding("sandbox", "ok", f"bubblewrap works: {confined}; {rights.replace('agents', 'commands')}")
    return Finding(
        "sandbox",
        "warn",
        "bubblewrap is here, but may not make namespaces (a container or the kernel's settings forbid it): "
        f"the pretrain lab's program can read its data; {rights}",
    )


def _space(root: Path) -> Finding:
    free = free_bytes(root)
    level = "ok" if free > _LITTLE_SPACE_BYTES else "warn"
    return Finding("disk", level, f"{free / 1e9:.1f} GB free")


def _ledger(home: Home) -> str:
    ledger = Ledger.open_readonly(home.ledger, SystemClock())
    try:
        campaigns = ledger.campaigns()
        return (
            f"{len(campaigns)} campaign{'s' if len(campaigns) != 1 else ''}, newest {campaigns[-1].name}"
            if campaigns
            else "empty"
        )
    finally:
        ledger.close()


def _list(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores))
