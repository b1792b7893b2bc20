"""A look back by whoever can write prose: what it is shown, what it may answer, and how the answer is read.

A model that proposes all night never asks itself what the night has taught. So every so many verdicts somebody is asked
for nothing else, on figures that were counted and not remembered, and the next briefs carry the answer. It is read
strictly and bounded, because it stands before every idea that follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.learnt import Abandoned, Review
from autoresearch.domain.tally import Count, Gain, Tally, counts, gain_of
from autoresearch.domain.usage import Usage
from autoresearch.researchers.brief import brief_record
from autoresearch.researchers.learnt import learnt_sections, review_record
from autoresearch.researchers.page import journal_section, program_section
from autoresearch.researchers.protocol import Brief
from autoresearch.researchers.quoting import AS_DATA, clean, harmless, one_line
from autoresearch.researchers.sections import Section, rendered

REVIEW_JSON, REVIEW_PROSE = "review.json", "review.md"
"""What a review session leaves: the fields of `REVIEW_SCHEMA`, or plain prose where it cannot write JSON."""

FORMAT = 1
_SUMMARY_CHARS, _ITEM_CHARS, _LEAST_CHARS = 1_200, 300, 40
_MOST_ITEMS, _MOST_SHOWN, _MOST_BRACES = 8, 120, 200
_LARGEST_BYTES = 200_000

REVIEW_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "summary": {"type": "string", "description": "What these experiments taught, in two to five sentences."},
        "patterns": {"type": "array", "items": {"type": "string"}, "description": "What works and what does not."},
        "dead_ends": {"type": "array", "items": {"type": "string"}, "description": "What nobody should try again."},
        "next_bets": {"type": "array", "items": {"type": "string"}, "description": "What to try next, best first."},
        "abandoned": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"idea": {"type": "string"}, "why": {"type": "string"}},
                "required": ["idea", "why"],
            },
            "description": "Open ideas to give up: the id of each, and why.",
        },
    },
    "required": ["summary", "next_bets"],
}
"""JSON schema of `review.json`."""

INSTRUCTIONS = """\
You are one of several researchers. This time you propose nothing and edit nothing: you look back at what was tried and
write down what it taught, for everybody who proposes after you. The figures below were counted; reason from them, name
experiments by their numbers, and do not repeat what stands there anyway. A gain within luck is no evidence. Say what to
bet on next, concretely enough to be carried out, and which of the open ideas to give up and why. The current folder
holds the code of the incumbent, to be read. Write `review.json` into it, as the last section says, and end. Run
nothing, and do not ask: nobody is there to answer.

"""


@dataclass(frozen=True)
class ReviewRequest:
    """What is asked of whoever writes a review."""

    number: int
    """1 for the campaign's first."""
    because: str
    """Why it is due."""
    brief: Brief
    """As for a proposal, and as disclosed; its worktree is there to be read, and thrown away afterwards."""
    tally: Tally
    seen: int = 0
    """Verdicts that earlier reviews looked at."""


@dataclass(frozen=True)
class NoReview:
    """Nothing usable was written; data for the ledger, not an error."""

    reason: str
    cost_usd: float | None = None
    usage: Usage | None = None
    interrupted: bool = False
    """It was stopped by us, so it counts against nobody."""
    away_seconds: float = 0.0
    """How long asking again would be useless; infinite when only a person can cure it."""


class Reviewer(Protocol):
    """Whoever can write a review.

    **Thread safety.** One call at a time; `stop` may come from any thread.
    """

    @property
    def name(self) -> str:
        """Who it is, in the ledger and in briefs."""
        ...

    def review(self, request: ReviewRequest) -> Review | NoReview:
        """Look back; blocks, bounded by a time-out of its own."""
        ...

    def stop(self) -> None:
        """End a `review` that is under way; it answers with an interrupted `NoReview`."""
        ...


# --- what it is shown -------------------------------------------------------------------------------------------------


def request_record(request: ReviewRequest) -> dict[str, Any]:
    """The request for programs."""
    brief = request.brief
    return {
        "format": FORMAT,
        "campaign": brief.campaign,
        "review": request.number,
        "because": request.because,
        "metric": {"name": brief.metric.name, "direction": brief.metric.direction.value},
        "noise": brief.noise,
        "figures": asdict(request.tally),
        "experiments": [_row(each) for each in _recent(request)],
        "open_ideas": [{"id": each.id, "idea": one_line(each.text), "by": each.by} for each in brief.ideas],
        "last_review": None if brief.review is None else review_record(brief.review),
        "review_schema": REVIEW_SCHEMA,
    }


