"""Reviews: when one is due, who writes it, and that nothing new is proposed before it stands in the ledger.

    due        so many verdicts since the last one, or so many without a keep: a pure rule of the ledger
    intent     `review began`, with whoever was asked
    act        a short session of an agent, on the figures of `domain.tally`
    result     `review`, with the whole text and its cost; or `review failed`, and somebody else is asked

Whether one is due follows from verdicts and from the reviews that were written, so a kill leaves nothing but an intent
without a result, and the next start asks again. A review that nobody can write, because only the tuner is at work or
because those who can have failed too often, is computed from the figures and says so.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.briefing import make_brief
from autoresearch.campaign.journal import Journal, read_journal, write_review
from autoresearch.campaign.sealed import RowErrors
from autoresearch.campaign.verdicts import Notice, Observe
from autoresearch.domain.learnt import Review
from autoresearch.domain.tally import Tally, counts, tally
from autoresearch.domain.usage import Usage
from autoresearch.domain.verdict import Verdict
from autoresearch.lab.protocol import Workspace
from autoresearch.ledger.ledger import REVIEW_BEGAN, REVIEW_FAILED, Ledger
from autoresearch.researchers.quoting import one_line
from autoresearch.researchers.review import NoReview, Reviewer, ReviewRequest

MOST_ATTEMPTS = 3
"""Failures to write one review after which it is computed: the campaign must not wait for a provider for ever."""

MOST_IN_A_ROW = 4
"""Reviews in a row that somebody failed to write after which he is not asked again in this session."""

HARNESS = "harness"
"""Who a computed review is by."""


@dataclass(frozen=True)
class ReviewTask:
    """Somebody at work on a review."""

    reviewer: str
    number: int


class Reviews:
    """The looks back of one campaign.

    Args:
        plan: Says how often.
        board: The campaign as it stands; what reviews cost is added to what it has cost.
        ledger: Holds every review.
        workspace: Gives whoever writes one the incumbent's code to read.
        reviewers: Whoever can write prose; nobody when empty.
        row_error: As for a brief.
        observe: Told when one begins, is written, or fails.
    """

    def __init__(
        self,
        plan: Plan,
        board: Board,
        ledger: Ledger,
        workspace: Workspace,
        reviewers: Sequence[Reviewer],
        row_error: RowErrors,
        observe: Observe,
    ) -> None:
        self._plan, self._board, self._ledger, self._workspace = plan, board, ledger, workspace
        self._reviewers = {reviewer.name: reviewer for reviewer in reviewers}
        self._row_error, self._observe = row_error, observe
        known = self._journal
        self._written = known.reviews
        self._failures = known.failed
        board.charge(known.cost_usd, known.tokens)
        self._due = Due(plan.review_every, plan.plateau, self._seen)
        self._in_a_row: Counter[str] = Counter()
        """How often each reviewer has failed since the last review of its own."""
        self._away_for: dict[str, float] = {}
        """The last review that asking a reviewer is useless for; infinite when only a person can help."""
        self.under_way: ReviewTask | None = None
        self._is_stopped = False
        """Whether this session is being ended: only then is an interruption nobody's fault."""

    def recover(self) -> list[str]:
        """Answer for sessions that a kill left without a result; one sentence for each."""
        remarks = []
        for number, by in self._journal.begun.items():
            self._fail(ReviewTask(by, number), NoReview("interrupted by the end of its session", interrupted=True))
            remarks.append(f"review {number}: {by} was interrupted while writing it, so it is asked for again")
        return remarks

    @property
    def because(self) -> str | None:
        """Why a review is due; None when none is."""
        return self._due.because(self._board)

    def next(self, *, may_pay: bool) -> tuple[ReviewTask, Callable[[], object]] | None:
        """Begin the review that is due: the task of whoever writes it; None when none is due or it was computed.

        Args:
            may_pay: Whether the campaign's limits leave room for a model.
        """
        because = self.because
        if self.under_way or because is None:
            return None
        number = len(self._written) + 1
        request = self._request(number, because)
        reviewer = self._whose_turn(number) if may_pay else None
        if reviewer is None:
            self._write(computed(request))
            return None
        begun = {"number": number, "by": reviewer.name, "because": because}
        self._ledger.note(self._plan.campaign, REVIEW_BEGAN, json.dumps(begun, ensure_ascii=False))
        best = self._board.best
        desk = self._workspace.desk(best.commit if best and best.commit else self._workspace.base)
        request = replace(request, brief=replace(request.brief, worktree=desk))
        self.under_way = ReviewTask(reviewer.name, number)
        self._observe(Notice("reviewing", text=f"{reviewer.name} looks back because of {because}"))
        return self.under_way, partial(reviewer.review, request)

    def take(self, task: ReviewTask, answer: object) -> None:
        """Take in what a session answered; None stands for one that ended with an error of ours."""
        self.under_way = None
        self._workspace.clear_desk()
        if isinstance(answer, Review):
            self._board.charge(answer.cost_usd or 0.0, _tokens(answer.usage))
            self._write(answer)
        elif isinstance(answer, NoReview):
            self._fail(task, replace(answer, interrupted=answer.interrupted and self._is_stopped))

    def stop(self) -> None:
        """End the session that is under way."""
        self._is_stopped = True
        if self.under_way is not None:
            self._reviewers[self.under_way.reviewer].stop()

    def _fail(self, task: ReviewTask, answer: NoReview) -> None:
        record = {
            "number": task.number, "by": task.reviewer, "reason": one_line(answer.reason, 500),
            "cost_usd": answer.cost_usd, "usage": asdict(answer.usage) if answer.usage else None,
            "interrupted": answer.interrupted,
        }  # fmt: skip
        self._ledger.note(self._plan.campaign, REVIEW_FAILED, json.dumps(record, ensure_ascii=False))
        self._board.charge(answer.cost_usd or 0.0, _tokens(answer.usage))
        if not answer.interrupted:
            self._failures[task.number] = self._failures.get(task.number, 0) + 1
            self._in_a_row[task.reviewer] += 1
            if answer.away_seconds:
                self._away_for[task.reviewer] = math.inf if answer.away_seconds == math.inf else task.number
            self._observe(Notice("review failed", text=f"{task.reviewer}: {answer.reason}"))

    def _write(self, review: Review) -> None:
        write_review(self._ledger, self._plan.campaign, review)
        self._written.append(review)
        self._in_a_row.pop(review.by, None)
        self._due.start_from(review.verdicts)
        self._observe(Notice("review", text=f"{review.number} by {review.by}: {one_line(review.summary)}"))

    def _whose_turn(self, number: int) -> Reviewer | None:
        """Who failed least since his last one, and whose last one is longest ago; None when it is to be computed."""
        if self._failures.get(number, 0) >= MOST_ATTEMPTS:
            return None
        last = {review.by: review.number for review in self._written}
        there = [
            name
            for name in self._reviewers
            if self._away_for.get(name, -1) < number and self._in_a_row[name] < MOST_IN_A_ROW
        ]
        name = min(there, key=lambda name: (self._in_a_row[name], last.get(name, 0)), default=None)
        return None if name is None else self._reviewers[name]

    def _request(self, number: int, because: str) -> ReviewRequest:
        plan, board = self._plan, self._board
        parent = board.best.commit if board.best and board.best.commit else ""
        brief = make_brief(plan, board, self._journal, self._row_error, board.next_number, parent, Path())
        figures = tally(brief.history, seen=self._seen, noise=brief.noise)
        return ReviewRequest(number, because, brief, figures, self._seen)

    @property
    def _journal(self) -> Journal:
        return read_journal(self._ledger.journal(self._plan.campaign))

    @property
    def _seen(self) -> int:
        """Verdicts that the newest review has looked at."""
        return self._written[-1].verdicts if self._written else 0


