"""Write a campaign's report where people look for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

from autoresearch.campaign.journal import read_journal
from autoresearch.campaign.sealed import ALARM, AUDITED
from autoresearch.campaign.session import Home
from autoresearch.domain.experiment import order_of_verdicts
from autoresearch.domain.learnt import open_ideas
from autoresearch.domain.run import Split
from autoresearch.domain.verdict import Verdict
from autoresearch.host.clock import SystemClock
from autoresearch.judge.confirm import Confirmation
from autoresearch.ledger.ledger import Campaign, Event, Ledger
from autoresearch.report.learnt import Learnt, learnt_lines
from autoresearch.report.markdown import Context, write_report
from autoresearch.report.summary import Summary, summarise

CONFIRMED = "confirmed"
"""The event that holds what a confirmation found."""


def sessions_of(ledger: Ledger, campaign: str) -> list[tuple[float, float]]:
    """When the campaign was at work: (start, end) in Unix seconds; a killed session ends with its last event."""
    spans: list[tuple[float, float]] = []
    began: float | None = None
    last = 0.0
    for event in ledger.events(campaign):
        if event.what in ("session began", "measurement began"):  # what is measured beside verdicts is no campaign time
            if began is not None:
                spans.append((began, last))
            began = event.at if event.what == "session began" else None
        last = event.at
        if event.what == "session ended" and began is not None:
            spans.append((began, last))
            began = None
    return [*spans, (began, last)] if began is not None else spans


def confirmation_of(events: Iterable[Event], commit: str | None, split: Split | None = None) -> Confirmation | None:
    """What `autoresearch confirm` last said of a commit, None when it was never asked.

    Without a split, numbers on sealed data come before newer ones on the validation data.
    """
    found: dict[str, Confirmation] = {}
    names = {field.name for field in fields(Confirmation)}
    for event in events:
        if event.what == CONFIRMED:
            record = json.loads(event.detail)
            if record["commit"] == commit:
                known = {name: value for name, value in record.items() if name in names}
                found[record["split"]] = Confirmation(**known)
    if split is not None:
        return found.get(split)
    return found.get(Split.TEST, found.get(Split.VAL))


def summarise_campaign(ledger: Ledger, campaign: Campaign) -> Summary:
    """The campaign's summary, pauses between sessions left out."""
    experiments = ledger.experiments(campaign.name)
    kept = [e for e in experiments if e.verdict is Verdict.KEEP and e.score is not None]
    best = max(kept, key=order_of_verdicts, default=None)
    events = ledger.events(campaign.name)
    summary = summarise(
        experiments,
        campaign.metric,
        sessions=sessions_of(ledger, campaign.name),
        confirmation=confirmation_of(events, best.commit) if best else None,
    )
    return replace(summary, remarks=(*audit_remarks(events), *summary.remarks))


def learnt_in(ledger: Ledger, campaign: str) -> Learnt:
    """What a campaign wrote down for itself."""
    known, experiments = read_journal(ledger.journal(campaign)), ledger.experiments(campaign)
    return Learnt(
        reviews=known.reviews,
        ideas=open_ideas(experiments, known.reviews, known.ideas, known.closed),
        drifted=[e for e in experiments if e.plan_drift],
        writing=next(iter(known.begun.values()), ""),
        cost_usd=known.cost_usd,
        tokens=known.tokens,
    )


def audit_remarks(events: Iterable[Event]) -> list[str]:
    """What audits on sealed data say of a campaign: the alarm if it rang, and the newest audit."""
    told = {event.what: event.detail for event in events if event.what in (AUDITED, ALARM)}
    return [
        *([f"ALARM: {told[ALARM]}."] if ALARM in told else []),
        *([f"Checked on data that decide nothing: {told[AUDITED]}."] if AUDITED in told else []),
    ]


def write_campaign_report(home: Home, campaign: Campaign, directory: Path | None = None) -> tuple[Path, Summary]:
    """Write report.md and progress.png, by default into the campaign's folder; return the former's path."""
    ledger = Ledger.open_readonly(home.ledger, SystemClock())
    try:
        experiments = ledger.experiments(campaign.name)
        sessions = sessions_of(ledger, campaign.name)
        summary = summarise_campaign(ledger, campaign)
        learnt = learnt_lines(learnt_in(ledger, campaign.name))
    finally:
        ledger.close()
    results = [run.result for experiment in experiments for run in experiment.runs if run.result]
    environment = dict(results[-1].environment) if results else {}
    lab = campaign.lab or {}
    folder = directory or home.campaign(campaign.name)
    context = Context(
        lab=home.root.name,
        campaign=campaign.name,
        branch=f"autoresearch/{campaign.name}" if campaign.origin == "run" else "",
        base_commit=campaign.base,
        hardware=str(environment.get("cpu", "")),
        budget_seconds=_seconds(lab),
        started=sessions[0][0] if sessions else campaign.created_at,
        ended=sessions[-1][1] if sessions else None,
        policy=campaign.policy,
        seeds=f"campaign seed {campaign.seed}; replicate j of every commit runs under the same seed j",
        environment=environment,
        has_pairs=(folder / "confirm.png").is_file(),
        learnt=learnt,
    )
    return write_report(folder, experiments, campaign.metric, context, summary=summary), summary


def _seconds(lab: object) -> float | None:
    budget = lab.get("budget") if isinstance(lab, dict) else None
    return budget.get("seconds") if isinstance(budget, dict) else None