def render_request(request: ReviewRequest) -> str:
    """The request as a page, no longer than a brief may be."""
    brief, tally = request.brief, request.tally
    better = "lower" if brief.metric.direction.value == "min" else "higher"
    noise = "not known yet" if brief.noise is None else f"±{brief.noise:.2g} (standard deviation of identical runs)"
    record = brief_record(brief)
    sections = [
        Section(
            f"Review {request.number} of campaign {one_line(brief.campaign, 60)}",
            f"It is due because of {request.because}. The metric is `{one_line(brief.metric.name, 60)}`, {better} is "
            f"better; gains are in its unit, positive is better. Noise: {noise}. {tally.verdicts} verdicts so far.",
            level=1,
        ),
        replace(program_section(record), share=10),
        Section("Figures", "Counted from the ledger.", tuple(figures_in_words(tally)), 20, what="figures"),
        Section(
            "What was tried since the last review", f"Oldest first; {AS_DATA}.",
            tuple(_line(each) for each in _recent(request)), 35, what="experiments",
        ),
        *learnt_sections(record | {"last_plan": ""}),
        journal_section(record["journal"]),
        Section(
            "How to hand in",
            f"Write `{REVIEW_JSON}` into the current folder, which is also the file named in the environment variable "
            "`AUTORESEARCH_REVIEW`, then end. Lists have at most eight entries of one sentence each. Schema:\n\n"
            f"```json\n{json.dumps(REVIEW_SCHEMA, indent=1)}\n```",
        ),
    ]  # fmt: skip
    return clean(rendered([section for section in sections if section is not None], brief.budget_tokens))


def figures_in_words(tally: Tally) -> Iterable[str]:
    """The tally, one line for each figure; the most telling first."""
    recent = tally.recent
    yield (
        f"- since the last review: {recent.tried} verdicts, {recent.kept} kept, {recent.crashed} crashed; "
        f"{tally.without_keep} verdicts since the last keep"
    )
    yield from (f"- kind {_count(each)}" for each in tally.kinds)
    yield from (f"- gain {_gain(each)}" for each in tally.gains)
    for knob in tally.exhausted:
        best = "" if knob.best_gain is None else f", the best gain {knob.best_gain:+.2g}"
        values = ", ".join(one_line(value, 20) for value in knob.values[:8])
        yield f"- exhausted: {one_line(knob.name, 60)}, {len(knob.values)} values ({values}) and no keep{best}"
    for reason in tally.crashes:
        numbers = ", ".join(f"#{number}" for number in reason.numbers[:6])
        yield f"- crashed {len(reason.numbers)} times ({numbers}): {harmless(one_line(reason.text, 200))}"
    for told in tally.drift:
        yield f"- #{told.number} drifted from its plan: {one_line(told.text, 200)}"
    for told in tally.duplicates:
        yield f"- #{told.number} was not run: {one_line(told.text, 200)}"
    if len(tally.researchers) > 1:
        yield from (f"- researcher {_count(each)}" for each in tally.researchers)
    for line in tally.predictions:
        sign = "" if line.right_sign is None else f", {line.right_sign:.0%} with the right sign"
        over = "too much" if line.bias > 0 else "too little"
        yield (
            f"- predictions of {one_line(line.researcher, 60)}: {line.count}{sign}, {abs(line.bias):.2g} {over} "
            "promised on average"
        )


def _count(count: Count) -> str:
    share = f" ({count.kept / count.tried:.0%})" if count.tried else ""
    crashed = f", {count.crashed} crashed" if count.crashed else ""
    return f"{one_line(count.name, 60)}: {count.tried} tried, {count.kept} kept{share}{crashed}"


def _gain(gain: Gain) -> str:
    luck = "" if gain.luck is None else f" ± {gain.luck:.2g}"
    return f"{gain.gain:+.2g}{luck}, #{gain.number} {gain.verdict}: {harmless(one_line(gain.hypothesis, 160))}"


