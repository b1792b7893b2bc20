"""`report.md`: what a person reads in the morning, next to `progress.png`.

Hypotheses, reasons and details come from agents and from the programs that they wrote. All of it is escaped, so that
no sentence can break a table, load a picture, run HTML or pass for the report's own words.

Covered: Markdown and HTML syntax, automatic links, mathematics, line breaks, control characters.
Not covered: a sentence that lies in plain words; the numbers beside it are ours.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.judge.contribution import (
    ContributionMap,
    contribution_map,
)
from autoresearch.ledger.results_tsv import is_imported
from autoresearch.report.bill import bill, duration
from autoresearch.report.contribution import (
    ALONE,
    cost_text,
    draw_contributions,
    runs_text,
)
from autoresearch.report.contribution import FIGURE as CONTRIBUTIONS
from autoresearch.report.gist import gist
from autoresearch.report.summary import TIME_PARTS, Summary, failure_of, summarise
from autoresearch.report.words import amount, signed

_MAX_ROWS = 200
_MAX_CELL = 300
_MIN_PLOTTED = 5
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$^])")


@dataclass(frozen=True)
class Context:
    """What a report says beside the experiments; whatever is empty is left out."""

    lab: str = ""
    campaign: str = ""
    branch: str = ""
    base_commit: str = ""
    hardware: str = ""
    budget_seconds: float | None = None
    """Of one run."""
    started: float | None = None
    """Unix seconds."""
    ended: float | None = None
    policy: str = ""
    """The judge's rule by name."""
    seeds: str = ""
    """How seeds were chosen, e.g. `campaign seed 42, one fresh seed per replicate`."""
    program: str = ""
    """The human's research directions, or their beginning."""
    command: str = ""
    """How the lab runs its program."""
    environment: dict[str, object] = field(default_factory=dict)
    """Versions and settings that the numbers depend on."""
    has_pairs: bool = False
    """Whether `confirm.png` lies beside the report."""
    learnt: Sequence[str] = ()
    """Lines of the section on reviews, open ideas and drift, escaped."""


def write_report(
    directory: Path,
    experiments: Sequence[Experiment],
    metric: Metric,
    context: Context,
    *,
    summary: Summary | None = None,
) -> Path:
    """Write `report.md` and `progress.png` into `directory` and return the path of the first.

    Args:
        directory: Created if it is not there.
        experiments: All of one campaign, in any order.
        metric: What was measured.
        context: The rest of the story.
        summary: The campaign's summary, if there is one already (with a measured noise, with sessions).

    Raises:
        OSError: The directory cannot be written.
    """
    # Here and not above: matplotlib costs a third of a second, at the start of commands that draw nothing.
    from autoresearch.report.calibration_figure import draw_calibration  # noqa: PLC0415
    from autoresearch.report.figure import draw_progress  # noqa: PLC0415

    summary = summary or summarise(experiments, metric)
    directory.mkdir(parents=True, exist_ok=True)
    title = f"{context.campaign}: {summary.headline}" if context.campaign else None
    draw_progress(experiments, metric, directory / "progress.png", title, summary=summary)
    if has_plot(summary):
        draw_calibration(summary.calibrations, metric, directory / "calibration.png")
    parts = _parts(experiments, metric)
    if parts is not None:
        draw_contributions(parts, directory / CONTRIBUTIONS)
    path = directory / "report.md"
    handle, partial = tempfile.mkstemp(dir=directory, prefix=".report.")
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(render(experiments, summary, context))
    Path(partial).chmod(0o644)
    Path(partial).replace(path)
    return path


