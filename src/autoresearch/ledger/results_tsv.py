"""The original's `results.tsv`: written so that people find what they know, read so that their nights are not lost.

Five tab-separated columns: `commit`, the metric's name, `memory_gb`, `status`, `description`. A crash has metric
0.000000 and memory 0.0, as the original writes it; nothing else that is unknown is ever written as a number.

The files in the wild were appended to by agents in the dark. So reading forgives everything that leaves a meaning,
says in one sentence per odd row what it made of it, and refuses only a file without a single usable row.
"""

from __future__ import annotations

import csv
import math
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LedgerError, UserError

UNKNOWN_SEED = -1
"""The seed of an imported run: the original never wrote it down."""

_SLOT = "imported"
_GIB = 1024**3  # the original divides its peak_vram_mb by 1024
_COLUMNS = ("commit", "memory_gb", "status", "description")
_RESEARCHER_COLUMNS = ("agent", "researcher", "worker")
_STATUS = {
    **dict.fromkeys(("keep", "kept", "accept", "accepted", "baseline"), Verdict.KEEP),
    **dict.fromkeys(("discard", "discarded", "reject", "rejected", "revert", "reverted"), Verdict.DISCARD),
    **dict.fromkeys(("crash", "crashed", "fail", "failed", "error", "oom", "timeout"), Verdict.CRASH),
}
_LARGER_IS_BETTER = re.compile(r"(acc|accuracy|f1|auc|r2|score|reward|bleu|throughput|mfu|per_s(ec(ond)?)?)$")
_SMALLER_IS_BETTER = re.compile(r"(loss|bpb|rmse|mae|mse|err|error|perplexity|ppl|seconds|latency)$|^val_")


# -- writing --------------------------------------------------------------------------------------------------------


def header(metric: Metric) -> str:
    """The first line, without its newline."""
    return "\t".join(("commit", _one_line(metric.name), "memory_gb", "status", "description"))


def row(experiment: Experiment) -> str:
    """One decided experiment as a line, without its newline.

    Raises:
        ValueError: The experiment has no verdict yet.
    """
    if experiment.verdict is None:
        raise ValueError(f"experiment {experiment.number} has no verdict yet")
    if experiment.verdict is Verdict.CRASH:
        value, memory = "0.000000", "0.0"
    else:
        value, memory = _number(experiment.score), _memory_gb(experiment)
    commit = _one_line(experiment.commit or "")
    commit = commit[:7] if re.fullmatch("[0-9a-f]+", commit) else commit  # an imported one may be a word
    description = _one_line(experiment.proposal.hypothesis) or ("baseline" if experiment.is_baseline else "")
    if len(description) > 1 and description[0] == description[-1] == '"':  # else the reader would take them off
        description = '"' + description.replace('"', '""') + '"'
    return "\t".join((commit, value, memory, experiment.verdict.value, description))


def write(path: Path, experiments: Iterable[Experiment], metric: Metric) -> None:
    """Write all decided experiments, all or nothing: a reader never sees half a file.

    Raises:
        LedgerError: The file cannot be written.
    """
    lines = [header(metric), *(row(e) for e in experiments if e.verdict is not None)]
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_encode("\n".join(lines) + "\n"))
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror or error}") from error


def append(path: Path, experiment: Experiment, metric: Metric) -> None:
    """Add one decided experiment, and the header before it if the file is new.

    A last line that lost its newline (a full disk, a power cut) is ended first, so that two rows never melt into one.

    Raises:
        ValueError: The experiment has no verdict yet.
        LedgerError: The file cannot be written.
    """
    line = row(experiment)
    try:
        with path.open("ab+") as file:
            if file.tell() == 0:
                line = f"{header(metric)}\n{line}"
            else:
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(_encode(line + "\n"))
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror or error}") from error


def _number(value: float | None) -> str:
    """Six decimals as in the original where they carry the value, else as many digits as it takes."""
    if value is None:
        return ""
    return f"{value:.6f}" if value == 0 or 0.1 <= abs(value) < 1e9 else f"{value:.9g}"


def _memory_gb(experiment: Experiment) -> str:
    peaks = []
    for run in experiment.runs:
        if run.result and run.request.commit == experiment.commit:
            vram_mb = run.result.summary.get("peak_vram_mb")  # what the program knows of its GPU comes first
            peak = vram_mb * 1024**2 if isinstance(vram_mb, int | float) else 0.0
            peaks.append(peak or run.result.telemetry.get("peak_memory_bytes", 0.0))
    return f"{max(peaks) / _GIB:.1f}" if any(peaks) else ""


