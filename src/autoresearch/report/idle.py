"""How much of the slots' time nothing ran in: what researchers, the judge and the harness keep machines waiting for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from autoresearch.domain.experiment import Experiment


def idle_share(experiments: Iterable[Experiment], sessions: Sequence[tuple[float, float]] = ()) -> float | None:
    """The share of slot time without a run or a preflight, from the start of each session to the end of its last run.

    What follows the last run, such as the report, keeps no slot from working. Slots that nothing ever ran on in a
    session are not known to the ledger, and not counted.

    Args:
        experiments: All of one campaign.
        sessions: When it was at work, as (start, end) in Unix seconds; as one session when not given.

    Returns:
        From 0 to 1; None when no run has a time.
    """
    experiments = list(experiments)
    runs = [
        (run.slot, run.result.started_at, run.result.started_at + run.result.wall_seconds)
        for experiment in experiments
        for run in experiment.runs
        if run.result and run.result.started_at > 0
    ]
    if not sessions:
        sessions = [(min((e.created_at for e in experiments if e.created_at > 0), default=0.0), math.inf)]
    whole, busy = 0.0, math.fsum(p.wall_seconds for e in experiments for p in e.preflights)
    for start, end in sessions:
        # A run may outlive the session that began it: each has its own part.
        parts = [(slot, max(start, began), min(end, ended)) for slot, began, ended in runs]
        parts = [part for part in parts if part[2] > part[1]]
        if parts:
            span = max(ended for _, _, ended in parts) - (start or min(began for _, began, _ in parts))
            whole += span * len({slot for slot, _, _ in parts})
            busy += math.fsum(ended - began for _, began, ended in parts)
    return max(0.0, 1 - busy / whole) if whole > 0 else None
