"""How long researchers think and experiments take their slots, and what follows for the queue of proposals.

The rule is `domain.lookahead`; here is what it is fed with. Thinking is measured in this session by the scheduler's own
clock, and taken from the ledger for what earlier sessions saw. What a researcher spent in vain counts towards his next
proposal that can be run, so one who fails often is asked earlier.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter

from autoresearch.campaign.board import Board, Plan
from autoresearch.domain.experiment import Experiment
from autoresearch.domain.lookahead import NOW, OVERDUE, Queue, Span, span_of
from autoresearch.domain.run import Purpose, RunRequest, RunResult

REMEMBERED = 20
"""Durations that an estimate rests on: the newest ones, since models and programs change."""

WAITING_FOR_EACH_SLOT = 2
"""Proposals for each slot that may wait at most, whatever the rule says: each is written without knowing the last."""


class Lookahead:
    """Says whether a researcher is to be asked now.

    Args:
        plan: Its `lookahead` bounds what is written ahead; None leaves it to the rule.
        experiments: Those of earlier sessions.
    """

    def __init__(self, plan: Plan, experiments: Iterable[Experiment]) -> None:
        self._plan = plan
        self._thought: defaultdict[str, list[float]] = defaultdict(list)
        """Seconds for each proposal that could be run, by researcher, what was in vain before it included."""
        self._in_vain: defaultdict[str, float] = defaultdict(float)
        """Seconds since the last one of those."""
        self._runs: deque[tuple[float, bool]] = deque(maxlen=REMEMBERED)
        """How long each of the newest runs took, and whether it was an experiment's first."""
        experiments = sorted(experiments, key=lambda e: e.number)
        answered = [run for e in experiments for run in e.runs if run.result]
        for run in sorted(answered, key=lambda run: run.result.started_at if run.result else 0.0):
            assert run.result is not None
            self.take_run(run.request, run.result)
        for experiment in experiments:
            usage = experiment.proposal.usage
            if usage is not None and usage.seconds is not None:
                self.take_proposal(experiment.researcher, usage.seconds, is_useful=bool(experiment.content))

    def take_run(self, request: RunRequest, result: RunResult) -> None:
        """Remember how long a run took its slot."""
        self._runs.append((result.wall_seconds, request.purpose is Purpose.SCREEN))

    def take_proposal(self, researcher: str, seconds: float, *, is_useful: bool) -> None:
        """Remember how long somebody thought, and whether there is something to run."""
        self._in_vain[researcher] += max(0.0, seconds)
        if is_useful:
            self._thought[researcher] = [*self._thought[researcher][1 - REMEMBERED :], self._in_vain.pop(researcher)]

    def most(self, free: int, slots: int, researchers: int) -> int:
        """How many proposals may wait or be under way, with so many slots, some of them free."""
        ahead = self._plan.lookahead
        return free + (WAITING_FOR_EACH_SLOT * slots + researchers if ahead is None else ahead * slots)

    def is_due(
        self,
        board: Board,
        researcher: str,
        present: Collection[str],
        proposing: Mapping[str, float],
        running: Collection[float],
        slots: int,
    ) -> bool:
        """Whether this researcher's next proposal would come too late if it were begun after the next verdict.

        Args:
            board: What waits for a slot.
            researcher: Who would be asked.
            present: All who can be asked in this session, those at work included.
            proposing: Seconds that each one at work has been thinking.
            running: Seconds that each run has been going on.
            slots: How many there are.
        """
        queue, most = (
            self._queue(board, proposing, running, slots),
            self.most(slots - len(running), slots, len(present)),
        )
        return queue.is_due(self.thinking(researcher, queue.turn), len(present), most)

    def is_in_time(
        self,
        board: Board,
        researcher: str,
        proposing: Mapping[str, float],
        running: Collection[float],
        slots: int,
    ) -> bool:
        """Whether a researcher who is at work is through with this and one more before a slot would wait for it.

        Args:
            board: What waits for a slot.
            researcher: Who is at work.
            proposing: Seconds that each one at work has been thinking.
            running: Seconds that each run has been going on.
            slots: How many there are.
        """
        queue = self._queue(board, proposing, running, slots)
        thinking = self.thinking(researcher, queue.turn)
        return queue.is_in_time(thinking.left_after(proposing[researcher]).then(thinking))

    def _queue(self, board: Board, proposing: Mapping[str, float], running: Collection[float], slots: int) -> Queue:
        run, turn = self._run(), self._turn()
        taken = sorted((_left(run, elapsed) for elapsed in running), key=_mean)
        free = slots - len(taken)
        for _ in (*board.asked, *board.resumed):  # what the judge wants goes before every proposal
            taken = sorted([*taken, run] if free else [taken[0].then(run), *taken[1:]], key=_mean)
            free = max(0, free - 1)
        written = [self.thinking(name, turn) for name in proposing]
        counted_on = [
            span.left_after(elapsed)
            for span, elapsed in zip(written, proposing.values(), strict=True)
            if elapsed <= OVERDUE * (span.mean + span.deviation)
        ]
        return Queue(free, tuple(taken), (*[NOW] * board.num_ready, *counted_on), turn)

    def thinking(self, researcher: str, turn: Span) -> Span:
        """How long a researcher takes for something that can be run; as long as an experiment while nobody knows."""
        return span_of(self._thought.get(researcher, ()), turn.mean)

    def _run(self) -> Span:
        """How long one run takes its slot."""
        return span_of([seconds for seconds, _ in self._runs], self._plan.budget_seconds)

    def _turn(self) -> Span:
        """How long one proposal keeps a slot: its first run, and the runs that the judge asks for beside.

        How many those are varies like the number of rare events: its variance is its mean.
        """
        run, first = self._run(), sum(is_first for _, is_first in self._runs)
        more = (len(self._runs) - first) / first if first else 0.0
        return Span((1 + more) * run.mean, math.hypot(run.deviation, math.sqrt(more) * run.mean))


def _left(run: Span, elapsed: float) -> Span:
    """How long a run still takes its slot; one that lasts longer than others did may last longer still."""
    return Span(max(run.mean - elapsed, run.deviation))


_mean = attrgetter("mean")
