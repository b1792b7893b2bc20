"""From a lab on disk to a scheduler that is ready to run: the one place where the real parts are joined.

.autoresearch/
  ledger.db                 the ledger of all campaigns of this lab
  lock, session.json        who is running a campaign now
  submitted/…               changes that were handed in and wait for a session
  runs/<campaign>/…         a folder for each run: log, answer, metrics
  preflights/<campaign>/…   the same for each preflight of a few steps
  sessions/…                briefs and logs of researchers that are commands
  worktrees/…               a checkout for each proposal being written
  cache/…                   compilers' caches, kept from run to run
  campaigns/<campaign>/     results.tsv, report.md, progress.png
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

import filelock
import psutil

from autoresearch import __version__
from autoresearch.campaign.admission import Preflights
from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.choice import Choice, check_comparable, choose_campaign, rotation_of
from autoresearch.campaign.curves import Curves
from autoresearch.campaign.faults import House
from autoresearch.campaign.journal import read_journal
from autoresearch.campaign.profile import machine_profile
from autoresearch.campaign.scheduler import Scheduler, Task
from autoresearch.campaign.submission import Submissions
from autoresearch.campaign.tasks import ThreadTasks
from autoresearch.campaign.team import make_researchers, make_reviewers, make_serves
from autoresearch.campaign.verdicts import Observe
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.near_miss import MOST_STACKED, NearMiss, kept_elsewhere
from autoresearch.errors import AutoResearchError, LabError, LabIsBusyError
from autoresearch.host import files
from autoresearch.host.clock import Clock, SystemClock
from autoresearch.host.figures import read_figures
from autoresearch.host.hardware import Hardware, describe_hardware
from autoresearch.judge.policy import Policy, policy_named
from autoresearch.lab.config import LabConfig, check_lab, load_config, with_team
from autoresearch.lab.workspace import GitWorkspace, hide
from autoresearch.ledger import results_tsv
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.researchers import api
from autoresearch.researchers.agents import AGENTS
from autoresearch.researchers.session import end_reviews, end_sessions
from autoresearch.runner.environment import measured_variables, resolve_program
from autoresearch.runner.local import LocalEngine, Recipe
from autoresearch.runner.progress import Watch
from autoresearch.runner.protocol import Slot
from autoresearch.runner.slots import make_slots, slot_kind, thread_count


@dataclass(frozen=True)
class Home:
    """Where everything of a lab lives."""

    root: Path

    @property
    def folder(self) -> Path:
        """`.autoresearch`, which hides itself from git."""
        return self.root / ".autoresearch"

    @property
    def ledger(self) -> Path:
        """The ledger of all campaigns."""
        return self.folder / "ledger.db"

    @property
    def runs(self) -> Path:
        """A folder for each run."""
        return self.folder / "runs"

    def campaign(self, name: str) -> Path:
        """Exports and report of one campaign."""
        return self.folder / "campaigns" / name

    @property
    def preflights(self) -> Path:
        """A folder for each preflight of a few steps."""
        return self.folder / "preflights"

    @property
    def sessions(self) -> Path:
        """Briefs and logs of researchers that are commands."""
        return self.folder / "sessions"

    @property
    def submissions(self) -> Submissions:
        """Changes that were handed in and wait for a session."""
        return Submissions(self.folder / "submitted")

    def session(self, campaign: str, number: int) -> Path:
        """What the command that wrote this experiment was told and said; absent for other researchers."""
        return self.sessions / f"{campaign}-{number:05d}"

    def running_process(self) -> int | None:
        """The process that runs a campaign here now, None when there is none."""
        session = files.read_json(self.folder / "session.json") or {}
        pid, began = session.get("pid"), session.get("process_began")
        try:
            alive = isinstance(pid, int) and psutil.Process(pid).create_time() == began
            # Started by a server for agents and killed, it stays as a zombie until that server looks.
            alive = alive and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return pid if alive else None


def find_root(start: Path) -> Path:
    """The lab that `start` lies in: the nearest folder upwards with a lab file.

    Raises:
        LabError: There is none, or `start` is no folder.
    """
    if not start.is_dir():
        raise LabError(f"{start} is no folder: give the folder of a lab")
    for folder in (start, *start.parents):
        if (folder / "autoresearch.toml").is_file():
            return folder
    raise LabError(f"{start} is no lab: there is no autoresearch.toml here or above; make one with `autoresearch init`")


class Session:
    """One process at work on one lab; made by `open_session`, which holds the lab's lock."""

    def __init__(
        self, home: Home, config: LabConfig, campaign: Campaign, scheduler: Scheduler, slots: Sequence[Slot]
    ) -> None:
        self.home = home
        self.config = config
        self.campaign = campaign
        self.scheduler = scheduler
        self.slots = slots


