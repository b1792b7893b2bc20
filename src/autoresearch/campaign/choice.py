"""Which campaign a session works on: the newest, one by name, a new one, or one on fresh validation data."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from autoresearch.domain.experiment import order_of_verdicts
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LabError, UserError
from autoresearch.host.clock import Clock
from autoresearch.lab.config import LabConfig, dirty_paths
from autoresearch.lab.git import Git
from autoresearch.lab.guard import matches
from autoresearch.ledger.ledger import Campaign, Ledger


@dataclass(frozen=True)
class Choice:
    """Which campaign to run, as the person asked for it."""

    name: str | None = None
    new: bool = False
    allow_dirty: bool = False
    rotate: bool = False
    """A new one, from the best commit of the last, scored on the next set of validation data."""


def choose_campaign(root: Path, config: LabConfig, kind: str, ledger: Ledger, choice: Choice, clock: Clock) -> Campaign:
    """Choose the campaign to go on with, or make a new one that is not recorded yet.

    Args:
        root: The lab.
        config: Its lab file.
        kind: Of the slots.
        ledger: Knows the campaigns there are.
        choice: As the person asked for it.
        clock: Says the day, which names a new one.

    Raises:
        UserError: The choice contradicts what is there; a LabError where the lab does.
    """
    known = {campaign.name: campaign for campaign in ledger.campaigns()}
    own = [campaign for campaign in known.values() if campaign.origin == "run"]
    latest = own[-1] if own else None
    if choice.rotate:
        config, base = _next_rotation(config, ledger, latest, choice)
        return _new_campaign(root, config, kind, choice, known, clock, base)
    if choice.name is not None and choice.name in known:
        chosen: Campaign | None = known[choice.name]
        if choice.new:
            raise UserError(f"there is a campaign {choice.name!r} already: leave out --new to go on with it")
    elif choice.name is not None or choice.new or latest is None or _has_dead_baseline(ledger, latest):
        chosen = None
    else:
        chosen = latest
    if chosen is None:
        return _new_campaign(root, config, kind, choice, known, clock)
    if chosen.origin != "run":
        raise UserError(f"campaign {chosen.name!r} was imported and cannot be run: start one with --new")
    check_comparable(config, kind, chosen)
    if choice.name is not None and _has_dead_baseline(ledger, chosen):
        raise UserError(
            f"campaign {chosen.name!r} ended with its baseline, and its commit stays what it was: mend the lab, and "
            "begin another with `autoresearch run --new`"
        )
    return chosen


def check_comparable(config: LabConfig, kind: str, chosen: Campaign) -> None:
    """Whether new runs mean what the campaign's own runs meant.

    Raises:
        LabError: The lab file or the slots have changed since.
    """
    if chosen.comparable_hash != config.on_rotation(rotation_of(chosen)).comparable_hash():
        raise LabError(
            f"autoresearch.toml has changed since campaign {chosen.name!r} began (command, files, metric or budget), "
            "so new results could not be compared with its own: begin another with `autoresearch run --new`, "
            "or undo the change"
        )
    if chosen.slot_kind != kind:
        raise LabError(
            f"campaign {chosen.name!r} ran on other slots ({chosen.slot_kind}) than these ({kind}), so new results "
            "could not be compared with its own: begin another with `autoresearch run --new`, or set [slots] as it was"
        )


def _new_campaign(
    root: Path,
    config: LabConfig,
    kind: str,
    choice: Choice,
    known: dict[str, Campaign],
    clock: Clock,
    base: str | None = None,
) -> Campaign:
    """A campaign from the last commit, or from `base`, not recorded yet."""
    patterns = (*config.lab.editable, *config.protected)
    dirty = [path for path in dirty_paths(root) if matches(path, patterns)] if base is None else []
    if dirty and not choice.allow_dirty:
        raise LabError(
            f"{dirty[0]} has uncommitted changes, which a campaign would not see: commit them, or begin from the last "
            "commit all the same with --allow-dirty"
        )
    seed = config.campaign.seed
    git = Git(root)
    base = git.resolve("HEAD") if base is None else base
    # A branch at the very commit is as good as none: a session that was killed at its start leaves one.
    branches = {name for name, tip in _branches(git).items() if tip != base}
    if choice.name in branches:
        raise UserError(
            f"there is a branch autoresearch/{choice.name} already, from a campaign that this ledger does not know: "
            f"choose another name, or delete it with `git branch -D autoresearch/{choice.name}`"
        )
    return Campaign(
        name=_fresh_name({*known, *branches}, clock) if choice.name is None else choice.name,
        base=base,
        seed=secrets.randbits(31) if seed is None else seed,
        policy=config.campaign.policy,
        metric=config.metric.to_metric(),
        comparable_hash=config.comparable_hash(),
        slot_kind=kind,
        lab=json.loads(config.model_dump_json()),
    )


def rotation_of(campaign: Campaign) -> int:
    """Which set of validation data a campaign is scored on; those of before there were several used the first."""
    metric = (campaign.lab or {}).get("metric")
    rotation = metric.get("rotation") if isinstance(metric, dict) else None
    return rotation if isinstance(rotation, int) else 0


def _next_rotation(config: LabConfig, ledger: Ledger, latest: Campaign | None, choice: Choice) -> tuple[LabConfig, str]:
    """The lab on its next set of validation data, and the best commit so far.

    Raises:
        UserError: There is no next set, or nothing that could go on with it.
    """
    if choice.new:
        raise UserError("--rotate begins a new campaign, from the best commit of the last one: leave out --new")
    if choice.name is not None and choice.name in {campaign.name for campaign in ledger.campaigns()}:
        raise UserError(
            f"there is a campaign {choice.name!r} already, and --rotate begins a new one: name it otherwise"
        )
    if latest is None:
        raise UserError(
            "no campaign has run in this lab yet, so there is none to rotate: start with `autoresearch run`"
        )
    kept = [e for e in ledger.experiments(latest.name) if e.verdict is Verdict.KEEP]
    if not kept:
        raise UserError(
            f"campaign {latest.name!r} has no measured baseline yet: measure it first, with `autoresearch run`"
        )
    rotation, sets = rotation_of(latest) + 1, config.metric.rotations
    if rotation >= sets:
        has = "one set of validation data" if sets == 1 else f"{sets} sets of validation data"
        raise UserError(
            f"this lab has {has} and campaign {latest.name!r} uses the last: prepare more data and raise "
            "metric.rotations in autoresearch.toml, or go on without --rotate"
        )
    best = max(kept, key=order_of_verdicts)
    assert best.commit is not None
    return config.on_rotation(rotation), best.commit


def _branches(git: Git) -> dict[str, str]:
    """Campaigns that have a branch, whether the ledger knows them or not: people delete `.autoresearch`."""
    rows = git.text("for-each-ref", "--format=%(refname:lstrip=3) %(objectname)", "refs/heads/autoresearch/")
    return dict(row.split(" ") for row in rows.splitlines())


def _has_dead_baseline(ledger: Ledger, campaign: Campaign) -> bool:
    """Whether the campaign ended before it began; then the mended lab gets a new one by itself."""
    baseline = next(iter(ledger.experiments(campaign.name)), None)
    return baseline is not None and baseline.verdict is Verdict.CRASH


def _fresh_name(known: Collection[str], clock: Clock) -> str:
    """The original's way to name a campaign, `mar8`, with a number when the day has more than one."""
    day = datetime.fromtimestamp(clock.now()).strftime("%b%d").lower()
    names = (day if n == 1 else f"{day}-{n}" for n in range(1, len(known) + 2))
    return next(name for name in names if name not in known)