class Due:
    """Whether a look back is due: a count of verdicts that reads each of them once.

    Args:
        every: Verdicts after which one is due; 0 = never.
        plateau: Verdicts without a keep after which one is due; 0 = never.
        seen: Verdicts that the newest review has looked at.
    """

    def __init__(self, every: int, plateau: int, seen: int = 0) -> None:
        self._every, self._plateau, self._seen = every, plateau, seen
        self._read = self._verdicts = self._last_keep = 0

    def start_from(self, seen: int) -> None:
        """A review has looked at so many verdicts."""
        self._seen = seen

    def because(self, board: Board) -> str | None:
        """Why one is due, as it follows "because of"; None when none is."""
        for experiment in board.history[self._read :]:
            self._read += 1
            if counts(experiment):
                self._verdicts += 1
                self._last_keep = self._verdicts if experiment.verdict is Verdict.KEEP else self._last_keep
        new = self._verdicts - self._seen
        dry = self._verdicts - max(self._last_keep, self._seen)
        if self._plateau and dry >= self._plateau:
            return f"a plateau: no keep in {self._verdicts - self._last_keep} verdicts"
        if self._every and new >= self._every:
            return f"{new} verdicts since the last look back" if self._seen else f"the first {new} verdicts"
        return None


def computed(request: ReviewRequest) -> Review:
    """A review from the figures alone: what they say without anybody's judgement, marked as such."""
    figures = request.tally
    return Review(
        number=request.number,
        by=HARNESS,
        verdicts=figures.verdicts,
        because=request.because,
        summary=_summary(figures),
        patterns=tuple(_patterns(figures))[:8],
        dead_ends=tuple(_dead_ends(figures))[:8],
        next_bets=tuple(_next_bets(request))[:5],
        is_computed=True,
    )