@contextmanager
def open_session(
    root: Path,
    choice: Choice,
    limits: Limits,
    observe: Observe,
    clock: Clock | None = None,
    *,
    is_output_ours: bool = False,
    team: Sequence[str] = (),
    proposes: bool = True,
) -> Iterator[Session]:
    """Check the lab, take its lock, choose or begin the campaign, and join the parts.

    Args:
        root: The lab.
        choice: Which campaign.
        limits: Those of the command line; None in a place means the lab file's.
        observe: Told of everything worth a line.
        clock: The system's when None.
        is_output_ours: Standard output is for our own result; what the lab says while it prepares is kept out of it.
        team: Who is to propose, as `--researcher` names them; the lab file's own when empty.
        proposes: False for an errand, which asks nobody: an agent that is not installed is no obstacle then.

    Raises:
        AutoResearchError: One sentence with the cure; nothing was begun.
    """
    clock = clock or SystemClock()
    asked = load_config(root)
    _policy(asked.campaign.policy, asked.metric.to_metric(), "autoresearch.toml: campaign.policy")

    def choose(config: LabConfig, kind: str, ledger: Ledger) -> Campaign:
        return choose_campaign(root, config, kind, ledger, choice, clock)

    with _joined_parts(root, choose, clock, is_output_ours=is_output_ours, team=team, proposes=proposes) as parts:
        home, config, campaign, ledger = parts.home, parts.config, parts.campaign, parts.ledger
        # The recorded one: verdicts of two rules in one campaign would be no rule at all.
        policy = _policy(campaign.policy, campaign.metric, f"campaign {campaign.name!r}")
        elsewhere = _elsewhere(ledger, campaign) if config.campaign.borrow else ()
        curves = Curves(home.runs, campaign.metric, lambda: scheduler.board, forecasts=config.budget.early_stop)
        scheduler = Scheduler(
            replace(plan_of(config, campaign, parts.hardware, root), elsewhere=elsewhere),
            ledger,
            parts.workspace,
            _engine(parts, curves),
            make_researchers(config, home.root, home.folder, home.sessions),
            policy,
            ThreadTasks[Task](),
            clock,
            _joined(limits, config),
            partial(_export, home.campaign(campaign.name) / "results.tsv", campaign=campaign),
            observe,
            partial(row_error, home.runs, {}),
            home.submissions,
            reviewers=make_reviewers(config, home.root, home.folder, home.sessions),
            serves=make_serves(config),
            preflights=_preflights(parts),
        )
        _rewrite_export(home, campaign, ledger)
        _end_researchers(home, campaign, ledger)
        with _noted(ledger, campaign, "session"):
            yield Session(home, config, campaign, scheduler, parts.slots)
            _rewrite_export(home, campaign, ledger)  # a kept commit may have been run again since its row was written


@dataclass(frozen=True)
class Bench:
    """One process that measures beside the verdicts of a campaign; made by `open_bench`, holds the lab's lock."""

    home: Home
    config: LabConfig
    campaign: Campaign
    ledger: Ledger
    engine: LocalEngine
    slots: Sequence[Slot]
    clock: Clock


