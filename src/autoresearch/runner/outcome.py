"""From what a run left behind to what it means. Pure: whatever a candidate did is a `RunResult`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from autoresearch.domain.metric import Metric, Source
from autoresearch.domain.progress import Stop
from autoresearch.domain.run import Outcome, RunResult
from autoresearch.host.process import Answer, CommandAnswer
from autoresearch.runner.reading import (
    REFUSAL,
    Unreadable,
    exception_of,
    find_metric,
    read_everything,
    refusal_of,
    tail_of,
)

CHECK, RUN, EVALUATE = "check", "run", "evaluate"
"""The commands of a run, in the order of their execution."""

_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|\bMemoryError\b|std::bad_alloc|Cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|can't allocate memory|DataLoader worker .* killed by signal: Killed",
    re.IGNORECASE,
)
_DIVERGED = re.compile(
    r"\b(loss|val_bpb|bpb|grad\w*|perplexity)\b[^\n]{0,40}\b(nan|inf|infinite|non-?finite|diverged|explod\w+)\b"
    r"|\b(nan|infinite|non-?finite|diverging|exploding)\b[^\n]{0,20}\b(loss|gradients?|metric)\b|^\s*FAIL\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def classify(
    answer: Answer,
    *,
    metric: Metric,
    logs: Mapping[str, str],
    metric_file: str | None = None,
    stop: Stop | None = None,
) -> RunResult:
    """Judge how a run ended, and read its metric when it ended well.

    Args:
        answer: What the supervisor saw.
        metric: Which number, and where it is.
        logs: The text that each command printed, by its name; what is missing counts as empty.
        metric_file: Content of the metric's JSON file; None when there is none.
        stop: The harness's decision to end it early. A run that came to its end all the same has finished.

    Returns:
        The result without telemetry, configuration and environment, which others know.
    """
    summary = read_everything(logs.get(RUN, "")) | read_everything(logs.get(EVALUATE, ""), metric_file)
    if answer.interrupted and stop is not None and not stop.spared:
        outcome, value, detail = stop.outcome, None, stop.sentence
        summary.pop(metric.name, None)  # what it claimed half-way is no score
    else:
        outcome, value, detail = _judge(answer, metric, logs, metric_file)
        if outcome is Outcome.INVALID:
            for name in (metric.name, REFUSAL):  # what the program printed of itself was just refused
                summary.pop(name, None)
    return RunResult(
        outcome=outcome,
        metric=value,
        detail=detail,
        summary=summary,
        started_at=answer.started_at,
        wall_seconds=answer.seconds,
    )


def _judge(
    answer: Answer, metric: Metric, logs: Mapping[str, str], metric_file: str | None
) -> tuple[Outcome, float | None, str]:
    last = answer.commands[-1] if answer.commands else None
    if answer.interrupted:
        return Outcome.INTERRUPTED, None, "The run was stopped before it was through."
    if answer.error:
        return Outcome.DISTURBED, None, f"The run was spoilt from outside: {answer.error}."
    if answer.changed:
        when = f"was changed during '{answer.changed_after}'" if answer.changed_after else "differed before the run"
        return Outcome.PROTECTED_CHANGED, None, f"Protected: {', '.join(answer.changed[:5])} {when}."
    if last is None:
        return Outcome.DISTURBED, None, "The run ended before its first command was started."
    if not last.succeeded:
        log = logs.get(last.name, "")
        if last.exit_code and not last.timed_out and last.name != CHECK and (refusal := refusal_of(log)):
            outcome, detail = Outcome.INVALID, refusal
        else:
            outcome, sentence = _failure(last, log)
            detail = "\n\n".join(filter(None, (sentence, tail_of(log))))
        return outcome, None, detail
    return _read_outcome(metric, logs.get(last.name, ""), metric_file)


def _read_outcome(metric: Metric, log: str, metric_file: str | None) -> tuple[Outcome, float | None, str]:
    try:
        value = find_metric(metric, log, metric_file)
    except Unreadable as reason:
        return Outcome.NO_METRIC, None, str(reason)
    if value is None:
        places = {
            Source.SUMMARY: f"no line '{metric.name}: <number>' was printed",
            Source.METRIC: f"no line 'METRIC {metric.name}=<number>' was printed",
            Source.JSON: f"{metric.file} in the run directory does not hold '{metric.name}'",
        }
        return Outcome.NO_METRIC, None, f"The command succeeded, but {places[metric.source]}."
    if not math.isfinite(value):
        return Outcome.DIVERGED, None, f"{metric.name} is {value}."
    return Outcome.FINISHED, value, ""


def _failure(command: CommandAnswer, log: str) -> tuple[Outcome, str]:
    how = f"The command '{command.name}' {_how_it_ended(command)}."
    words = exception_of(log)
    sentence = f"{words}\n{how}" if words else how
    if command.name in (CHECK, EVALUATE):
        return Outcome.CHECK_FAILED if command.name == CHECK else Outcome.EVALUATION_FAILED, sentence
    if command.timed_out or command.error:
        return Outcome.TIMED_OUT if command.timed_out else Outcome.CRASHED, how
    if command.signal == 9 or command.exit_code == 137:  # not by us: we would have said timed_out or interrupted
        by = "the kernel, for lack of memory" if command.oom_kills else "somebody; most often memory was short"
        return Outcome.OUT_OF_MEMORY, f"The command '{command.name}' was killed by {by}."
    tail = tail_of(log, 4000)
    for pattern, outcome in ((_OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY), (_DIVERGED, Outcome.DIVERGED)):
        if pattern.search(tail):
            return outcome, sentence
    return Outcome.CRASHED, sentence


def _how_it_ended(command: CommandAnswer) -> str:
    if command.error:
        return f"failed: {command.error}"
    if command.timed_out:
        return f"was ended after {command.seconds:.0f} s, its time was over"
    if command.signal is not None:
        return f"was ended by signal {command.signal}"
    return f"ended with exit code {command.exit_code}"
