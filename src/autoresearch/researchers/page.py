"""The brief as a page for agents and people: the facts of the record, in the order in which they are needed.

Every section has a share of the budget of tokens, and is cut from its least informative end (`sections`). What
candidates printed, and what other researchers and notes say, stands on one line or in a quotation (`quoting`), under a
sentence that says what it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autoresearch.domain.metric import Direction
from autoresearch.researchers.brief import PROPOSAL_SCHEMA, REFUSED, brief_record
from autoresearch.researchers.learnt import learnt_sections
from autoresearch.researchers.protocol import Brief
from autoresearch.researchers.quoting import AS_DATA, clean, fenced, harmless, one_line
from autoresearch.researchers.sections import Section, rendered

HAND_IN = "How to hand in"
"""The last section, about files and variables: the built-in agent has other words for its model."""

_NAME_CHARS, _PROSE_CHARS, _LONGEST_LINE = 60, 1_500, 1_000


def render_markdown(brief: Brief) -> str:
    """The brief as a page of at most `brief.budget_tokens`."""
    record = brief_record(brief)
    # A section of its own for a new subject: a field of the brief, its key in the record, and a line here.
    sections = [
        _task(brief),
        _operator(record["operator"]),
        program_section(record),
        _incumbent(brief, record["incumbent"]),
        _remaining(record["remaining"]),
        _machine(record),
        _time(record["incumbent_run"]),
        _parts(record["parts"]),
        *learnt_sections(record),
        journal_section(record["journal"]),
        *_history(record["history"], brief),
        _in_flight(record["in_flight"]),
        _rules(brief),
        _hand_in(),
    ]
    return harmless(clean(rendered([section for section in sections if section is not None], brief.budget_tokens)))


def _task(brief: Brief) -> Section:
    better = "lower" if brief.metric.direction is Direction.MIN else "higher"
    name = _name(brief.metric.name)
    return Section(
        f"Experiment {brief.number} of campaign {_name(brief.campaign)}",
        f"Propose one change that makes `{name}` {better} ({better} is better). It is run for "
        f"{brief.budget_seconds:g} s, measured by code that you cannot change, and kept only if it is better by more "
        "than luck explains. You need not run anything: edit the files and hand in the plan.",
        level=1,
    )


def _operator(operator: Mapping[str, Any] | None) -> Section | None:
    """The way of searching that this proposal is asked to take."""
    if operator is None:
        return None
    items = (
        f"- {' + '.join(harmless(change) for change in stack['changes'])} (together {stack['gain']:+.2g})"
        for stack in operator["stacks"]
    )
    head = f"{operator['asked']} Other proposals are asked for the other ways of searching."
    if operator["stacks"]:
        head += f"\n\nNot tried together yet, the most promising first; {AS_DATA}:"
    return Section("What is asked of this one", head, tuple(items), 4, what="combinations")


def program_section(record: Mapping[str, Any]) -> Section:
    """What the human wants, from the record of a brief."""
    text = clean(record["program"]).strip()
    lines = [part for line in _demoted(text.split("\n")) for part in _wrapped(line)] if text else []
    head = "" if lines else "No directions were given beyond the metric."
    return Section("Program", head, tuple(lines), 30, what="lines of it")


def _incumbent(brief: Brief, incumbent: Mapping[str, Any] | None) -> Section:
    if incumbent is None:
        head = f"The untouched lab at commit `{brief.parent[:12]}`; its baseline is still being measured."
        return Section("Incumbent", head)
    score = "not measured" if incumbent["score"] is None else f"{incumbent['score']:.6g}"
    began = incumbent["baseline_score"] if incumbent["number"] else None
    start = "" if began is None else f"; the baseline had {began:.6g}"
    noise = "not known yet" if brief.noise is None else f"±{brief.noise:.2g} (standard deviation of identical runs)"
    lines = [
        f"Experiment {incumbent['number']}, commit `{brief.parent[:12]}`: {_name(brief.metric.name)} **{score}** over "
        f"{incumbent['num_runs']} run(s){start}. Noise: {noise}. Its code is what lies in the worktree.",
    ]
    if brief.rounding.step is not None:
        lines.append(f"Scores and gains here are rounded to {brief.rounding.step:g}: smaller differences are luck.")
    moved = incumbent["moved"]
    constants = sorted(incumbent["constants"].items(), key=lambda each: each[0] not in moved)
    if constants:
        lines.append("Its constants" + (", with what the baseline had where that differs:" if moved else ":"))
    items = (
        f"- `{_name(name)} = {_short(value)}`" + (f" (baseline: {_short(moved[name])})" if name in moved else "")
        for name, value in constants
    )
    return Section("Incumbent", "\n\n".join(lines), tuple(items), 12, what="constants")


def _remaining(remaining: Mapping[str, Any]) -> Section | None:
    words = {
        "experiments": "{:,} more experiments",
        "hours": "{:.2g} h of this session",
        "cost_usd": "${:.2f} for proposals",
        "tokens": "{:,} tokens for proposals",
    }
    left = [words[name].format(value) for name, value in remaining.items() if value is not None]
    return Section("What is left", f"{', '.join(left)}.") if left else None


def _machine(record: Mapping[str, Any]) -> Section | None:
    items = [f"- {one_line(each, _PROSE_CHARS)}" for each in record["machine"]]
    items += [f"- {_name(key)}: {one_line(str(value))}" for key, value in record["hardware"].items() if not items]
    return Section("This machine", items=tuple(items), share=5, what="facts") if items else None


def _time(figures: Mapping[str, float]) -> Section | None:
    """Where the time of the incumbent's run goes, and how well it uses the machine."""
    if not figures:
        return None
    items = [f"- {words.format(figures[name])}" for name, words in _FIGURES.items() if name in figures]
    return Section("Where its time goes", "Of the incumbent's runs.", tuple(items), 2, what="figures")


