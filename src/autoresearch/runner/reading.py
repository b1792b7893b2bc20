"""What a run's log and files say: metric, summary, last words. Pure: any text in, never a surprise out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from autoresearch.domain.metric import Metric, Source
from autoresearch.host.stream import BoundedLog

DETAIL_LIMIT = 2000
"""Characters of a program's own words that reach the ledger and a researcher."""
SUMMARY_LIMIT = 200
"""Entries of a summary; more is not a summary."""

REFUSAL = "INVALID"
"""Begins the last line of a measurement that refuses the number: `INVALID: why`."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_PAIR = re.compile(r"\s*([A-Za-z_][\w./@-]*)\s*:\s*(\S.*?)\s*", re.ASCII)
_METRIC_LINE = re.compile(r"\s*METRIC\s+([^\s=]+)\s*=\s*(\S+)\s*", re.ASCII)
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_RANK = re.compile(r"^\[?rank\d+\]?:\s?", re.ASCII)
_EXCEPTION = re.compile(r"([A-Za-z_][\w.]*)(: .*)?", re.ASCII)

Summary = dict[str, float | str]


class Unreadable(ValueError):  # noqa: N818 - the word for a metric that is there and cannot be used
    """The metric is ambiguous, or not a number; the message says which, for a person."""


def read_number(text: str) -> float | None:
    """The number that `text` is, NaN and infinity included; None when it is anything else.

    Stricter than `float`: no underscores, no foreign digits.
    """
    return float(text) if _NUMBER.fullmatch(text) else None


def read_summary(log: str) -> Summary:
    """Every `key: value` of the summary: after the last line `---`, or, without one, every number in the log."""
    blocks = _blocks(log)
    has_block = len(blocks) > 1
    summary: Summary = {}
    for name, text in _pairs(blocks[-1]):
        number = read_number(text)
        if number is not None and math.isfinite(number):
            summary[name] = number
        elif has_block or number is not None:
            summary[name] = text[:200]
    return dict(list(summary.items())[-SUMMARY_LIMIT:])


def read_metric_lines(log: str) -> dict[str, str]:
    """The last text of every `METRIC name=value`."""
    found = (_METRIC_LINE.fullmatch(line) for line in _lines(log))
    return {match[1]: match[2] for match in found if match}


def find_metric(metric: Metric, log: str, metric_file: str | None) -> float | None:
    """Read the metric from its source; NaN and infinity are returned as they are.

    The same value twice is fine. Two different values in one summary, or on two METRIC lines, have no meaning that
    could be guessed. Without a line `---`, the last of all lines counts, as in the original.

    Returns:
        None when it is absent.

    Raises:
        Unreadable: It is there, but ambiguous or not a number.
    """
    if metric.source is Source.JSON:
        return _metric_of_json(metric, metric_file)
    if metric.source is Source.METRIC:
        matches = (_METRIC_LINE.fullmatch(line) for line in _lines(log))
        texts = [match[2] for match in matches if match and match[1] == metric.name]
    else:
        blocks = [[text for name, text in _pairs(block) if name == metric.name] for block in _blocks(log)]
        texts = next((texts for texts in reversed(blocks) if texts), [])
        if len(blocks) == 1 or (texts and texts is blocks[0]):
            texts = texts[-1:]
    return _one_number(metric.name, texts)


def tail_of(log: str, limit: int = DETAIL_LIMIT) -> str:
    """The end of a log that explains a failure: from its last traceback on, cleaned, bounded."""
    lines = [_RANK.sub("", line.rstrip()) for line in _lines(log[-16 * limit :])]
    while lines and not lines[-1].strip():
        lines.pop()
    start = max((i for i, line in enumerate(lines) if line.startswith("Traceback (most recent")), default=None)
    text = "\n".join(lines[start:] if start is not None else lines[-30:])
    return text if len(text) <= limit else "…" + text[-limit + 1 :]


def exception_of(log: str) -> str:
    """The line that names the last exception; without a traceback the last line; empty for an empty log."""
    lines = tail_of(log, 1 << 14).split("\n")
    if lines[0].startswith("Traceback (most recent"):
        for line in lines[1:]:
            if line and not line.startswith((" ", "\t")) and _EXCEPTION.fullmatch(line):
                return line[:300]
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def refusal_of(log: str) -> str:
    """The sentence in the last line of a log that says why a measurement refuses the number; else empty."""
    last = next((line.strip() for line in reversed(_lines(log[-DETAIL_LIMIT:])) if line.strip()), "")
    return last.removeprefix(f"{REFUSAL}:").strip() if last.startswith(f"{REFUSAL}:") else ""


def read_everything(log: str, metric_file: str | None = None) -> Summary:
    """Every number that a command reported about itself, wherever it wrote it."""
    return read_summary(log) | _finite(read_metric_lines(log)) | _numbers_of_json(metric_file)


def _lines(text: str) -> list[str]:
    """Lines as a terminal would show them: a carriage return starts one too; cut lines and colours are left out."""
    lines = re.split(r"\r\n|\n|\r", _ESCAPE.sub("", text))
    return [_UNPRINTABLE.sub("", line) for line in lines if BoundedLog.CUT not in line]


def _blocks(log: str) -> list[list[str]]:
    """The lines before the first `---`, and those after each."""
    blocks: list[list[str]] = [[]]
    for line in _lines(log):
        if line.strip() == "---":
            blocks.append([])
        else:
            blocks[-1].append(line)
    while len(blocks) > 2 and not list(_pairs(blocks[-1])):
        blocks.pop()  # a closing `---`
    return blocks


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    matches = (_PAIR.fullmatch(line) for line in lines if len(line) < 1000)
    return [(match[1], match[2]) for match in matches if match]


def _one_number(name: str, texts: list[str]) -> float | None:
    values: list[float] = []
    for text in texts:
        value = read_number(text)
        if value is None:
            raise Unreadable(f"{name} was printed as '{text[:80]}', which is not a number.")
        if not any(value == other or (math.isnan(value) and math.isnan(other)) for other in values):
            values.append(value)
    if len(values) > 1:
        raise Unreadable(f"{name} is ambiguous: it was printed as {values[0]!r} and as {values[-1]!r}.")
    return values[0] if values else None


def _metric_of_json(metric: Metric, text: str | None) -> float | None:
    if text is None:
        return None
    content = _load(text)
    if not isinstance(content, dict):
        raise Unreadable(f"{metric.file} is not a JSON object.")
    value: object = content
    if metric.name in content:
        value = content[metric.name]
    else:
        for part in metric.name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return None
    number = _plain_number(value)
    if number is None:
        raise Unreadable(f"{metric.name} in {metric.file} is {str(value)[:80]!r}, which is not a number.")
    return number


def _load(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _numbers_of_json(text: str | None) -> Summary:
    content = _load(text) if text is not None else None
    if not isinstance(content, dict):
        return {}
    numbers = {str(name)[:200]: _plain_number(value) for name, value in list(content.items())[:SUMMARY_LIMIT]}
    return {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}


def _finite(texts: Mapping[str, str]) -> Summary:
    numbers = {name: read_number(text) for name, text in texts.items()}
    return {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