def _summary(figures: Tally) -> str:
    recent = figures.recent
    parts = [f"Of {recent.tried} verdicts since the last review, {recent.kept} kept and {recent.crashed} crashed."]
    if figures.without_keep > recent.tried:
        parts.append(f"Nothing was kept in {figures.without_keep} verdicts.")
    kept = next((gain for gain in figures.gains if gain.verdict is Verdict.KEEP), None)
    if kept is not None:
        luck = "" if kept.luck is None else f" ± {kept.luck:.2g}"
        parts.append(f"The largest gain was {kept.gain:+.2g}{luck}, by #{kept.number}.")
    return " ".join(parts)


def _patterns(figures: Tally) -> list[str]:
    best = sorted((k for k in figures.kinds if k.kept), key=lambda k: -k.kept / k.tried)
    found = [f"{kind.name}: {kind.kept} of {kind.tried} kept ({kind.kept / kind.tried:.0%})" for kind in best]
    for line in figures.predictions:
        if line.count >= 5 and line.bias > 0:
            found.append(f"{line.researcher} promises {line.bias:.2g} too much on average ({line.count} predictions)")
    if figures.drift:
        numbers = ", ".join(f"#{told.number}" for told in figures.drift[:6])
        found.append(f"{len(figures.drift)} diffs departed from their plans ({numbers})")
    return found


def _dead_ends(figures: Tally) -> list[str]:
    found = []
    for knob in figures.exhausted:
        best = "" if knob.best_gain is None else f", the best gain {knob.best_gain:+.2g}"
        found.append(f"{knob.name}: {len(knob.values)} values tried by themselves, none kept{best}")
    found += [f"{kind.name}: 0 of {kind.tried} kept" for kind in figures.kinds if kind.tried >= 5 and not kind.kept]
    found += [
        f"{len(reason.numbers)} experiments crashed alike (last #{reason.numbers[-1]}): {one_line(reason.text, 160)}"
        for reason in figures.crashes
        if len(reason.numbers) > 1
    ]
    if figures.duplicates:
        found.append(f"{len(figures.duplicates)} proposals had been tried before: read what was tried")
    return found


def _next_bets(request: ReviewRequest) -> list[str]:
    """Near-misses, then ideas that nobody took up: the only bets that figures can name."""
    near = [
        f"another look at #{gain.number} ({gain.gain:+.2g}): {one_line(gain.hypothesis, 160)}"
        for gain in request.tally.gains
        if gain.verdict is not Verdict.KEEP
    ]
    return [*near[:3], *(f"open idea {idea.id}: {one_line(idea.text, 160)}" for idea in request.brief.ideas)]


def _tokens(usage: Usage | None) -> int:
    return (usage.tokens or 0) if usage else 0
