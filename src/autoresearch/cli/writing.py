"""Write a campaign's report where people look for it."""

from __future__ import annotations

from pathlib import Path

from autoresearch.campaign.session import Home
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.report.markdown import Context, write_report
from autoresearch.report.summary import Summary, summarise


def sessions_of(ledger: Ledger, campaign: str) -> list[tuple[float, float]]:
    """When the campaign was at work: (start, end) in Unix seconds; a killed session ends with its last event."""
    spans: list[tuple[float, float]] = []
    began: float | None = None
    last = 0.0
    for event in ledger.events(campaign):
        if event.what == "session began":
            if began is not None:
                spans.append((began, last))
            began = event.at
        last = event.at
        if event.what == "session ended" and began is not None:
            spans.append((began, last))
            began = None
    return [*spans, (began, last)] if began is not None else spans


def summarise_campaign(ledger: Ledger, campaign: Campaign) -> Summary:
    """The campaign's summary, pauses between sessions left out."""
    return summarise(ledger.experiments(campaign.name), campaign.metric, sessions=sessions_of(ledger, campaign.name))


def write_campaign_report(home: Home, campaign: Campaign, directory: Path | None = None) -> tuple[Path, Summary]:
    """Write report.md and progress.png, by default into the campaign's folder; return the former's path."""
    ledger = Ledger.open_readonly(home.ledger, SystemClock())
    try:
        experiments = ledger.experiments(campaign.name)
        sessions = sessions_of(ledger, campaign.name)
        summary = summarise(experiments, campaign.metric, sessions=sessions)
    finally:
        ledger.close()
    results = [run.result for experiment in experiments for run in experiment.runs if run.result]
    environment = dict(results[-1].environment) if results else {}
    lab = campaign.lab or {}
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
    )
    folder = directory or home.campaign(campaign.name)
    return write_report(folder, experiments, campaign.metric, context, summary=summary), summary


def _seconds(lab: object) -> float | None:
    budget = lab.get("budget") if isinstance(lab, dict) else None
    return budget.get("seconds") if isinstance(budget, dict) else None