def _one_line(text: str) -> str:
    """Every run of white space (tabs, newlines, Unicode line ends) and control characters becomes one space."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")  # a lone surrogate in an agent's sentence must not stop a campaign


# -- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One usable line of a results file."""

    line: int
    """Counted from 1, the header included."""
    commit: str
    value: float | None
    """In the metric's unit; None where the line holds none."""
    memory_gb: float | None
    verdict: Verdict
    description: str
    researcher: str = ""
    has_diverged: bool = False
    """Whether the value was written as NaN or infinite."""


@dataclass(frozen=True)
class Imported:
    """A results file as understood, with everything that was odd about it."""

    source: str
    """The file's name, without its folder."""
    metric: Metric
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    """One sentence for each odd row, with file and line."""

    @property
    def metric_name(self) -> str:
        """The name in the header."""
        return self.metric.name

    def experiments(self, campaign: str, researcher: str = "imported") -> list[Experiment]:
        """The rows as settled experiments, so that log, report and figure work on them like on our own.

        The parent of each is the last row that its researcher kept before it, which is how the original works.
        The baseline is number 0; without one, numbers start at 1. Clock times are unknown and stay 0.
        """
        first = 0 if _is_baseline(self.rows[0]) else 1
        tips: dict[str, str] = {}
        experiments = []
        for number, item in enumerate(self.rows, start=first):
            parent = tips.get(item.researcher, "")
            experiment = _experiment(
                self.source, item, campaign=campaign, number=number, parent=parent, researcher=researcher
            )
            experiments.append(experiment)
            if item.verdict is Verdict.KEEP:
                tips[item.researcher] = item.commit
        return experiments


def is_imported(experiments: Iterable[Experiment]) -> bool:
    """Whether all of these runs came from a results file, so that clock times, seeds and changes are unknown."""
    slots = {run.slot for experiment in experiments for run in experiment.runs}
    return slots == {_SLOT}


def read(path: Path, *, metric: str | None = None, direction: Direction | None = None) -> Imported:
    """Read a results file of the original or of any of its relatives.

    Args:
        path: The file.
        metric: The column that decides; by default the first one that is none of the original's other four.
        direction: Which way is better; by default concluded from the metric's name, else from what was kept.

    Raises:
        UserError: There is no such file, or no usable row in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; give the path of a results.tsv") from error
    return parse(content, path.name, metric=metric, direction=direction)


def parse(content: bytes, source: str, *, metric: str | None = None, direction: Direction | None = None) -> Imported:
    """Understand the bytes of a results file; `source` names it in remarks.

    Raises:
        UserError: There is no usable row.
    """
    reader = _Reader(source, metric)
    rows = reader.rows(_lines(content, reader))
    if not any(r.value is not None or r.verdict is Verdict.CRASH for r in rows):
        raise UserError(
            f"{source} holds no results: no line has both a status (keep, discard, crash) and a number; "
            "give a tab-separated file with the columns commit, val_bpb, memory_gb, status, description"
        )
    way = direction or direction_of(reader.metric, rows)
    understood = Metric(reader.metric, way)
    remarks = [*reader.remarks, *_suspicions(source, rows, understood)]
    return Imported(source, understood, tuple(rows), tuple(text for _, text in sorted(remarks, key=lambda r: r[0])))


def direction_of(name: str, rows: Sequence[Row] = ()) -> Direction:
    """Which way a metric of this name improves; for a name that does not tell, the way in which the kept rows moved."""
    name = name.lower()
    if _LARGER_IS_BETTER.search(name):
        return Direction.MAX
    kept = [r.value for r in rows if r.verdict is Verdict.KEEP and r.value is not None]
    if not _SMALLER_IS_BETTER.search(name) and kept and kept[-1] > kept[0]:
        return Direction.MAX
    return Direction.MIN


def _lines(content: bytes, reader: _Reader) -> list[str]:
    """Lines for reading, whatever wrote them; Windows shells redirect into UTF-16."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if "�" in line:
            reader.remark(number, "has bytes that are not UTF-8", "with � in their place")
    return lines