def render(experiments: Sequence[Experiment], summary: Summary, context: Context) -> str:
    """The report's text; pure."""
    sections = (
        _head(experiments, summary, context),
        [] if is_imported(experiments) else _result(summary, context),
        ["![Every attempt, and the best so far](progress.png)"],
        _kept(summary),
        _phases(summary),
        _contributions(experiments, summary),
        context.learnt,
        _graveyard(summary),
        _calibration(summary),
        _numbers(summary),
        _researchers(summary),
        _time(summary),
        _failures(experiments, summary),
        _conditions(experiments, summary, context),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def escape(text: str, length: int = _MAX_CELL) -> str:
    """Text of unknown origin as plain Markdown of one line, safe in a table, cut to `length` characters."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    flat = flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = _SPECIAL.sub(r"\\\1", flat)
    flat = flat.replace("://", "&#58;//").replace("@", "&#64;")  # neither links nor mentions
    return re.sub(r"(?i)www\.", "www&#46;", flat)


def _code(text: str) -> str:
    """A commit, branch or command as code if that is safe, else as escaped text."""
    return f"`{text}`" if re.fullmatch(r"[\w./:@ =+-]{1,200}", text, re.ASCII) else escape(text)


def _fenced(text: str, limit: int = 4000) -> list[str]:
    """A block that shows text as it stands; its fence is longer than any inside."""
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    text = text if len(text) <= limit else text[:limit].rstrip() + "\n…"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}text", text.strip("\n"), fence]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _head(experiments: Sequence[Experiment], summary: Summary, context: Context) -> list[str]:
    name = " / ".join(escape(part) for part in (context.lab, context.campaign) if part) or "campaign"
    lines = [f"# {name}", ""]
    if summary.confirmed:  # the only number in large type
        lines += [
            f"# {escape(summary.confirmed)}",
            "",
            f"Before it was confirmed: {escape(summary.headline, 600)}.",
            "",
        ]
        if context.has_pairs:
            lines += ["![The pairs of runs behind it](confirm.png)", ""]
    else:
        lines += [f"{escape(summary.headline, 600)}.", ""]
        if summary.kept:
            doubt = "This is not confirmed: it is the score that won, so it flatters."
            cure = " `autoresearch confirm` runs the first and the last commit again, side by side, under fresh seeds."
            lines += [doubt if is_imported(experiments) else doubt + cure, ""]
    lines += [_plain(sentence) for sentence in gist(summary)]
    caveats = [*summary.remarks]
    if context.policy == "greedy" and not summary.confirmed:
        caveats.append(
            "The policy was `greedy`: one run decides, and luck is kept like progress. Single-run scores under it are "
            "optimistic; measure the best commit again under fresh seeds before quoting it."
        )
    return [*lines, *(["", "Before believing it:", "", *(f"- {_plain(c)}" for c in caveats)] if caveats else [])]


def _plain(sentence: str) -> str:
    """Our own sentence; the metric's name in it is the lab's, and underscores are no emphasis."""
    return sentence.replace("_", r"\_").replace("<", "&lt;").replace("|", r"\|")


def _result(summary: Summary, context: Context) -> list[str]:
    if not summary.kept or not (context.branch or context.campaign):
        return []
    branch = context.branch or f"autoresearch/{context.campaign}"
    if not re.fullmatch(r"[\w./-]+", branch, re.ASCII):
        return []
    base = context.base_commit if re.fullmatch(r"[\w./-]+", context.base_commit, re.ASCII) else ""
    commands = [f"git merge {branch}", *([f"git diff {base[:12]}..{branch}"] if base else [])]
    return ["## How to get it", "", "```console", *(f"$ {command}" for command in commands), "```"]


def _kept(summary: Summary) -> list[str]:
    if not summary.kept:
        return ["## Kept changes", "", "None: no change was good enough."]
    rows = []
    has_beliefs = any(kept.expected_gain is not None for kept in summary.kept)
    for kept in summary.kept:
        times = f"{kept.gain_in_noise:.1f}×" if kept.gain_in_noise is not None else ""
        gain = signed(kept.gain) if kept.gain is not None else ""
        share = f"{100 * kept.share:.0f} %" if kept.share is not None else ""
        score = f"{kept.score:.6g}" + (f" ({kept.num_runs} runs)" if kept.num_runs > 1 else "")
        believed = "" if kept.expected_gain is None else f"{signed(kept.expected_gain)}{_within(kept.expected_gain_sd)}"
        chance = "" if kept.chance_better is None else f"{100 * min(0.99, max(0.01, kept.chance_better)):.0f} %"
        cells = (
            escape(kept.description),
            score,
            gain,
            *((believed, chance) if has_beliefs else ()),
            share,
            times,
            _code(kept.commit[:12]),
            escape(kept.researcher, 40),
        )
        rows.append((str(kept.number), *cells))
    beliefs = ("believed", "chance") if has_beliefs else ()
    if len(rows) > 1 and summary.measured_gain is not None:
        whole = "" if summary.believed_gain is None else signed(summary.believed_gain)
        rest = (signed(summary.measured_gain), *((whole, "") if has_beliefs else ()), "", "", "", "")
        rows.append(("", "all", "", *rest))
    head = ("#", "change", escape(summary.metric.name), "gain", *beliefs, "of all", "× noise", "commit", "researcher")
    about = "A positive gain is better, whichever way the metric improves."
    if has_beliefs:
        about += (
            " *Gain* is what was measured, *believed* what is left of it once luck is allowed for, ± how unsure that "
            "is, and *chance* how likely it is that the change is better at all."
        )
    return ["## Kept changes", "", about, "", *_table(head, rows)]


def _within(deviation: float | None) -> str:
    return "" if deviation is None else f" ± {amount(deviation)}"


def _phases(summary: Summary) -> list[str]:
    if not summary.phases:
        return []
    rows = [
        (
            phase.name,
            f"#{phase.first}–#{phase.last}" if phase.keeps > 1 else f"#{phase.first}",
            f"{phase.keeps} of {phase.experiments}",
            signed(phase.gain),
            f"{100 * phase.share:.0f} %",
            signed(phase.gain / phase.experiments),
            escape(phase.about, 120),
        )
        for phase in summary.phases
    ]
    head = ("phase", "from – to", "kept", "gain", "of all", "per experiment", "mostly by")
    return [
        "## Phases",
        "",
        "The main phase is the shortest stretch of experiments whose keeps hold 80 % of the gain; the opening lies "
        "before it and the tail after it.",
        "",
        *_table(head, rows),
    ]


def _parts(experiments: Sequence[Experiment], metric: Metric) -> ContributionMap | None:
    """What the parts of the incumbent are worth, None as long as nothing was taken away."""
    if not any(e.proposal.kind is Kind.ABLATION for e in experiments):
        return None
    found = contribution_map(experiments, metric)
    return found if found.is_measured else None


def _contributions(experiments: Sequence[Experiment], summary: Summary) -> list[str]:
    found = _parts(experiments, summary.metric)
    if found is None:
        return []
    rows = [
        (escape(part.name, 120), escape(cost_text(part)), runs_text(part), escape(part.verdict), escape(part.note, 120))
        for part in found.rows
    ]
    return [
        "## What each part is worth",
        "",
        f"{escape(found.headline)}. The cost is how much worse the program is without the part, ± its 95 % interval. "
        f"{ALONE}",
        "",
        *_table(("part", "cost of taking it away", "runs without / with", "verdict", ""), rows),
        "",
        f"![What each part is worth]({CONTRIBUTIONS})",
    ]


def _calibration(summary: Summary) -> list[str]:
    if not summary.calibrations:
        return []
    rows = []
    for one in summary.calibrations:
        sign = "" if one.right_sign is None else f"{100 * one.right_sign:.0f} %"
        bias = "" if one.bias is None else f"{one.bias:+.2g}"
        slope = "" if one.slope is None else f"{one.slope:.2f}"
        rows.append((escape(one.researcher, 60), str(one.count), sign, slope, bias))
    head = ("researcher", "predictions", "right sign", "found per 1 predicted", "promised too much by")
    lines = ["## Predictions", "", "What researchers expected of their changes, against what came of them.", ""]
    picture = ["", "![Predicted and found gains](calibration.png)"] if has_plot(summary) else []
    return [*lines, *_table(head, rows), *picture]


def has_plot(summary: Summary) -> bool:
    """Whether there are predictions enough for a picture of them."""
    return sum(one.count for one in summary.calibrations) >= _MIN_PLOTTED


def _numbers(summary: Summary) -> list[str]:
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.items())
    unmeasured = summary.num_experiments - summary.num_measured
    beside = f", {unmeasured} of them never run" if unmeasured else ""
    rows = [("experiments", f"{summary.num_experiments} ({verdicts}{beside})")]
    if summary.num_pending:
        rows.append(("still open", str(summary.num_pending)))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(summary.outcomes.items()))
    rows.append(("runs for verdicts", escape(outcomes or "none")))
    if summary.measurements:
        beside = ", ".join(f"{count} {purpose}" for purpose, count in sorted(summary.measurements.items()))
        rows.append(("runs beside them", escape(beside)))
    if summary.baseline is not None:
        scatter = f" ± {summary.baseline_noise:.2g}" if summary.baseline_noise is not None else ""
        rows.append(("baseline", f"{summary.baseline:.6g}{scatter} ({_runs(summary.baseline_runs)})"))
        if summary.alike and summary.alike[1] != summary.baseline:
            rows.append(("baseline, seeds of the incumbent only", f"{summary.alike[1]:.6g}"))
    if summary.incumbent is not None:
        rows.append(("incumbent", f"{summary.incumbent.score:.6g} ({_runs(summary.incumbent.num_runs)})"))
    if summary.span_seconds and summary.experiments_per_hour is not None and summary.runs_per_hour is not None:
        rows.append(("time", f"{summary.span_seconds / 3600:.2f} h"))
        per_slot = f", {amount(summary.runs_per_hour_per_slot, 3)} per slot" if summary.runs_per_hour_per_slot else ""
        rows.append(("experiments per hour", amount(summary.experiments_per_hour, 3)))
        rows.append(("runs per hour", f"{amount(summary.runs_per_hour, 3)}{per_slot}"))
    if summary.cost_usd is not None:
        unpriced = sum(one.num_unpriced for one in summary.researchers)
        rest = f", and {unpriced} proposals of unknown cost" if unpriced else ""
        rows.append(("cost of proposals", f"{summary.cost_usd:.2f} USD, as far as it is known{rest}"))
    return ["## In numbers", "", *_table(("", ""), rows)]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _researchers(summary: Summary) -> list[str]:
    """Who contributed what, and what they were asked for."""
    if len(summary.researchers) < 2 and not any(one.tokens for one in summary.researchers):
        return []
    rows = []
    for one in summary.researchers:
        counts = (str(one.experiments), str(one.kept), str(one.crashed))
        thought = f"{one.seconds / max(1, one.experiments):.0f} s" if one.seconds else ""
        tokens = f"{one.tokens:,}" if one.tokens else ""
        believed = "" if one.believed_gain is None else signed(one.believed_gain)
        gains = (signed(one.gain), believed, duration(one.slot_minutes) if one.slot_minutes else "")
        rows.append((escape(one.name, 60), *counts, *gains, bill(one), tokens, thought))
    head = ("experiments", "kept", "crashed", "gain", "believed", "on slots", "cost", "tokens", "thinking per proposal")
    return ["## Researchers", "", *_table(("researcher", *head), rows), *_operators(summary)]


def _operators(summary: Summary) -> list[str]:
    """What came of each way of searching, whoever was asked for it."""
    if len(summary.operators) < 2:
        return []
    rows = []
    for line in summary.operators:
        asked = [(one.name, own.experiments) for one in summary.researchers for own in one.operators
                 if own.operator == line.operator]  # fmt: skip
        who = ", ".join(f"{escape(name, 40)} {count}" for name, count in asked)
        spent = duration(line.slot_minutes) if line.slot_minutes else ""
        rows.append((line.operator, str(line.experiments), str(line.kept), signed(line.gain), spent, who))
    about = (
        "What they were asked for. Researcher and way of searching are chosen by what they gained, as far as that is "
        "believed, for the time and the money that they took."
    )
    return ["", about, "", *_table(("asked for", "experiments", "kept", "gain", "on slots", "of whom"), rows)]


def _time(summary: Summary) -> list[str]:
    if not summary.slots:
        return []
    rows = []
    everything = [("all", summary.total_seconds())] if len(summary.slots) > 1 else []
    for name, seconds in [*((s.slot, s.seconds) for s in summary.slots), *everything]:
        total = sum(seconds.values()) or 1.0
        shares = (f"{seconds[part] / 3600:.2f} h ({100 * seconds[part] / total:.0f} %)" for part in TIME_PARTS)
        rows.append((escape(name, 40), *shares))
    about = (
        "Training, evaluation and start-up are what runs say of themselves. Where the budget counts processor time, "
        "training does too, and waiting for a busy processor is *other*. So are preflights."
    )
    return ["## How the time was spent", "", about, "", *_table(("slot", *TIME_PARTS), rows)]


def _graveyard(summary: Summary) -> list[str]:
    """A few failures that are worth a second look; the log has all."""
    if not summary.lessons:
        return []
    rows = [
        (str(one.number), escape(one.kind), escape(one.title, 120), escape(one.sentence)) for one in summary.lessons
    ]
    return ["## Failures that teach", "", *_table(("#", "what", "change", "why it is instructive"), rows)]


def _failures(experiments: Sequence[Experiment], summary: Summary) -> list[str]:
    failed = [(e, kind) for e in experiments if (kind := failure_of(e))]
    if not failed:
        return []
    counts = ", ".join(f"{group.count} {group.outcome}" for group in summary.failures)
    rows = [
        (str(e.number), escape(kind), escape(e.proposal.hypothesis, 120), escape(sentence))
        for e, (kind, sentence) in sorted(failed, key=lambda pair: pair[0].number)[:_MAX_ROWS]
    ]
    more = [f"\n{len(failed) - _MAX_ROWS} more stand in the ledger."] if len(failed) > _MAX_ROWS else []
    return ["## Failures", "", f"{escape(counts)}.", "", *_table(("#", "how", "change", "why"), rows), *more]


def _conditions(experiments: Sequence[Experiment], summary: Summary, context: Context) -> list[str]:
    facts = [
        ("hardware", escape(context.hardware)),
        ("budget of one run", f"{context.budget_seconds:g} s" if context.budget_seconds is not None else ""),
        ("command", _code(context.command) if context.command else ""),
        ("policy", escape(context.policy)),
        ("seeds", escape(context.seeds)),
        ("base commit", _code(context.base_commit) if context.base_commit else ""),
        ("best commit", _code(summary.incumbent.commit) if summary.incumbent and summary.incumbent.commit else ""),
        ("started", _moment(context.started)),
        ("ended", _moment(context.ended)),
        *((escape(key, 60), escape(str(value))) for key, value in sorted(context.environment.items())),
    ]
    whereabouts = "Every attempt, kept or not, is still in git under `refs/autoresearch/`."
    if is_imported(experiments):
        whereabouts = "This campaign was imported from a results file: times, seeds and changes are not known."
    lines = ["## Conditions", "", *_table(("", ""), ((k, v) for k, v in facts if v))]
    lines += [
        "",
        "A score holds for this hardware and this budget: another machine makes another number of steps in the same "
        f"time, so measure the base and the best commit side by side there. {whereabouts}",
    ]
    if context.program.strip():
        lines += ["", "## The program", "", *_fenced(context.program)]
    return lines


def _moment(seconds: float | None) -> str:
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