def _recent(request: ReviewRequest) -> list[Experiment]:
    """What the review is about, oldest first; of very many the newest."""
    return [each for each in request.brief.history if counts(each)][request.seen :][-_MOST_SHOWN:]


def _row(experiment: Experiment) -> dict[str, Any]:
    return {
        "number": experiment.number,
        "researcher": one_line(experiment.researcher, 60),
        "kind": experiment.proposal.kind.value,
        "verdict": experiment.verdict.value if experiment.verdict else None,
        "gain": gain_of(experiment),
        "hypothesis": one_line(experiment.proposal.hypothesis),
        "changed": [one_line(name, 80) for name in experiment.changed[:10]],
        "reason": one_line(experiment.reason, 200),
        "drift": one_line(experiment.plan_drift, 200),
    }


def _line(experiment: Experiment) -> str:
    row = _row(experiment)
    gain = "" if row["gain"] is None else f" ({row['gain']:+.2g})"
    changed = f" [{', '.join(row['changed'])}]" if row["changed"] else ""
    why = f": {row['reason']}" if row["gain"] is None else ""
    return harmless(f"- #{row['number']} {row['kind']} {row['verdict']}{gain}: {row['hypothesis']}{changed}{why}")


# --- what it answers --------------------------------------------------------------------------------------------------


def read_review(
    request: ReviewRequest, by: str, content: bytes | None, prose: str = "", said: str = ""
) -> Review | NoReview:
    """Read a review; what is misspelt costs that field only, as long as something was said.

    Args:
        request: What was asked.
        by: Who wrote it.
        content: `review.json`; None when there is none.
        prose: `review.md`, where there is no JSON.
        said: What the session printed last; a JSON object in it will do, small talk will not.
    """
    if content is not None and len(content) > _LARGEST_BYTES:
        return NoReview(f"{REVIEW_JSON} has {len(content):,} bytes: a review is a page")
    texts = [said] if content is None else [content.decode("utf-8", "replace")]
    fields = next((found for text in (*texts, prose) if (found := json_object_in(text)) is not None), None)
    if fields is None and not prose.strip():
        return NoReview(f"{REVIEW_JSON} is {'no JSON object' if content is not None else 'not there'}")
    fields = {"summary": prose} if fields is None else fields
    review = Review(
        number=request.number,
        by=by,
        verdicts=request.tally.verdicts,
        because=request.because,
        summary=_text(fields.get("summary"), _SUMMARY_CHARS),
        patterns=_texts(fields.get("patterns")),
        dead_ends=_texts(fields.get("dead_ends")),
        next_bets=_texts(fields.get("next_bets")),
        abandoned=tuple(_abandoned(fields.get("abandoned"))),
    )
    num_chars = sum(map(len, (review.summary, *review.patterns, *review.dead_ends, *review.next_bets)))
    return review if num_chars >= _LEAST_CHARS else NoReview(f"{REVIEW_JSON} says nothing")


def json_object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, or the longest of those that stand in it; None when there is none."""
    found: list[tuple[int, dict[str, Any]]] = []
    place, decoder = text.find("{"), json.JSONDecoder()
    for _ in range(_MOST_BRACES):
        if place < 0:
            break
        try:
            candidate, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found.append((place - end, candidate))
        place = text.find("{", end)
    return min(found, key=lambda one: one[0])[1] if found else None


def _text(value: object, limit_chars: int) -> str:
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return one_line(value, limit_chars) if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    texts = (_text(item if isinstance(item, str) else _said(item), _ITEM_CHARS) for item in items[:_MOST_ITEMS])
    return tuple(text for text in texts if text)


def _said(item: object) -> str:
    """An entry that is an object: its values, which is what it says."""
    return ": ".join(str(each) for each in item.values()) if isinstance(item, Mapping) else ""


def _abandoned(value: object) -> Iterable[Abandoned]:
    for item in value[: 2 * _MOST_ITEMS] if isinstance(value, list) else []:
        if isinstance(item, Mapping) and _text(item.get("idea"), _ITEM_CHARS):
            yield Abandoned(_text(item.get("idea"), _ITEM_CHARS).strip("`#[]() "), _text(item.get("why"), _ITEM_CHARS))
        elif isinstance(item, str) and _text(item, _ITEM_CHARS):
            yield Abandoned(_text(item, _ITEM_CHARS), "")
