"""The loop: researchers propose, slots run, the judge decides.

    while there is something to do:
        give every free slot a run and every idle researcher a brief
        wait for whichever ends first, and take it in

That is all of it, for one laptop and for a cluster. One thread owns the state; whatever blocks (a researcher
at work, a run on a slot) is a task elsewhere and comes back as an event. The ledger is written before each
act and after each result, so the loop may be killed between any two lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from autoresearch.campaign.admission import Admission, Preflights, PreflightTask
from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.briefing import make_brief
from autoresearch.campaign.derive import Automatic, Devotion, Wishes
from autoresearch.campaign.disturbance import Disturbances, weigh
from autoresearch.campaign.journal import OpenJournal
from autoresearch.campaign.lookahead import Lookahead
from autoresearch.campaign.recovery import recover
from autoresearch.campaign.reviews import Reviews, ReviewTask
from autoresearch.campaign.sealed import RowErrors, Sealed
from autoresearch.campaign.submission import Submissions
from autoresearch.campaign.tasks import Done, Tasks
from autoresearch.campaign.turns import Turn, Turns
from autoresearch.campaign.verdicts import Export, Notice, Observe, Verdicts
from autoresearch.domain.budget import Limits
from autoresearch.domain.disturbance import is_judged_anyway
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, first_line
from autoresearch.domain.verdict import Verdict
from autoresearch.host.clock import Clock
from autoresearch.judge.policy import Policy
from autoresearch.lab.protocol import Workspace
from autoresearch.ledger.ledger import Ledger
from autoresearch.researchers.protocol import Brief, NoProposal, Researcher
from autoresearch.researchers.review import Reviewer
from autoresearch.runner.protocol import Engine, Slot

LOOK_SECONDS = 1.0
"""How often the scheduler looks whether somebody has handed something in: soon for a person, nothing for a machine."""

DRAIN_SECONDS = 10.0
"""How long a failing session waits for each run that it stopped: the grace of a run and a little more."""


@dataclass(frozen=True)
class RunTask:
    """A run that executes on a slot."""

    slot: Slot
    request: RunRequest
    began_at: float = 0.0
    """Unix seconds, in this session."""


@dataclass(frozen=True)
class ProposalTask:
    """A researcher at work."""

    researcher: str
    number: int
    began_at: float = 0.0
    """Unix seconds."""


Task = RunTask | ProposalTask | ReviewTask | PreflightTask


class Scheduler:
    """One campaign, from wherever the ledger says it stands to the end of its limits.

    Args:
        plan: What stays fixed.
        ledger: Holds the campaign already; everything else is recorded here.
        workspace: The lab's repository.
        engine: Provides the slots.
        researchers: They work side by side.
        policy: The judge.
        tasks: Threads, or virtual time.
        clock: The time that limits and records are measured in.
        limits: When to stop.
        export: Writes each decided experiment to results.tsv.
        observe: Told of everything worth a line on the screen.
        row_error: Says how much a gain of one experiment over another hangs on the choice of validation rows.
        submissions: What people and agents hand in from checkouts of their own; nobody does if None.
        reviewers: Who may be asked to look back at what was tried.
        preflights: How a few steps of each proposal are made before it gets a run; none are by default.
        serves: Researcher → what it may be asked for; all of it for one that is not there.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        workspace: Workspace,
        engine: Engine,
        researchers: Sequence[Researcher],
        policy: Policy,
        tasks: Tasks[Task],
        clock: Clock,
        limits: Limits,
        export: Export = lambda experiment: None,
        observe: Observe = lambda notice: None,
        row_error: RowErrors = lambda baseline, incumbent: None,
        submissions: Submissions | None = None,
        reviewers: Sequence[Reviewer] = (),
        preflights: Preflights | None = None,
        serves: Mapping[str, Sequence[Operator]] | None = None,
    ) -> None:
        self.board = Board(ledger.experiments(plan.campaign))
        self.running: dict[str, RunTask] = {}
        """Runs that execute now, by the name of their slot."""
        self.proposing: dict[str, ProposalTask] = {}
        """Researchers at work now, by name."""
        self.stopping: str | None = None
        """Why nothing new is begun any more; None while the campaign goes on."""
        self._plan = plan
        self._ledger = ledger
        self._journal = OpenJournal(ledger, plan.campaign)
        self._workspace = workspace
        self._engine = engine
        self._tasks = tasks
        self._clock = clock
        self.limits = limits
        self._observe = observe
        self._submissions = submissions
        self._turns = Turns(researchers, plan, self.board, clock, serves)
        self._wishes: Wishes = Automatic(plan)
        self.devotion: Devotion | None = None
        """What a person asked for when nothing else is to get a slot."""
        self.disturbances = Disturbances(plan.tolerance, len(engine.slots), plan.budget_seconds)
        self._verdicts = Verdicts(plan, self.board, ledger, workspace, policy, export, observe)
        self._row_error = row_error
        self.reviews = Reviews(plan, self.board, ledger, workspace, reviewers, row_error, observe)
        self.admission = Admission(
            plan, self.board, ledger, workspace, preflights or Preflights(), observe,
            admit=self._admit, turn_down=self._refuse, ask=self._ask,
            who=lambda name: self._turns.members.get(name),  # noqa: PLW0108 - `devote` puts others there
            may_ask=lambda: not self.stopping and self._spent(0) is None,
        )  # fmt: skip
        self._lookahead = Lookahead(plan, self.board.experiments)
        self._sealed = Sealed(plan, self.board, ledger, observe, row_error)
        self.began_at = clock.now()
        """When this session began, in Unix seconds."""
        self._unpriced: set[str] = set()
        """Researchers of whom it was said that nobody knows what they cost."""

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Go on until a limit is reached, a person stops it or nobody has anything left to propose.

        Returns:
            Why it ended, in one sentence.

        Raises:
            AutoResearchError: Our own failure; the ledger is consistent, and the next start goes on from it.
        """
        remarks = recover(self._plan, self.board, self._ledger, self._workspace, self._verdicts)
        for remark in (*remarks, *self.reviews.recover()):
            self._observe(Notice("recovered", text=remark))
        self._sealed.settle()
        try:
            while True:
                self._dispatch()
                is_idle = not (self.running or self.proposing or self.admission.under_way or self.reviews.under_way)
                if is_idle and self._rest_seconds() is None and self._slot_rest() is None:
                    self.admission.close()
                    return self._why_over()
                done = self._tasks.wait(self._wait_seconds())
                if done is not None:
                    self._take(done)
        except Exception:
            self.stop_now("stopped by a failure")
            self._drain()
            raise

    def devote(self, wishes: Devotion) -> None:
        """Make only what a person asked for: nobody proposes, what was proposed before waits, no limit holds."""
        self._wishes = self.devotion = wishes
        self._turns.dismiss()
        self.limits = Limits()

    def finish(self, reason: str) -> None:
        """Begin nothing new, let what is under way end; callable from a signal handler."""
        self.stopping = self.stopping or reason
        self._tasks.wake()

    def stop_now(self, reason: str) -> None:
        """End what is under way; interrupted runs are made again by the next session."""
        self.finish(reason)
        self._engine.stop()
        for name in self.proposing:
            self._turns.members[name].stop()
        self.admission.stop()
        self.reviews.stop()

    def _drain(self) -> None:
        """Give what was told to stop the time to do so; its answers are read by the next session."""
        at_work = (self.running, self.proposing, self.admission.under_way, self.reviews.under_way and [1])
        for _ in range(sum(len(each or ()) for each in at_work) + 1):  # and the wake of `finish`
            self._tasks.wait(DRAIN_SECONDS)

    def _dispatch(self) -> None:
        """Give every free slot a run and every idle researcher a brief, as far as there is need."""
        self._check_limits()
        self._take_submissions()
        homes = frozenset(slot.name for slot in self._engine.slots)
        for slot in self._engine.slots:
            is_busy = slot.name in self.running or slot.name in self.admission.under_way
            if self.stopping or is_busy or self.disturbances.is_resting(slot.name, self._clock.now()):
                continue
            is_taken_up = any(home == slot.name for _, _, home in self.board.resumed)  # it may still be executing
            if not (self.devotion or is_taken_up) and (preflight := self.admission.next(slot, homes)):
                self._tasks.start(*preflight)
            elif work := self._next_run(slot):
                self._start_run(*work, slot)
        # After the slots: a proposal that gets none is a verdict, by which a look back may be due.
        if not (self.stopping or self.devotion) and (due := self.reviews.next(may_pay=self._spent(0) is None)):
            self._tasks.start(*due)
        while not self.stopping and self._wants_proposal() and (turn := self._next_turn()) and self._is_due(turn):
            self._start_proposal(turn)

    def _take(self, done: Done[Task]) -> None:
        """Take in whatever ended."""
        match done.key:
            case RunTask(slot):
                del self.running[slot.name]
            case ReviewTask():
                self.reviews.take(done.key, done.result)
            case PreflightTask() as preflight:
                self.admission.take(preflight, done.result if isinstance(done.result, RunResult) else None)
            case ProposalTask(name):
                del self.proposing[name]
        if done.error is not None:
            raise done.error
        match done.key, done.result:
            case RunTask(slot, request, _), RunResult() as result:
                self._take_result(request, slot, result)
            case ProposalTask(name, number, began_at), (Proposal() | NoProposal()) as proposal:
                self._take_proposal(number, proposal)
                is_useful = self.board.get(number).verdict is None and name not in self.proposing
                self._lookahead.take_proposal(name, self._clock.now() - began_at, is_useful=is_useful)

    # --- runs -------------------------------------------------------------------------------------------------

    def _next_run(self, slot: Slot) -> tuple[Experiment, RunRequest | None] | None:
        """The most urgent run: one that was interrupted, one that the judge or an audit wants, a proposal."""
        board = self.board
        for resumed in board.resumed:
            number, request, home = resumed
            # It may still be executing where it began, so nowhere else, unless that slot is gone.
            if home == slot.name or home not in {other.name for other in self._engine.slots}:
                board.resumed.remove(resumed)
                return board.get(number), request
        if board.asked:
            return board.get(board.asked.popleft()), None
        if not self.devotion and (audit := self._sealed.next()) is not None:
            return audit
        self._derive()
        while (experiment := self._next_proposal()) is not None:
            if (ready := self._made_ready(experiment)) is not None:
                return ready, None
        return None

    def _derive(self) -> None:
        """Put the next experiment that nobody has to write before all proposals, when one is due."""
        fresh = self.board.fresh
        if not (self.board.derived.keys().isdisjoint(fresh) and self.board.submitted.isdisjoint(fresh)):
            return
        board, room = self.board, self._spent(self.board.tried + len(self.proposing)) is None
        while (wish := self._wishes.next(board, room)) is not None and board.best is not None:
            parent = board.best.commit
            assert parent is not None
            experiment = Experiment(
                self._plan.campaign, board.next_number, wish.researcher, parent, proposal=wish.proposal
            )
            experiment = board.put(self._ledger.begin_experiment(experiment))
            if derived := self._verdicts.derive(experiment):
                board.fresh.appendleft(derived.number)
                self._observe(Notice("proposed", derived, wish.proposal.hypothesis))
                return

    def _next_proposal(self) -> Experiment | None:
        """Take the next proposal that may run."""
        fresh, board = self.board.fresh, self.board
        if board.best is None:
            return None
        wanted = (n for n in fresh if not self.devotion or n in board.derived)
        number = next((n for n in fresh if board.is_submitted(n)), None)  # first, since somebody may be waiting
        number = next(wanted, None) if number is None else number
        if number is None:
            return None
        fresh.remove(number)
        return self.board.get(number)

    def _made_ready(self, experiment: Experiment) -> Experiment | None:
        """A proposal on the incumbent of now; None when there is nothing to run."""
        board = self.board
        assert board.best is not None
        if experiment.parent != board.best.commit:
            rebased = self._verdicts.rebase(experiment)
            if rebased is None:
                return None
            experiment = rebased
        if experiment.proposal.kind.is_derived:  # it may be a program of before: then it is measured once more
            return experiment
        if (twin := board.twin_of(experiment)) is not None:  # as others saw it on another parent
            self._refuse(experiment, Verdict.DISCARD, f"the same program as #{twin}, which has been run")
            return None
        self._turns.accept(experiment.researcher)
        return experiment

    def _start_run(self, experiment: Experiment, request: RunRequest | None, slot: Slot) -> None:
        request = request or self._request(experiment)
        if all(run.request != request for run in experiment.runs):
            experiment = self.board.put(self._ledger.begin_run(experiment, request, slot.name))
        task = RunTask(slot, request, self._clock.now())
        self.running[slot.name] = task
        self._observe(Notice("run", experiment, slot.name))
        self._tasks.start(task, partial(self._engine.execute, request, slot))

    def _request(self, experiment: Experiment) -> RunRequest:
        """The next run of an experiment: the first of the seeds that every commit uses, in the same order.

        What a derived experiment's program has been measured under before is left out: the same number once more
        would be no evidence.
        """
        assert experiment.commit is not None
        used = {run.request.seed for run in experiment.standing_runs}
        if experiment.proposal.kind.is_derived and experiment.stage is Stage.PROPOSED:
            twin = self.board.twin_of(experiment)
            used |= set() if twin is None else set(self.board.get(twin).sample.seeds)
        replicate = next(j for j in count() if self._plan.seed_for(j) not in used)
        return RunRequest(
            campaign=self._plan.campaign,
            experiment=experiment.number,
            ordinal=len(experiment.runs),
            commit=experiment.commit,
            seed=self._plan.seed_for(replicate),
            budget_seconds=self._plan.budget_seconds,
            timeout_seconds=self._plan.timeout_seconds,
            purpose=Purpose.REPLICATE if experiment.standing_runs else Purpose.SCREEN,
        )

    def _take_result(self, request: RunRequest, slot: Slot, result: RunResult) -> None:
        incumbent = self.board.incumbent
        result = weigh(self.board.runs_beside(request, slot.name), request, slot.name, result, self._plan.tolerance)
        self._take_disturbance(request, slot, result)
        experiment = self.board.get(request.experiment)
        experiment = self.board.put(self._ledger.finish_run(experiment, request, result))
        self._lookahead.take_run(request, result)
        self._observe(Notice("ran", experiment, result.outcome))
        if request.purpose is Purpose.AUDIT:
            self._sealed.settle()
        elif request.purpose.is_evidence and not (self.stopping and result.outcome.is_repeatable):
            self._verdicts.consider(request.experiment)
        self._turns.run_ended(is_elsewhere=incumbent is not None and self.board.incumbent != incumbent)

    def _take_disturbance(self, request: RunRequest, slot: Slot, result: RunResult) -> None:
        """Say loudly that a run does not count, or counts although it was slow; let its slot rest."""
        experiment = self.board.get(request.experiment)
        self.disturbances.take(slot.name, result, self._clock.now())
        if is_judged_anyway(result):
            self._observe(Notice("slow", experiment, first_line(result.detail)))
        if result.outcome is Outcome.DISTURBED:
            retries = self._plan.tolerance.retries
            again = f"It is made again, {retries} times at most." if retries else ""
            self._observe(Notice("disturbed", experiment, f"{first_line(result.detail)} {again}".strip()))
        if self.disturbances.end and not self.stopping:
            self.stopping = self.disturbances.end
            self._observe(Notice("stopping", text=self.stopping))

    # --- proposals --------------------------------------------------------------------------------------------

    def _take_submissions(self) -> None:
        """Make an experiment of everything that was handed in; a person's wish is above the limits.

        The record comes first and names the submission, so that a kill leaves either a submission that waits, or an
        experiment that recovery goes on with, and never two experiments.
        """
        best = self.board.best
        if self._submissions is None or self.stopping or best is None:
            return
        for submission in self._submissions.waiting():
            if self._ledger.submitted(submission.commit) is None:
                assert best.commit is not None
                number, proposal = self.board.next_number, submission.proposal
                experiment = Experiment(
                    self._plan.campaign, number, submission.researcher, best.commit, proposal=proposal
                )
                experiment = self.board.put(self._ledger.begin_experiment(experiment))
                self._submissions.forget(submission.commit)
                if derived := self._verdicts.derive(experiment):
                    self.board.fresh.append(number)
                    self._observe(Notice("proposed", derived, proposal.hypothesis))
            else:
                self._submissions.forget(submission.commit)

    def _wants_proposal(self) -> bool:
        """Whether one more proposal is allowed, and may be needed to keep the slots busy."""
        if self.reviews.because or self._spent(self.board.tried + len(self.proposing)):
            return False
        slots, backlog = len(self._engine.slots), self.board.num_ready + len(self.proposing)
        return backlog < self._lookahead.most(slots - len(self.running), slots, len(self._turns.members))

    def _is_due(self, turn: Turn) -> bool:
        """Whether this researcher has to begin now, because after the next verdict would be too late for a slot."""
        now, slots = self._clock.now(), len(self._engine.slots)
        proposing = {name: now - task.began_at for name, task in self.proposing.items()}
        running = [now - task.began_at for task in self.running.values()]
        board, name, favourite = self.board, turn.researcher.name, turn.favourite
        if favourite in proposing and self._lookahead.is_in_time(board, favourite, proposing, running, slots):
            return False  # nobody else is asked in the place of one who will be there soon enough
        return self._lookahead.is_due(board, name, self._turns.present, proposing, running, slots)

    def _next_turn(self) -> Turn | None:
        """Who of those that have nothing to do is asked next, and for what."""
        busy = {*self.proposing, *self.admission.holds}
        return self._turns.next(busy.__contains__)

    def _rest_seconds(self) -> float | None:
        """How long until somebody who failed may be asked again."""
        return None if self.stopping or not self._wants_proposal() else self._turns.seconds_of_rest()

    def _slot_rest(self) -> float | None:
        """How long until a slot that rests may be tried again, as long as there may be work for it."""
        board = self.board
        waiting = (board.asked, board.resumed, board.fresh, board.unchecked)
        has_work = any(waiting) or self.devotion or self._spent(board.tried) is None
        return self.disturbances.seconds_of_rest(self._clock.now()) if has_work and not self.stopping else None

    def _start_proposal(self, turn: Turn) -> None:
        researcher = turn.researcher
        parent = self.board.best.commit if self.board.best else self._workspace.base
        assert parent is not None
        number = self.board.next_number
        experiment = Experiment(self._plan.campaign, number, researcher.name, parent, operator=turn.operator)
        experiment = self.board.put(self._ledger.begin_experiment(experiment))
        task = ProposalTask(researcher.name, number, experiment.created_at)
        self.proposing[researcher.name] = task
        brief = self._brief(experiment)
        self.admission.expect(number, brief)
        self._observe(Notice("proposing", experiment))
        self._tasks.start(task, partial(researcher.propose, brief))

    def _brief(self, experiment: Experiment) -> Brief:
        number, parent = experiment.number, experiment.parent
        journal, worktree = self._journal.read(), self._workspace.open(number, parent)
        board, hours = self.board, (self._clock.now() - self.began_at) / 3600
        tried = board.tried + len(self.proposing)
        left = self.limits.left(experiments=tried, hours=hours, cost_usd=board.cost_usd, tokens=board.tokens)
        return make_brief(self._plan, board, journal, self._row_error, number, parent, worktree, left)

    def _take_proposal(self, number: int, proposal: Proposal | NoProposal) -> None:
        experiment = self.board.get(number)
        if isinstance(proposal, Proposal):
            self._tell_unpriced(replace(experiment, proposal=proposal))
            self.admission.take_proposal(experiment, proposal)
            return
        experiment, reason = self.admission.give_up(experiment, proposal)
        if proposal.interrupted and self.stopping:
            self._verdicts.decide(experiment, Verdict.CRASH, reason)
        else:
            self._refuse(experiment, Verdict.CRASH, reason, proposal.away_seconds)

    def _admit(self, experiment: Experiment) -> None:
        """Let a proposal that nothing speaks against wait for a slot."""
        hypothesis = experiment.proposal.hypothesis
        experiment = replace(experiment, stage=Stage.PROPOSED)
        self.board.put(self._ledger.record(experiment, "proposed", hypothesis))
        self.board.fresh.append(experiment.number)
        self._workspace.close(experiment.number)
        self._observe(Notice("proposed", experiment, hypothesis))

    def _ask(self, name: str, number: int, work: Callable[[], object]) -> None:
        task = self.proposing[name] = ProposalTask(name, number, self._clock.now())
        self._tasks.start(task, work)

    def _tell_unpriced(self, experiment: Experiment) -> None:
        """Say once of each researcher that a limit in dollars does not see what its model costs."""
        plan, name = experiment.proposal, experiment.researcher
        is_paid_for = plan.usage is not None and bool(plan.usage.tokens)
        if self.limits.cost_usd is None or plan.cost_usd is not None or not is_paid_for or name in self._unpriced:
            return
        self._unpriced.add(name)
        text = f"what {name} costs is unknown, so the limit of ${self.limits.cost_usd:g} does not hold for it: set "
        cure = "usd_per_million_tokens of this researcher in autoresearch.toml, or a limit in tokens"
        self._observe(Notice("cost", text=f"{text}{cure}"))

    def _refuse(self, experiment: Experiment, verdict: Verdict, reason: str, away_seconds: float = 0.0) -> None:
        """End an experiment that is not worth a run, and remember it against its researcher."""
        self._turns.refuse(experiment.researcher, reason, away_seconds)
        self._verdicts.decide(experiment, verdict, reason)

    # --- limits -----------------------------------------------------------------------------------------------

    def _check_limits(self) -> None:
        """Whether everything has to stop: nothing new is begun, what is proposed waits for the next session."""
        baseline, over = self.board.get(0), None
        if self._seconds_left() == 0:
            over = f"the {self.limits.hours:g} h of this session are over"
        if baseline.verdict is Verdict.CRASH:
            over = f"the baseline did not run ({baseline.reason.rstrip('.')}): {_cure_of(baseline)}, and start again"
        if over and not self.stopping:
            self.stopping = over
            self._observe(Notice("stopping", text=over))

    def _spent(self, experiments: int) -> str | None:
        """Whether nothing more may be proposed; what is proposed already is run and judged all the same."""
        board = self.board
        return self.limits.spent(experiments=experiments, cost_usd=board.cost_usd, tokens=board.tokens)

    def _seconds_left(self) -> float | None:
        if self.limits.hours is None or self.stopping:
            return None
        return max(0.0, self.began_at + self.limits.hours * 3600 - self._clock.now())

    def _wait_seconds(self) -> float | None:
        look = None if self._submissions is None or self.stopping else LOOK_SECONDS
        waits = (self._seconds_left(), self._rest_seconds(), self._slot_rest(), look)
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _why_over(self) -> str:
        if self.stopping:
            return self.stopping
        if self.devotion:
            return "everything that was asked for is measured"
        over = self._spent(self.board.tried)
        return over or f"no researcher has anything more to propose ({self._turns.last_words()})"


def _cure_of(baseline: Experiment) -> str:
    """What a person can do about a baseline without a score."""
    if baseline.failure is not None and baseline.failure.outcome is Outcome.TIMED_OUT:
        return (
            "close what else keeps this machine busy, or raise budget.timeout_seconds in autoresearch.toml and commit"
        )
    if baseline.was_only_disturbed:
        return "see what disturbs this machine, or widen telemetry.band in autoresearch.toml and commit"
    return "mend the lab, commit"
