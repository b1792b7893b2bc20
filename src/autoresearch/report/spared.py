"""How often ending a run early would have been wrong, from the runs that were let finish as a check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from autoresearch.domain.experiment import Experiment
from autoresearch.judge.forecast import false_stops


def sentence_of_spared(experiments: Iterable[Experiment], gains: Mapping[int, float]) -> str | None:
    """Say what became of the runs that were to be ended early and went on; None when there was none.

    Args:
        experiments: All of a campaign.
        gains: Each experiment's gain over what it had to beat, by its number; positive is better.
    """
    checked = [e for e in experiments if any(_is_spared(run.result.telemetry) for run in e.runs if run.result)]
    won = sum(gains.get(e.number, 0.0) > 0 for e in checked)
    interval = false_stops(len(checked), won)
    if interval is None:
        return None
    runs = "a run that was" if len(checked) == 1 else f"{len(checked)} runs that were"
    beat = "it" if len(checked) == 1 and won else ("none" if not won else str(won))
    return (
        f"As a check, {runs} to be ended early went on to the end, and {beat} did better than what was to beat: so "
        f"between {interval[0]:.0%} and {interval[1]:.0%} of such decisions are wrong."
    )


def _is_spared(telemetry: Mapping[str, float]) -> bool:
    return "would_stop_at_fraction" in telemetry
