"""What a campaign wrote down for itself: reviews, ideas that wait, and diffs that departed from their plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.learnt import Idea, Review
from autoresearch.report.markdown import escape

_MOST_EARLIER, _MOST_DRIFTED, _MOST_NAMED = 12, 20, 3


@dataclass(frozen=True)
class Learnt:
    """What was written down."""

    reviews: Sequence[Review] = ()
    """Oldest first."""
    ideas: Sequence[Idea] = ()
    """Those that are open."""
    drifted: Sequence[Experiment] = ()
    """Experiments whose diffs departed from their plans."""
    writing: str = ""
    """Who looks back just now; empty when nobody does."""
    cost_usd: float = 0.0
    """What all reviews cost, as far as it is known."""
    tokens: int = 0


def whose(review: Review) -> str:
    """Who wrote a review, as it follows the number."""
    return "computed, no model" if review.is_computed else f"by {review.by}"


def learnt_sentences(learnt: Learnt) -> Iterable[str]:
    """What `status` says of it: one sentence each for the newest review, drift, and open ideas."""
    if learnt.writing:
        yield f"{learnt.writing} looks back now; nothing new is proposed before that is written."
    if learnt.reviews:
        newest = learnt.reviews[-1]
        bet = f" Next: {newest.next_bets[0]}" if newest.next_bets else ""
        yield f"Review {newest.number} ({whose(newest)}, after {newest.verdicts} verdicts): {newest.summary}{bet}"
    if bill := _bill(learnt):
        yield bill
    if learnt.drifted:
        count = len(learnt.drifted)
        numbers = ", ".join(f"#{each.number}" for each in learnt.drifted[-_MOST_NAMED:])
        parted = "1 diff departed from its plan" if count == 1 else f"{count} diffs departed from their plans"
        yield f"{parted} ({'last ' if count > _MOST_NAMED else ''}{numbers}): see `autoresearch show`."
    if learnt.ideas:
        count = len(learnt.ideas)
        named = "; ".join(f"{idea.id} {idea.text}" for idea in learnt.ideas[-_MOST_NAMED:])
        yield f"{count} open idea{'s' * (count != 1)} (`autoresearch ideas`): {named}."


def _bill(learnt: Learnt) -> str:
    """What all reviews cost, as far as it is known; empty when no model was paid."""
    if not (learnt.cost_usd or learnt.tokens):
        return ""
    dollars = f"${learnt.cost_usd:.2f}, " if learnt.cost_usd else ""
    return f"Reviews took {dollars}{learnt.tokens:,} tokens."


def learnt_lines(learnt: Learnt) -> list[str]:
    """The report's section; nothing when nothing was written down."""
    lines: list[str] = []
    if learnt.reviews:
        newest, *earlier = reversed(learnt.reviews)
        lines += ["## What was learnt", "", f"Review {newest.number}, {escape(whose(newest))}, after "
                  f"{newest.verdicts} verdicts: {escape(newest.summary, 1_200)}"]  # fmt: skip
        for title, texts in (("Patterns", newest.patterns), ("Dead ends", newest.dead_ends),
                             ("Next bets", newest.next_bets)):  # fmt: skip
            if texts:
                lines += ["", f"{title}:", "", *(f"- {escape(text)}" for text in texts)]
        if newest.abandoned:
            given_up = (f"- {escape(each.idea)}: {escape(each.why)}" for each in newest.abandoned)
            lines += ["", "Given up:", "", *given_up]
        if bill := _bill(learnt):
            lines += ["", escape(bill)]
        if earlier:
            told = (f"- {r.number}, {escape(whose(r))}, after {r.verdicts}: {escape(r.summary)}" for r in earlier)
            lines += ["", "Earlier reviews, newest first:", "", *list(told)[:_MOST_EARLIER]]
    if learnt.ideas:
        lines += ["", "## Open ideas", "", "Worth trying, and nobody has.", ""]
        lines += [f"- {escape(idea.id)}: {escape(idea.text)} ({escape(idea.by, 60)})" for idea in learnt.ideas]
    if learnt.drifted:
        lines += ["", "## Plans and diffs", "", "What these experiments changed is not what they declared."]
        lines += ["", *(
            f"- #{e.number}: {escape(e.proposal.hypothesis, 120)}: {escape(e.plan_drift)}"
            f"{'; the idea is untried' if e.drops_idea else ''}"
            for e in learnt.drifted[: -_MOST_DRIFTED - 1 : -1]
        )]  # fmt: skip
    return lines[1:] if lines and not lines[0] else lines
