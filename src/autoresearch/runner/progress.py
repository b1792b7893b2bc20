"""What a run says of its progress, taken in while it executes, and the end that the harness may put to it.

A run appends lines to `progress.jsonl` in its run directory, or prints them into its log:

    {"fraction": 0.25, "steps": 480, "value": 3.41}
    PROGRESS fraction=0.25 steps=480 value=3.41

`fraction` of its budget is required; `steps` and `value` (the training loss, or anything that improves while it
trains) are what forecasts live on. All of it is under the candidate's control, so it is read in bounded bites and every
line that is not understood is passed over.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from autoresearch.domain.progress import Point, Progress, Stop
from autoresearch.domain.run import Outcome, RunRequest
from autoresearch.host.files import read_json, read_regular, write_json
from autoresearch.runner.reading import read_number

REPORTS, CURVE, STOPPED = "progress.jsonl", "progress.json", "early.json"

LOOK_SECONDS = 1.0
"""Between two looks at a run, at least."""
LOOKS = 100.0
"""Looks in a budget, about: a longer run is looked at less often."""
MOST_POINTS = 128
"""Reports kept of a run, evenly over its budget: the newest of each share."""
BITE_BYTES = 1 << 18
"""Read at one look; a run that writes faster than this is behind by itself."""
LINE_BYTES = 1000
"""Longer lines are no report."""

Watch = Callable[[RunRequest, Progress], Stop | None]
"""Decides whether a run under way is to be ended; None lets it go on."""

_PROGRESS_LINE = re.compile(r"\s*PROGRESS((?:\s+[a-z]+\s*=\s*[^\s=]+)+)\s*", re.ASCII)
_PART = re.compile(r"([a-z]+)\s*=\s*([^\s=]+)", re.ASCII)


class Report(NamedTuple):
    """One line of a run about itself."""

    fraction: float
    steps: float | None
    value: float | None
    """May be NaN or infinite."""


def read_report(line: str) -> Report | None:
    """Read a line of `progress.jsonl`; None when it is not a report."""
    if len(line) > LINE_BYTES:
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _report(content) if isinstance(content, dict) else None


def read_progress_line(line: str) -> Report | None:
    """Read a line of a log; None when it is not a report."""
    match = _PROGRESS_LINE.fullmatch(line) if len(line) <= LINE_BYTES and "PROGRESS" in line else None
    return _report(dict(_PART.findall(match[1]))) if match else None


def _report(content: dict[str, object]) -> Report | None:
    fraction, steps = _number(content.get("fraction")), _number(content.get("steps"))
    if fraction is None or not 0 <= fraction <= 1.5:  # a last step may end a little after its time
        return None
    if steps is not None and not 0 <= steps < 1e15:
        steps = None
    return Report(min(1.0, fraction), steps, _number(content.get("value")))


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return read_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class Follower:
    """Takes in the reports of one run as they come.

    Args:
        reports: The run's `progress.jsonl`.
        log: What the run prints.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(self, reports: Path, log: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sources = [_Tail(reports, read_report), _Tail(log, read_progress_line)]
        self._monotonic = monotonic
        self._began = self._last_report = monotonic()
        self._points: list[Point] = []
        self._bad_values = 0
        self._longest_silence = 0.0
        self._any_report = False

    def look(self) -> Progress:
        """Take in what is new and say how the run stands."""
        now = self._monotonic()
        for report in [report for source in self._sources for report in source.read()]:
            self._take(report, now)
        return Progress(tuple(self._points), self._bad_values, now - self._last_report, self._longest_silence)

    def _take(self, report: Report, now: float) -> None:
        if self._points and report.fraction < self._points[-1].fraction:
            return
        if self._any_report:
            self._longest_silence = max(self._longest_silence, now - self._last_report)
        self._any_report, self._last_report = True, now
        is_bad = report.value is not None and not math.isfinite(report.value)
        self._bad_values = self._bad_values + 1 if is_bad else 0
        point = Point(now - self._began, report.fraction, report.steps, None if is_bad else report.value)
        share = int(report.fraction * MOST_POINTS)
        if self._points and int(self._points[-1].fraction * MOST_POINTS) == share:
            self._points[-1] = point
        else:
            self._points.append(point)


class _Tail:
    """The whole lines that a growing file has gained since the last look."""

    def __init__(self, path: Path, read: Callable[[str], Report | None]) -> None:
        self._path = path
        self._read = read
        self._offset = 0
        self._rest = b""

    def read(self) -> list[Report]:
        """The reports among the new lines; a file that is cut short is not begun anew."""
        chunk = read_regular(self._path, BITE_BYTES, self._offset) or b""
        self._offset += len(chunk)
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest[-LINE_BYTES - 1 :]  # an endless line stays too long to be a report
        found = (self._read(line.decode(errors="replace").strip()) for line in lines)
        return [report for report in found if report is not None]


class Overseer:
    """Watches one run while it executes and ends it when it cannot win any more.

    The decision is written down before the act (`early.json`), so a session that is killed between the two finds it
    again: it ends the run then, or, when the run came to its end by itself meanwhile, counts it as finished.

    Args:
        request: The run.
        directory: Its folder.
        reports: Its `progress.jsonl`.
        log: What it prints.
        watch: Decides.
        terminate: Asks the run to end; returns at once.
        look_seconds: Between two looks; from the budget when None.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        request: RunRequest,
        directory: Path,
        reports: Path,
        log: Path,
        *,
        watch: Watch,
        terminate: Callable[[], None],
        look_seconds: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request = request
        self._directory = directory
        self._watch = watch
        self._terminate = terminate
        self._look_seconds = max(LOOK_SECONDS, request.budget_seconds / LOOKS) if look_seconds is None else look_seconds
        self._monotonic = monotonic
        self._follower = Follower(reports, log, monotonic)
        self._next_look = 0.0
        self._stop = read_stop(directory)
        self._is_ended = False

    def look(self) -> None:
        """Look at the run unless the last look was a moment ago."""
        now = self._monotonic()
        if self._is_ended or now < self._next_look:
            return
        self._next_look = now + self._look_seconds
        progress = self._follower.look()
        if self._stop is None and (stop := self._watch(self._request, progress)) is not None:
            try:
                write_json(self._directory / STOPPED, asdict(stop))
            except OSError:
                return  # what cannot be written down is not done
            self._stop = stop
        if self._stop is not None and not self._stop.spared:
            self._is_ended = True
            self._terminate()

    def close(self) -> None:
        """Keep the curve of the ended run, for the forecasts of others."""
        progress = self._follower.look()
        longest = max(progress.longest_silence_seconds, progress.silent_seconds if progress.points else 0.0)
        if progress.points:
            points = [[point.seconds, point.fraction, point.steps, point.value] for point in progress.points]
            content = {"longest_silence_seconds": longest, "points": points}
            with contextlib.suppress(OSError):  # a full disk costs the curve, not the result
                write_json(self._directory / CURVE, content, durable=False)


def read_stop(directory: Path) -> Stop | None:
    """The decision to end the run in `directory`, whether it was carried out or not; None when there is none."""
    record = read_json(directory / STOPPED) or {}
    outcome, fraction = record.get("outcome"), _number(record.get("fraction"))
    if outcome not in (Outcome.DIVERGED, Outcome.STOPPED_EARLY) or fraction is None or not 0 <= fraction <= 1:
        return None
    return Stop(Outcome(outcome), str(record.get("sentence", "")), fraction, record.get("spared") is True)


def read_curve(directory: Path) -> Progress | None:
    """The curve of the ended run in `directory`; None when it reported nothing."""
    record = read_json(directory / CURVE) or {}
    rows, silence = record.get("points"), _finite(record.get("longest_silence_seconds"))
    if not isinstance(rows, list) or not rows or silence is None:
        return None
    points = []
    for row in rows[: MOST_POINTS + 1]:
        seconds, fraction, steps, value = (_finite(part) for part in (row if _is_row(row) else [None] * 4))
        if seconds is None or fraction is None:
            return None
        points.append(Point(seconds, fraction, steps, value))
    return Progress(tuple(points), longest_silence_seconds=silence)


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) == 4


def _finite(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and math.isfinite(number) else None