class _Reader:
    """The state of reading one file: its layout and its remarks so far."""

    def __init__(self, source: str, metric: str | None) -> None:
        self.source = source
        self.wanted = metric
        self.metric = metric or "metric"
        self.remarks: list[tuple[int, str]] = []
        self.separator = "\t"
        self.columns: list[str] = []

    def remark(self, line: int, oddity: str, consequence: str) -> None:
        self.remarks.append((line, f"{self.source} line {line}: {oddity}; imported {consequence}"))

    def rows(self, lines: list[str]) -> list[Row]:
        """The usable lines, in the order of the file."""
        numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
        if not numbered:
            return []
        self._find_layout(numbered)
        rows, seen = [], dict[str, int]()
        for number, line in numbered:
            cells = self._cells(line)
            if _is_header(cells):
                if number != numbered[0][0]:
                    self.remark(number, "repeats the header", "as nothing")
            elif line in seen:
                self.remark(number, f"repeats line {seen[line]} word for word", "once")
            elif item := self._row(number, cells):
                rows.append(item)
            seen.setdefault(line, number)
        return rows

    def _find_layout(self, numbered: list[tuple[int, str]]) -> None:
        number, line = numbered[0]
        self.separator = next((s for s in "\t,;" if s in line), "\t")
        if self.separator != "\t":
            self.remark(number, f"separates by {self.separator!r} instead of tabs", "all the same")
        self.columns = [c.lower() for c in self._cells(line)]
        if not _is_header(self.columns):
            self.columns = self._guess([self._cells(text) for _, text in numbered])
            if "status" in self.columns:
                self.remark(number, "is not a header", f"with the columns {', '.join(self.columns)} by their content")
        others = {*_COLUMNS, *_RESEARCHER_COLUMNS, "", "timestamp", "time", "date", "tag", "branch", "iteration"}
        names = [c for c in self.columns if c not in others]
        wanted = (self.wanted or "").lower()
        if self.wanted and wanted not in self.columns:
            known = ", ".join(names) or "none"
            raise UserError(f"{self.source} has no column {self.wanted!r}; columns that may be a metric: {known}")
        self.column = wanted or next(iter(names), "")
        self.metric = self.wanted or self.column or "metric"

    def _guess(self, table: list[list[str]]) -> list[str]:
        """Name the columns of a file without header: the status is known by its words, numbers stand before it."""
        width = max(len(cells) for cells in table)
        at = max(range(width), key=lambda i: sum(len(c) > i and c[i].strip().lower() in _STATUS for c in table))
        example = next((c for c in table if len(c) > at and c[at].strip().lower() in _STATUS), None)
        if example is None:
            return []
        columns = [f"column{i + 1}" for i in range(width)]
        numbers = [i for i in range(1, at) if _float(example[i]) is not None]
        named = dict(zip(numbers, (self.wanted or "metric", "memory_gb"), strict=False))
        named |= {at: "status", width - 1: "description"} if at < width - 1 else {at: "status"}
        named.setdefault((numbers[0] - 1) if numbers else 0, "commit")
        return [named.get(i, "" if i not in numbers else name).lower() for i, name in enumerate(columns)]

    def _cells(self, line: str) -> list[str]:
        if self.separator == "\t":
            cells = line.split("\t")
        else:
            try:
                cells = next(csv.reader([line], delimiter=self.separator), [])
            except csv.Error:
                cells = line.split(self.separator)
        return [_unquoted(cell.strip()) for cell in cells]

    def _row(self, number: int, cells: list[str]) -> Row | None:
        surplus = len(cells) - len(self.columns)
        if surplus > 0 and self.columns and self.columns[-1] == "description":
            glue = " " if self.separator == "\t" else f"{self.separator} "
            cells = [*cells[: len(self.columns) - 1], glue.join(cells[len(self.columns) - 1 :])]
            self.remark(number, f"has {surplus} cells too many", "with the last ones joined into the description")
        named = {name: cell for name, cell in zip(self.columns, cells, strict=False) if name}
        word = named.get("status", "").lower()
        text = named.get(self.column, "")
        value, memory = _float(text), _float(named.get("memory_gb", ""))
        if not word and value is None:
            self.remark(number, f"is short: {len(cells)} of {len(self.columns)} cells", "as nothing")
            return None
        has_diverged = value is not None and not math.isfinite(value)
        value = None if has_diverged else value
        if value == 0 and memory == 0 and _STATUS.get(word) is Verdict.DISCARD:
            self.remark(number, "has neither value nor memory", "without a value")
            value, text = None, ""
        verdict = self._verdict(number, word, text, value)
        if memory is None and named.get("memory_gb") and len(cells) >= len(self.columns):
            self.remark(number, f"has memory {named['memory_gb'][:30]!r}, not a number", "without it")
        if len(cells) < len(self.columns):
            self.remark(number, f"is short: {len(cells)} of {len(self.columns)} cells", f"as {verdict.value}")
        who = next((named[c] for c in _RESEARCHER_COLUMNS if named.get(c)), "")
        memory = memory if memory is not None and 0 < memory < math.inf else None
        value = None if verdict is Verdict.CRASH else value
        description = _one_line(named.get("description", ""))
        return Row(number, named.get("commit", ""), value, memory, verdict, description, who, has_diverged)

    def _verdict(self, number: int, word: str, text: str, value: float | None) -> Verdict:
        verdict = _STATUS.get(word)
        if verdict is None:
            verdict = Verdict.CRASH if value is None else Verdict.DISCARD
            self.remark(number, f"has the unknown status {word[:30]!r}", f"as {verdict.value}")
        elif word != verdict.value:
            self.remark(number, f"has status {word!r}", f"as {verdict.value}")
        if verdict is Verdict.KEEP and value is None:
            self.remark(number, f"is a keep with {self.metric} {text[:30]!r}", "as discard")
            return Verdict.DISCARD
        if verdict is Verdict.DISCARD and value is None and text:
            self.remark(number, f"has {self.metric} {text[:30]!r}, not a usable number", "without a value")
        elif verdict is Verdict.CRASH and value:
            self.remark(number, f"is a crash with {self.metric} {text[:30]}", "without the value")
        return verdict