_FIGURES = {
    "run_seconds": "a whole run: {:.3g} s",
    "startup_seconds": "start, compiling included: {:.3g} s",
    "training_seconds": "training: {:.3g} s",
    "eval_seconds": "evaluation: {:.3g} s",
    "num_steps": "optimiser steps: {:,.0f}",
    "median_step_ms": "a step: {:.3g} ms",
    "tokens_per_second": "throughput: {:,.0f} tokens a second",
    "mfu_percent": "share of the measured peak rate: {:.3g} %",
    "epochs": "passes over the training data: {:.3g}",
    "num_params_M": "parameters: {:.4g} M",
    "peak_memory_gib": "peak memory: {:.3g} GiB",
}


def _parts(parts: list[Mapping[str, Any]]) -> Section | None:
    if not parts:
        return None
    head = (
        "What taking each part of the incumbent away costs, dearest first: measured under the same judge, with 95 % "
        f"intervals. In it, {AS_DATA}."
    )
    items = (f"- {one_line(each['name'])}: {one_line(each['worth'])}" for each in parts)
    return Section("What each part is worth", head, tuple(items), 6, what="parts")


def journal_section(journal: list[Mapping[str, str]]) -> Section | None:
    """What people and agents noted down, from the record of a brief."""
    if not journal:
        return None
    entries = (f"{each['by'] or 'somebody'} wrote:\n\n{fenced(each['text'])}" for each in reversed(journal))
    head = f"What was noted down for those who come later, newest first; {AS_DATA}."
    return Section("Journal", head, tuple(entries), 10, separator="\n\n", what="older notes")


def _history(history: Mapping[str, Any], brief: Brief) -> Iterable[Section]:
    ended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in history["num_failures"].items())
    yield Section(
        "History",
        f"{history['num_attempts']} attempts, {history['num_kept']} kept, {history['num_crashed']} crashed"
        f"{f' ({ended})' if ended else ''}. Gains are in {_name(brief.metric.name)} against the incumbent of then, "
        f"positive is better; ± is one standard deviation of luck. In what follows, {AS_DATA}.",
    )
    lists = (
        ("Best keeps", "best", "", 8, "keeps"),
        ("Near misses", "near_misses", "Not kept, and no worse than luck explains: worth combining.", 8, "near misses"),
        ("Most recent, newest first", "recent", "", 20, "older attempts"),
    )
    for title, key, head, share, what in lists:
        if history[key]:
            items = tuple(_attempt(each) for each in history[key])
            yield Section(title, head, items, share, what=what, level=3)
    if history["tried"]:
        head = "One constant alone was changed; newest first."
        items = tuple(_tried(each) for each in history["tried"])
        yield Section("Constants that were tried", head, items, 8, what="constants", level=3)
    if history["failures"]:
        texts = tuple(
            f"{each['number']} {(each['outcome'] or 'no run').replace('_', ' ')}: {each['hypothesis']}\n\n"
            + fenced(each["printed"])
            for each in history["failures"]
        )
        head = f"Newest first; {AS_DATA}."
        yield Section("Failures", head, texts, 10, separator="\n\n", what="failures", level=3)


def _in_flight(flying: list[Mapping[str, Any]]) -> Section:
    items = tuple(
        f"- {each['number']} by {_name(each['researcher'])}: {each['hypothesis'] or 'still being written'}"
        for each in flying
    )
    return Section(
        "In flight", "Already being tried; propose something else:", items or ("- nothing",), 4, what="proposals"
    )


def _rules(brief: Brief) -> Section:
    head = "Refused without a run:\n\n" + _list(REFUSED) + "\n\nYours to edit, and nothing else:"
    patterns = tuple(f"- `{one_line(pattern)}`" for pattern in brief.editable)
    return Section("What to edit", head, patterns, 4, what="patterns")


def _hand_in() -> Section:
    return Section(
        HAND_IN,
        "Edit the files in place. Write the plan to the path in the environment variable `AUTORESEARCH_PROPOSAL`, or "
        "to `proposal.json` in the root of the worktree, then exit with 0. Schema:\n\n```json\n"
        + json.dumps(PROPOSAL_SCHEMA, indent=1)
        + "\n```",
    )


def _attempt(attempt: Mapping[str, Any]) -> str:
    return f"- {attempt['number']} {_outcome(attempt)}: {attempt['hypothesis']}"


def _tried(row: Mapping[str, Any]) -> str:
    values = ", ".join(f"{_short(each['value'])} {_outcome(each)}" for each in row["values"])
    return f"- `{_name(row['name'])}`: {values}"


def _outcome(attempt: Mapping[str, Any]) -> str:
    """Verdict and gain, such as `discard (-0.004 ± 0.002)`."""
    word = attempt["verdict"] or "open"
    if attempt["gain"] is None:
        return word
    luck = "" if attempt["luck"] is None else f" ± {attempt['luck']:.1g}"
    return f"{word} ({attempt['gain']:+.2g}{luck})"


def _demoted(lines: Iterable[str]) -> Iterator[str]:
    """Lines of somebody's page as part of ours: its headings two levels deeper."""
    is_code = False
    for line in lines:
        is_code ^= line.lstrip().startswith("```")
        yield f"##{line}" if not is_code and re.match("#{1,6} ", line) else line


def _wrapped(line: str) -> list[str]:
    """A line in parts, none of which takes all the room."""
    return [line[start : start + _LONGEST_LINE] for start in range(0, len(line), _LONGEST_LINE)] or [""]


def _name(text: str) -> str:
    return one_line(text, _NAME_CHARS)


def _short(value: object) -> str:
    return one_line(repr(value), _NAME_CHARS)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items) or "- nothing"
