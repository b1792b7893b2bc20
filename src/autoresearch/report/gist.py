"""What a reader should know of a campaign after half a minute: the sentences that `status` and the report share."""

from __future__ import annotations

from collections.abc import Iterable

from autoresearch.report.phases import main_phase
from autoresearch.report.summary import Summary
from autoresearch.report.words import amount, signed


def gist(summary: Summary) -> Iterable[str]:
    """What a reader should know after half a minute, one sentence each."""
    kept, main = summary.kept, main_phase(summary.phases)
    if kept:
        changes = "1 change was" if len(kept) == 1 else f"{len(kept)} changes were"
        yield f"{changes} kept, one in {summary.attempts_per_keep:.1f} attempts."
    if main:
        span = f"#{main.first}" if main.first == main.last else f"#{main.first}–#{main.last}"
        changes = "one change" if main.keeps == 1 else f"{main.keeps} changes"
        tried = "1 experiment" if main.experiments == 1 else f"{main.experiments} experiments"
        yield f"{100 * main.share:.0f} % of the gain came from {span}: {changes}, {tried}."
    if summary.believed_gain is not None and summary.measured_gain is not None and kept:
        measured, believed = signed(summary.measured_gain), signed(summary.believed_gain)
        is_less = (summary.optimism or 0.0) > 0 and measured != believed
        why = ", since those that look best are partly the luckiest" if is_less else ""
        yield f"Measured, the kept changes add up to a gain of {measured}; the judge believes in {believed}{why}."
    if summary.expected_false_keeps is not None:
        yield _false_keeps(len(kept), summary.expected_false_keeps)
    if summary.noise == 0:
        yield "Identical runs gave identical scores, so no luck has been seen."
    elif summary.noise is not None:
        yield f"Luck alone moves a run by about {amount(summary.noise)}: that much identical runs differ."
    if summary.idle_share is not None and summary.num_measured:
        yield f"Slots stood idle for {100 * summary.idle_share:.2g} % of the time."
    if summary.early_stops:
        saved = f" and saved {summary.saved_seconds / 3600:.2g} hours" if summary.saved_seconds else ""
        yield f"{_runs(summary.early_stops)} that could hardly win any more ended early{saved}."


def _false_keeps(kept: int, expected: float) -> str:
    """How many keeps are expected to be no better than what they replaced, as a person says it."""
    if kept == 1:
        chance = "hardly any" if expected < 0.01 else f"a {100 * expected:.0f} %"
        return f"There is {chance} chance that it is no better than what it replaced."
    number = "none is" if expected < 0.05 else f"about {expected:.1f} {'is' if expected <= 1 else 'are'}"
    return f"Of the {kept} kept, {number} expected to be no better than what they replaced."


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