def _is_header(cells: Sequence[str]) -> bool:
    lowered = {c.lower() for c in cells}
    return "status" in lowered and bool(lowered & {"commit", "description"})


def _unquoted(cell: str) -> str:
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', ""):
        return cell[1:-1].replace('""', '"')
    return cell


def _float(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _is_baseline(item: Row) -> bool:
    """The original runs the untouched program first; a log with a researcher column starts anywhere."""
    says_so = item.commit.lower() == "baseline" or item.description.lower().startswith("baseline")
    return says_so or (not item.researcher and item.verdict is Verdict.KEEP)


def _suspicions(source: str, rows: Sequence[Row], metric: Metric) -> list[tuple[int, str]]:
    """What is readable but hard to believe: stale values, worse keeps, commits that stand for several ideas."""
    found = []
    best: dict[str, float] = {}
    for item in rows:
        known = best.get(item.researcher)
        if item.verdict is Verdict.KEEP and item.value is not None:
            if known is not None and metric.gain(item.value, known) < 0:
                text = f"keeps {metric.name} {item.value:g}, worse than {known:g} before it; imported as keep"
                found.append((item.line, f"{source} line {item.line}: {text}"))
            best[item.researcher] = item.value if known is None else metric.best([item.value, known])
    for group in _repeated_values(rows):
        first, last = group[0].line, group[-1].line
        text = (
            f"{len(group)} different ideas in a row have the identical {metric.name} {group[0].value:.10g}, "
            "so the value is stale or the changes had no effect; imported as they stand"
        )
        found.append((first, f"{source} lines {first} to {last}: {text}"))
    wordy = [r for r in rows if not re.fullmatch(r"[0-9a-fA-F]{4,40}", r.commit)]
    if wordy:
        others = f" (and {len(wordy) - 1} more like it)" if len(wordy) > 1 else ""
        text = f"{wordy[0].commit[:30]!r} is not a commit of git{others}; imported under that name"
        found.append((wordy[0].line, f"{source} line {wordy[0].line}: {text}"))
    return found + _shared_commits(source, rows)


def _shared_commits(source: str, rows: Sequence[Row]) -> list[tuple[int, str]]:
    first: dict[str, int] = {}
    again = [r for r in rows if first.setdefault(r.commit, r.line) != r.line]
    if not again:
        return []
    others = f", as do {len(again) - 1} more rows theirs" if len(again) > 1 else ""
    text = f"repeats the commit of line {first[again[0].commit]}{others}; imported, but the change cannot be looked up"
    return [(again[0].line, f"{source} line {again[0].line}: {text}")]


def _repeated_values(rows: Sequence[Row]) -> list[list[Row]]:
    groups: list[list[Row]] = []
    for item in (r for r in rows if r.value is not None):
        if groups and groups[-1][-1].value == item.value and groups[-1][-1].description != item.description:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [group for group in groups if len(group) > 1]


def _experiment(source: str, item: Row, *, campaign: str, number: int, parent: str, researcher: str) -> Experiment:
    commit = item.commit or f"{source}:{item.line}"
    request = RunRequest(campaign, number, 0, commit, UNKNOWN_SEED, budget_seconds=0.0, timeout_seconds=0.0)
    telemetry = {"peak_memory_bytes": item.memory_gb * _GIB} if item.memory_gb is not None else {}
    if item.value is not None:
        result = RunResult(Outcome.FINISHED, item.value, telemetry=telemetry)
    else:
        outcome = Outcome.CRASHED if item.verdict is Verdict.CRASH else Outcome.NO_METRIC
        outcome = Outcome.DIVERGED if item.has_diverged else outcome
        result = RunResult(outcome, detail=item.description, telemetry=telemetry)
    proposal = Proposal(item.description)
    if number == 0:
        proposal = replace(proposal, kind=Kind.BASELINE)
    return Experiment(
        campaign=campaign,
        number=number,
        researcher=item.researcher or researcher,
        parent=parent or commit,
        stage=Stage.SETTLED,
        commit=commit,
        proposal=proposal,
        verdict=item.verdict,
        reason=f"imported from {source} line {item.line}",
        evidence={"line": item.line},
        runs=(Run(request, slot=_SLOT, result=result),),
    )