@contextmanager
def open_bench(root: Path, name: str, clock: Clock | None = None, *, is_output_ours: bool = False) -> Iterator[Bench]:
    """Check the lab, take its lock, and join what it takes to run commits of a campaign again.

    Args:
        root: The lab.
        name: The campaign, which the ledger knows.
        clock: The system's when None.
        is_output_ours: Standard output is for our own result; what the lab says while it prepares is kept out of it.

    Raises:
        AutoResearchError: One sentence with the cure; nothing was begun.
    """
    clock = clock or SystemClock()

    def choose(config: LabConfig, kind: str, ledger: Ledger) -> Campaign:
        chosen = next(campaign for campaign in ledger.campaigns() if campaign.name == name)
        check_comparable(config, kind, chosen)
        return chosen

    with (
        _joined_parts(root, choose, clock, is_output_ours=is_output_ours, proposes=False) as parts,
        _noted(parts.ledger, parts.campaign, "measurement"),
    ):
        board = Board(parts.ledger.experiments(name))
        curves = Curves(parts.home.runs, parts.campaign.metric, lambda: board, forecasts=False)
        engine = _engine(parts, curves)
        yield Bench(parts.home, parts.config, parts.campaign, parts.ledger, engine, parts.slots, clock)


@dataclass(frozen=True)
class _Parts:
    """What a session and a bench share."""

    home: Home
    config: LabConfig
    hardware: Hardware
    slots: Sequence[Slot]
    ledger: Ledger
    campaign: Campaign
    workspace: GitWorkspace
    clock: Clock


