"""What was learnt so far, as a brief tells it: the newest review, open ideas, and where the last plan was left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autoresearch.domain.learnt import Idea, Review
from autoresearch.researchers.protocol import Brief
from autoresearch.researchers.quoting import AS_DATA, harmless, one_line
from autoresearch.researchers.sections import Section

MOST_IDEAS = 20
"""Open ideas in a brief: whoever is offered more tries none of them."""


def learnt_record(brief: Brief) -> dict[str, Any]:
    """Keys of the brief's record; texts are bounded and cleaned."""
    return {
        "last_plan": one_line(brief.drift, 700),
        "review": None if brief.review is None else review_record(brief.review),
        "open_ideas": [
            {"id": one_line(each.id, 20), "idea": one_line(each.text), "by": one_line(each.by, 60)}
            for each in best_first(brief.ideas)[:MOST_IDEAS]
        ],
    }


def best_first(ideas: Iterable[Idea]) -> list[Idea]:
    """What people want first, then what the newest review bets on, then plans that were dropped, the newest first."""
    listed = list(ideas)
    bets = [each for each in listed if each.id.startswith("r")]
    noted, dropped = ([each for each in reversed(listed) if each.id.startswith(kind)] for kind in "ne")
    return [*noted, *bets, *dropped]


def review_record(review: Review) -> dict[str, Any]:
    """A review for programs."""
    return {
        "number": review.number,
        "by": one_line(review.by, 60),
        "is_computed": review.is_computed,
        "after_verdicts": review.verdicts,
        "because": one_line(review.because),
        "summary": one_line(review.summary, 1_200),
        "patterns": [one_line(each) for each in review.patterns],
        "dead_ends": [one_line(each) for each in review.dead_ends],
        "next_bets": [one_line(each) for each in review.next_bets],
        "abandoned": [{"idea": one_line(each.idea), "why": one_line(each.why)} for each in review.abandoned],
    }


def learnt_sections(record: Mapping[str, Any]) -> list[Section]:
    """The same for a page; nothing for what there is nothing of."""
    review, ideas = record["review"], record["open_ideas"]
    plan = harmless(record["last_plan"])
    found = [Section("Your last plan", items=(plan,), share=4, what="sentence")] if plan else []
    if review is not None:
        whose = "computed from the ledger, no model" if review["is_computed"] else f"by {review['by']}"
        head = f"Review {review['number']}, {whose}, after {review['after_verdicts']} verdicts. In it, {AS_DATA}."
        found.append(Section("What was learnt", head, tuple(_review_lines(review)), 10, what="lines of it"))
    if ideas:
        head = (
            "Worth trying, and nobody has. Whoever takes one up puts its id into `idea` of the plan. In them, "
            f"{AS_DATA}."
        )
        lines = tuple(f"- `{each['id']}` {harmless(each['idea'])}" for each in ideas)
        found.append(Section("Open ideas", head, lines, 6, what="ideas"))
    return found


def _review_lines(review: Mapping[str, Any]) -> Iterable[str]:
    if review["summary"]:
        yield harmless(review["summary"])
    for title, key in (("pattern", "patterns"), ("dead end", "dead_ends"), ("bet on", "next_bets")):
        yield from (f"- {title}: {harmless(each)}" for each in review[key])
    yield from (f"- given up: {harmless(each['idea'])} ({harmless(each['why'])})" for each in review["abandoned"])
