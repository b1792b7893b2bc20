"""Experiments built by hand, for tests of reports."""

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict


def build(number, verdict, *values, parent="c0", **options):
    """One decided experiment of campaign `night` with a run for each value; a value of None is a crash."""
    start, slot = options.pop("start", 0.0), options.pop("slot", "gpu0")
    wall, summary = options.pop("wall", 100.0), options.pop("summary", {})
    cost = options.pop("cost", None)
    commit, runs = f"c{number}", []
    for ordinal, value in enumerate(values):
        result = RunResult(
            Outcome.CRASHED if value is None else Outcome.FINISHED,
            value,
            detail=options.pop("detail", "") if value is None else "",
            summary=summary,
            started_at=start + ordinal * wall if start else 0.0,
            wall_seconds=wall,
        )
        runs.append(Run(RunRequest("night", number, ordinal, commit, ordinal, 300, 600), slot, result))
    kind = Kind.BASELINE if number == 0 else Kind.OTHER
    proposal = Proposal(options.pop("hypothesis", f"change {number}"), kind=kind, cost_usd=cost)
    who = options.pop("researcher", "tuner")
    return Experiment(
        "night", number, who, parent, Stage.SETTLED, commit, proposal, Verdict(verdict), runs=tuple(runs), **options
    )