@contextmanager
def _joined_parts(
    root: Path,
    choose: Callable[[LabConfig, str, Ledger], Campaign],
    clock: Clock,
    *,
    is_output_ours: bool = False,
    team: Sequence[str] = (),
    proposes: bool,
) -> Iterator[_Parts]:
    """Take the lock and open what stands behind it, for the campaign that `choose` gives."""
    config = with_team(load_config(root), team)
    if proposes:
        _check_agents(config)
    check_lab(root, config, proposes=proposes)
    home = Home(root)
    hardware = describe_hardware()
    slots = make_slots(
        hardware, gpus=config.slots.gpus, cpu_slots=config.slots.cpu, cores_per_slot=config.slots.cores_per_slot
    )
    hide(home.folder)
    with _locked(home):
        _prepare(root, config, sys.stderr if is_output_ours else None)
        ledger = Ledger.open(home.ledger, clock)
        try:
            campaign = choose(config, slot_kind(slots, hardware), ledger)
            config = config.on_rotation(rotation_of(campaign))
            # The branch first: what cannot have one leaves no trace in the ledger.
            workspace = GitWorkspace(
                root,
                campaign.name,
                campaign.base,
                editable=config.lab.editable,
                protected=config.protected,
                link=config.lab.link,
                home=home.folder,
                clock=clock,
            )
            if not campaign.created_at:
                campaign = ledger.begin_campaign(campaign)
            yield _Parts(home, config, hardware, slots, ledger, campaign, workspace, clock)
        finally:
            ledger.close()


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    lock = filelock.FileLock(home.folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        pid = home.running_process()
        who = f"process {pid}" if pid else "another process"
        raise LabIsBusyError(
            f"{who} is running a campaign on this lab already: see it with `autoresearch status`, "
            "a second one would disturb its runs"
        ) from None
    except OSError as error:
        raise LabError(f"{home.folder} cannot be locked ({error.strerror}): make it writable") from error
    try:
        me = {"pid": os.getpid(), "process_began": psutil.Process().create_time()}
        files.write_json(home.folder / "session.json", me, durable=False)
        yield
    finally:
        (home.folder / "session.json").unlink(missing_ok=True)
        lock.release()


def _prepare(root: Path, config: LabConfig, output: TextIO | None) -> None:
    """Have the lab make its data, in its own folder and in plain sight: a download shows its own progress.

    Args:
        root: The lab.
        config: Its lab file.
        output: Where what it prints goes; our standard output when None.

    Raises:
        LabError: The command failed; what it said stands above.
    """
    if config.lab.prepare is None:
        return
    try:
        ended = subprocess.run(
            resolve_program(config.lab.prepare),
            cwd=root,
            env={**os.environ, **config.lab.environment},
            stdout=output,
            check=False,
        )
    except OSError as error:
        raise LabError(f"autoresearch.toml: lab.prepare cannot be started ({error.strerror}): correct it") from error
    if ended.returncode:
        command = " ".join(config.lab.prepare)
        raise LabError(
            f"`{command}` (lab.prepare) ended with {ended.returncode}: see what it said above, and mend that"
        )


@contextmanager
def _noted(ledger: Ledger, campaign: Campaign, what: str) -> Iterator[None]:
    """Begin and end of a session stand in the ledger, so that pauses are not taken for idle slots."""
    ledger.note(campaign.name, f"{what} began", f"autoresearch {__version__}, process {os.getpid()}")
    reason = "ended"
    try:
        yield
    except BaseException as error:
        reason = f"failed: {error}"
        raise
    finally:
        if not reason.startswith("failed"):
            ledger.note(campaign.name, f"{what} ended", reason)


def _policy(name: str, metric: Metric, where: str) -> Policy:
    try:
        return policy_named(name, metric)
    except ValueError as error:
        raise LabError(f"{where}: {error}") from None


def plan_of(config: LabConfig, campaign: Campaign, hardware: Hardware, root: Path) -> Plan:
    """What stays fixed while a campaign runs, from the lab file and the campaign's record."""
    return Plan(
        campaign=campaign.name,
        metric=campaign.metric,
        seed=campaign.seed,
        budget_seconds=config.budget.seconds,
        timeout_seconds=config.budget.run_timeout_seconds,
        editable=config.lab.editable,
        program=(root / config.lab.program).read_text(encoding="utf-8", errors="replace"),
        hardware=hardware.to_dict(),
        machine=machine_profile(hardware, read_figures(hardware), config.lab.machine),
        brief_tokens=config.campaign.brief_tokens,
        baseline_runs=config.campaign.baseline_runs,
        lookahead=config.campaign.lookahead,
        audit_every=config.campaign.audit_every if config.metric.sealed else 0,
        rotations_left=config.metric.rotations - 1 - config.metric.rotation,
        prune_every=config.campaign.prune_every,
        retest_share=config.campaign.retest_share,
        usd_per_slot_hour=config.campaign.usd_per_slot_hour,
        review_every=config.campaign.review_every,
        plateau=config.campaign.plateau,
        tolerance=config.tolerance,
    )


def _engine(parts: _Parts, curves: Curves) -> LocalEngine:
    return _local_engine(parts, parts.home.runs, _recipe(parts), curves.watch)


def _recipe(parts: _Parts) -> Recipe:
    config = parts.config
    rotation = {"AUTORESEARCH_EVAL_ROTATION": str(config.metric.rotation)}
    return Recipe(
        run=config.lab.run,
        metric=parts.campaign.metric,
        check=config.lab.check,
        evaluate=config.lab.evaluate,
        check_timeout_seconds=config.budget.check_timeout_seconds,
        evaluate_timeout_seconds=config.budget.evaluate_timeout_seconds,
        protected=parts.workspace.protected_hashes(parts.campaign.base),
        environment={**_measured(parts), **config.lab.environment, **rotation},
        budget_clock=config.budget.clock,
        log_limit_bytes=int(config.budget.log_limit_mb * 1e6),
    )


def _local_engine(parts: _Parts, directory: Path, recipe: Recipe, watch: Watch | None = None) -> LocalEngine:
    return LocalEngine(
        parts.slots,
        directory,
        recipe,
        checkout=parts.workspace.checkout,
        discard=parts.workspace.discard,
        threads=lambda slot: thread_count(slot, parts.slots, parts.hardware),
        environment={
            **parts.hardware.to_dict(),
            "autoresearch": __version__,
            "lab_hash": parts.config.comparable_hash(),
            "measured": _measured(parts),
        },
        watch=watch,
        clock=parts.clock,
    )


def _preflights(parts: _Parts) -> Preflights:
    """How proposals are tried before their run: with the very engine of runs, in folders of their own."""
    config, preflight, slots = parts.config, parts.config.preflight, parts.slots
    gpus = [gpu for slot in slots for gpu in parts.hardware.gpus if slot.gpu in (gpu.uuid, str(gpu.index))]
    memory = min((gpu.memory_bytes for gpu in gpus), default=parts.hardware.memory_bytes)
    house = House(resolve_program(config.lab.run)[0] == sys.executable, float(memory) or None, bool(gpus))
    engine = None
    if preflight.run is not None:
        told = {"AUTORESEARCH_PREFLIGHT": "1", "AUTORESEARCH_MAX_STEPS": str(preflight.steps)}
        own, recipe = {**preflight.environment, **told}, _recipe(parts)
        engine = _local_engine(
            parts,
            parts.home.preflights,
            replace(recipe, run=preflight.run, evaluate=None, environment={**recipe.environment, **own}),
        )
    return Preflights(engine, preflight.seconds, preflight.timeout_seconds, preflight.repairs, house)


def _measured(parts: _Parts) -> dict[str, str]:
    """What runs are told of their machine's speed; nothing where GPUs differ, since one of them was measured."""
    if len({gpu.name for gpu in parts.hardware.gpus}) > 1:
        return {}
    first = parts.slots[0]  # all are of one kind
    threads = thread_count(first, parts.slots, parts.hardware)
    return measured_variables(read_figures(parts.hardware), first, threads)


def _check_agents(config: LabConfig) -> None:
    """Whoever names an agent that is not there is told how to get it."""
    for section in config.researcher:
        if section.kind == "api":
            if not api.is_installed():
                raise LabError(f'a researcher of kind "api" needs the package httpx2: {api.INSTALL}')
        elif section.is_agent and section.command is None and shutil.which(section.kind) is None:
            agent = AGENTS[section.kind]
            raise LabError(f"{agent.title} is not installed: {agent.install}, or name another researcher")


def _elsewhere(ledger: Ledger, campaign: Campaign) -> tuple[NearMiss, ...]:
    """The best of what other campaigns of this lab kept, as far as their numbers can be compared with this one's."""
    found = []
    for other in ledger.campaigns():
        is_alike = other.comparable_hash == campaign.comparable_hash and other.slot_kind == campaign.slot_kind
        if other.origin == "run" and other.name != campaign.name and is_alike:
            found += kept_elsewhere(other.name, ledger.experiments(other.name))
    return tuple(sorted(found, key=lambda miss: (-miss.gain, miss.label))[:MOST_STACKED])


def _joined(limits: Limits, config: LabConfig) -> Limits:
    own = config.campaign.to_limits()
    return Limits(
        experiments=own.experiments if limits.experiments is None else limits.experiments,
        hours=own.hours if limits.hours is None else limits.hours,
        cost_usd=own.cost_usd if limits.cost_usd is None else limits.cost_usd,
        tokens=own.tokens if limits.tokens is None else limits.tokens,
    )


def _export(path: Path, experiment: Experiment, *, campaign: Campaign) -> None:
    results_tsv.append(path, experiment, campaign.metric)


def row_error(
    runs: Path, known: dict[tuple[int, int], float | None], baseline: Experiment, incumbent: Experiment
) -> float | None:
    """How much a gain hangs on the choice of validation rows, read from the runs' own files once for each incumbent."""
    key = (baseline.number, incumbent.number)
    if key not in known:
        from autoresearch.campaign.noise import row_error as read_row_error  # noqa: PLC0415 - NumPy is slow to import

        found = read_row_error(runs, baseline, incumbent)
        known[key] = found.error if found else None
    return known[key]


def _end_researchers(home: Home, campaign: Campaign, ledger: Ledger) -> None:
    """End the agents that a killed session left at work, before their worktrees are taken from them."""
    for experiment in ledger.experiments(campaign.name):
        if experiment.stage is Stage.PROPOSING:
            end_sessions(home.sessions, campaign.name, experiment.number)
    if read_journal(ledger.journal(campaign.name)).begun:
        end_reviews(home.sessions, campaign.name)


def _rewrite_export(home: Home, campaign: Campaign, ledger: Ledger) -> None:
    """Write results.tsv anew from the ledger: whatever a kill left there, it agrees again."""
    folder = home.campaign(campaign.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AutoResearchError(f"{folder} cannot be made ({error.strerror}): make it writable") from error
    settled = [e for e in ledger.experiments(campaign.name) if e.stage is Stage.SETTLED]
    results_tsv.write(folder / "results.tsv", sorted(settled, key=lambda e: e.decided_at or 0.0), campaign.metric)
