"""Between a proposal and its slot: is it sound, new, small enough, and does it come through its first steps?

    guard, syntax, duplicates, memory      at once, in the scheduler's thread; nothing is executed
    preflight                              a few real steps on a slot that is free, for seconds
    a fault                                goes back to the session that wrote the change, so often at most

A preflight takes a slot of its own, as a run does, and never works beside one: on a GPU it would disturb what is being
measured, and on a processor it would take the cores of a run. So it waits for the next slot that is free, and then goes
before the runs that wait, since it is short and its researcher is waiting. It is never evaluated and has no score. A
change of constants by somebody who could not mend it, such as the tuner, goes without: its run would say the same.

A candidate is at fault only where its parent is not: when a preflight fails, the parent makes the same steps. Where it
fails too, it is the preflight that is unfit, and it is switched off for this session.

Durable: the commit stands in the ledger before it is tried, and each preflight before it begins. What a kill leaves is
tried again by the next session, and then has nobody to go back to.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from autoresearch.campaign.board import Board, Plan
from autoresearch.campaign.faults import House, find_fault
from autoresearch.campaign.verdicts import Notice, Observe, with_change, with_drift
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.preflight import Preflight
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult, first_line
from autoresearch.domain.verdict import Verdict
from autoresearch.lab.protocol import Refusal, Workspace
from autoresearch.ledger.ledger import Ledger
from autoresearch.researchers.protocol import Brief, NoProposal, Researcher
from autoresearch.researchers.repair import PRINTED_CHARS, Fault, Repairing, Wrong, together
from autoresearch.runner.protocol import Engine, Slot

MOST_DISTURBED = 2
"""Preflights in a row that said nothing of the candidate, after which it gets its run untried."""

DUPLICATE_RETURNS = 1
"""A researcher that hands in what was tried twice running has no other idea just now."""

_SUSPECT = (Outcome.OUT_OF_MEMORY, Outcome.TIMED_OUT)
"""What may have come from outside: then the parent is asked each time, and not once in a session."""


@dataclass(frozen=True)
class Preflights:
    """How candidates are tried before they get a run."""

    engine: Engine | None = None
    """Makes a few steps; None where the lab declares none."""
    seconds: float = 10.0
    """Budget that a preflight is told."""
    timeout_seconds: float = 120.0
    repairs: int = 2
    """How often a proposal may go back to its researcher."""
    house: House = field(default_factory=House)


@dataclass(frozen=True)
class PreflightTask:
    """A few steps that execute on a slot."""

    slot: Slot
    request: RunRequest
    accused: Fault | None = None
    """What the candidate is accused of while its parent makes the same steps; None for the candidate's own."""
    candidate: int = 0
    """The experiment that this is about."""


@dataclass
class _Held:
    """A proposal on its way, and whoever may mend it."""

    brief: Brief
    returns: int = 0
    """How often it went back."""
    fault: Fault | None = None
    """Why, the last time."""


Admit = Callable[[Experiment], None]
TurnDown = Callable[[Experiment, Verdict, str], None]
Ask = Callable[[str, int, Callable[[], object]], None]
"""Puts a researcher, by name, to work on an experiment."""


class Admission:
    """Proposals that were handed in and have not been let to the slots yet.

    Args:
        plan: What stays fixed.
        board: The campaign as it stands; `unchecked` are those who wait for a preflight, or for what follows from it.
        ledger: Holds every preflight.
        workspace: The lab's repository.
        preflights: How candidates are tried.
        observe: Told of preflights and returns.
        admit: Lets an experiment to the slots.
        turn_down: Ends an experiment without a run.
        ask: Puts its researcher to work on it once more.
        who: The researcher of a name; None for those that are not in this session.
        may_ask: Whether any session may be begun now.
    """

    def __init__(
        self,
        plan: Plan,
        board: Board,
        ledger: Ledger,
        workspace: Workspace,
        preflights: Preflights,
        observe: Observe,
        *,
        admit: Admit,
        turn_down: TurnDown,
        ask: Ask,
        who: Callable[[str], Researcher | None],
        may_ask: Callable[[], bool],
    ) -> None:
        self._plan, self._board, self._ledger, self._workspace = plan, board, ledger, workspace
        self._preflights, self._observe = preflights, observe
        self._admit, self._turn_down = admit, turn_down
        self._ask, self._who, self._may_ask = ask, who, may_ask
        self.under_way: dict[str, PreflightTask] = {}
        """Preflights that execute now, by the name of their slot."""
        self._held: dict[int, _Held] = {}
        self._accused: deque[tuple[int, Fault]] = deque()
        """Candidates that failed and whose parents are still to make the same steps."""
        self._is_sound = False
        """Whether a kept program came through a preflight in this session."""
        self._is_off = preflights.engine is None
        self._unanswered = [experiment.number for experiment in board.experiments if _begun(experiment)]
        """Preflights that an earlier session began and never saw the end of, those of parents among them."""

    @property
    def holds(self) -> set[str]:
        """Researchers with a proposal that is not through: they are at work, although no session is."""
        return {self._board.get(number).researcher for number in self._held}

    def expect(self, number: int, brief: Brief) -> None:
        """Remember what the researcher of an experiment was told, should its change come back."""
        self._held[number] = _Held(brief)

    def stop(self) -> None:
        """End the preflights that execute; the next session makes them again."""
        if self._preflights.engine is not None:
            self._preflights.engine.stop()

    def close(self) -> None:
        """Let go of what only a researcher of this session could have mended; the commits stay, and are tried later."""
        for number in self._board.unchecked:
            self._let_go(self._board.get(number))
            self._workspace.close(number)

    # --- what a researcher hands in ---------------------------------------------------------------------------

    def take_proposal(self, experiment: Experiment, proposal: Proposal) -> None:
        """Commit what stands in the worktree, and let it on, give it back or turn it down."""
        number, held = experiment.number, self._held.get(experiment.number)
        is_mended = held is not None and held.fault is not None
        if is_mended:
            cost, usage = together(experiment.proposal, proposal)
            proposal = replace(proposal, cost_usd=cost, usage=usage)
        before = experiment.commit
        experiment = replace(experiment, proposal=proposal, reason="")
        change = self._workspace.commit(number, experiment.parent, proposal.hypothesis)
        fault: Fault | None
        is_tuning = False
        if isinstance(change, Refusal):
            experiment = replace(experiment, commit=change.commit)
            fault = Fault(Wrong.GUARD, change.reason)
        else:
            experiment = with_drift(with_change(experiment, change), change)
            is_tuning = change.is_constants_only
            rounding = held.brief.rounding if held else None
            fault = find_fault(experiment, change, self._board, self._preflights.house, self._plan.metric, rounding)
        if is_mended and experiment.commit == before:
            assert held is not None and held.fault is not None
            self._end(experiment, held.fault)
        elif fault is not None:
            self._object(experiment, fault)
        elif self._is_off or (is_tuning and not self._may_mend(experiment.researcher)):
            self._let_on(experiment)
        else:
            self._board.put(self._ledger.record(experiment, "written", proposal.hypothesis))
            self._board.unchecked.append(number)

    def give_up(self, experiment: Experiment, answer: NoProposal) -> tuple[Experiment, str]:
        """What stands in the ledger for a researcher that handed in nothing, or mended nothing."""
        held = self._held.pop(experiment.number, None)
        spent = Proposal("", cost_usd=answer.cost_usd, usage=answer.usage)
        if held is None or held.fault is None:
            plan = replace(experiment.proposal, cost_usd=spent.cost_usd, usage=spent.usage)
            return replace(experiment, proposal=plan), answer.reason
        cost, usage = together(experiment.proposal, spent)
        experiment = replace(experiment, proposal=replace(experiment.proposal, cost_usd=cost, usage=usage))
        return experiment, f"{_sentence(held.fault)}; given back, it was not mended: {answer.reason}"

    def _object(self, experiment: Experiment, fault: Fault) -> None:
        """Give a change back, or end it where that is no use."""
        held = self._held.get(experiment.number)
        most = self._preflights.repairs
        most = min(most, DUPLICATE_RETURNS) if fault.what is Wrong.DUPLICATE else most
        is_empty = fault.what is Wrong.GUARD and experiment.commit is None  # no edit at all is an answer, not a mistake
        researcher = self._who(experiment.researcher)
        can_mend = self._may_mend(experiment.researcher) and self._may_ask() and not is_empty
        if held is None or held.returns >= most or not can_mend:
            self._end(experiment, fault)
            return
        self._leave_queue(experiment.number)
        fault = replace(fault, returns_left=most - held.returns - 1)
        # Recorded first: a kill from here on leaves a change that was being mended, which nobody goes on with.
        recorded = self._ledger.record(replace(experiment, reason=_sentence(fault)), "given back", _sentence(fault))
        experiment = self._board.put(recorded)
        held.returns, held.fault = held.returns + 1, fault
        assert isinstance(researcher, Repairing)
        self._ask(experiment.researcher, experiment.number, partial(researcher.repair, held.brief, fault))
        self._observe(Notice("given back", experiment, _sentence(fault)))

    def _may_mend(self, name: str) -> bool:
        """Whether proposals of a researcher may come back to him at all."""
        return self._preflights.repairs > 0 and isinstance(self._who(name), Repairing)

    def _end(self, experiment: Experiment, fault: Fault) -> None:
        self._leave_queue(experiment.number)
        held = self._let_go(experiment)
        verdict = Verdict.DISCARD if fault.what is Wrong.DUPLICATE else Verdict.CRASH
        if fault.what is Wrong.MEMORY and experiment.commit is not None:  # whoever tunes learns where memory ends
            foretold = Preflight(experiment.commit, "", Outcome.OUT_OF_MEMORY, fault.sentence)
            experiment = replace(experiment, preflights=(*experiment.preflights, foretold))
        again = held.returns if held else 0
        times = f"; given back {'once' if again == 1 else f'{again} times'}" if again else ""
        self._turn_down(experiment, verdict, f"{_sentence(fault)}{times}")

    def _let_on(self, experiment: Experiment) -> None:
        self._leave_queue(experiment.number)
        self._let_go(experiment)
        self._admit(experiment)

    def _let_go(self, experiment: Experiment) -> _Held | None:
        """Nobody is to mend it any more. Of what an earlier session left nothing is held: its author may be at work."""
        held = self._held.pop(experiment.number, None)
        researcher = self._who(experiment.researcher)
        if held is not None and isinstance(researcher, Repairing):
            researcher.conclude()
        return held

    def _leave_queue(self, number: int) -> None:
        if number in self._board.unchecked:
            self._board.unchecked.remove(number)

    # --- preflights -----------------------------------------------------------------------------------------------

    def next(self, slot: Slot, homes: frozenset[str]) -> tuple[PreflightTask, Callable[[], RunResult]] | None:
        """The preflight that a free slot is to make now.

        Args:
            slot: The free one.
            homes: Names of all slots: a preflight that may still be executing goes on where it began.
        """
        engine = self._preflights.engine
        if engine is None or self._is_off:
            for number in list(self._board.unchecked):  # of a session that had preflights
                self._let_on(self._board.get(number))
            return None
        if (left := self._next_unanswered(slot.name, homes)) is not None:
            task = self._begin(self._board.get(left), slot, None, left)
        elif accused := self._next_accused():
            number, fault = accused
            task = self._begin(self._parent_of(number), slot, fault, number)
        else:
            candidate = next(filter(self._may_begin, self._board.unchecked), None)
            if candidate is None:
                return None
            task = self._begin(self._board.get(candidate), slot, None, candidate)
        return task, partial(engine.execute, task.request, slot)

    def take(self, task: PreflightTask, result: RunResult | None) -> None:
        """Take in how a preflight ended; None when it failed for a reason of our own."""
        del self.under_way[task.slot.name]
        if result is None:
            return
        tried = self._record(task, result)
        preflight = tried.preflights[-1]
        if preflight.outcome is Outcome.INTERRUPTED:
            return  # it waits where it waited, and the next session tries it again
        if task.accused is not None:
            self._take_parents(task, preflight)
        elif tried.stage is not Stage.PROPOSING:  # a parent's, whose candidate of then waits to be tried once more
            self._is_sound = self._is_sound or preflight.outcome is Outcome.FINISHED
        elif preflight.outcome is Outcome.DISTURBED:
            self._take_disturbed(tried)
        elif preflight.failed:
            self._accuse(tried, preflight)
        else:
            self._let_on(tried)

    def _next_unanswered(self, slot: str, homes: frozenset[str]) -> int | None:
        """Whose preflight may still be executing on a slot since an earlier session: nothing is put beside it."""
        for number in self._unanswered:
            begun = _begun(self._board.get(number))
            if begun is not None and (begun.slot == slot or begun.slot not in homes):
                self._unanswered.remove(number)
                return number
        return None

    def _next_accused(self) -> tuple[int, Fault] | None:
        """A candidate whose parent is to make the same steps now; what is settled meanwhile goes back at once."""
        at_work = [task.request.experiment for task in self.under_way.values()]
        for number, fault in list(self._accused):
            if self._is_sound and self._board.get(number).preflights[-1].outcome not in _SUSPECT:
                self._accused.remove((number, fault))
                self._object(self._board.get(number), fault)
            elif self._parent_of(number).number not in (*at_work, *self._unanswered):
                self._accused.remove((number, fault))
                return number, fault
        return None

    def _parent_of(self, number: int) -> Experiment:
        return self._board.get(self._board.kept.get(self._board.get(number).parent, 0))  # before any keep: #0

    def _may_begin(self, number: int) -> bool:
        at_work = {task.candidate for task in self.under_way.values()} | {accused for accused, _ in self._accused}
        return number not in at_work and number not in self._unanswered

    def _begin(self, experiment: Experiment, slot: Slot, accused: Fault | None, candidate: int) -> PreflightTask:
        assert experiment.commit is not None
        if _begun(experiment) is None:
            preflight = Preflight(experiment.commit, slot.name)
            experiment = replace(experiment, preflights=(*experiment.preflights, preflight))
            experiment = self._board.put(self._ledger.record(experiment, "preflight began", slot.name))
        assert experiment.commit is not None
        request = RunRequest(
            campaign=self._plan.campaign,
            experiment=experiment.number,
            ordinal=len(experiment.preflights) - 1,
            commit=experiment.commit,
            seed=self._plan.seed_for(0),
            budget_seconds=min(self._preflights.seconds, self._plan.budget_seconds),
            timeout_seconds=self._preflights.timeout_seconds,
        )
        task = self.under_way[slot.name] = PreflightTask(slot, request, accused, candidate)
        self._observe(Notice("preflight", experiment, slot.name))
        return task

    def _record(self, task: PreflightTask, result: RunResult) -> Experiment:
        """Write down how a preflight ended; whatever number it printed is left out, since it means nothing."""
        experiment = self._board.get(task.request.experiment)
        # No score was asked for, so none is missed.
        outcome = Outcome.FINISHED if result.outcome is Outcome.NO_METRIC else result.outcome
        detail = "" if outcome is Outcome.FINISHED else self._without_score(result.detail)
        ended = replace(experiment.preflights[-1], outcome=outcome, detail=detail, wall_seconds=result.wall_seconds)
        experiment = replace(experiment, preflights=(*experiment.preflights[:-1], ended))
        return self._board.put(self._ledger.record(experiment, "preflight ended", f"{outcome} {first_line(detail)}"))

    def _without_score(self, detail: str) -> str:
        """What it printed at last, bounded, without lines that may hold a score: nobody is to learn from those."""
        is_score = re.compile(rf"\b{re.escape(self._plan.metric.name)}\W{{1,12}}[-+.\d]")
        kept = "\n".join(line for line in detail.splitlines() if not is_score.search(line))
        last = kept[-2 * PRINTED_CHARS :]
        return last if last == kept else f"{first_line(kept)}\n\n{last}"

    def _take_disturbed(self, experiment: Experiment) -> None:
        """Once more, and then without: what comes from outside is not to keep a change from its run."""
        last = experiment.preflights[-MOST_DISTURBED:]
        if len(last) == MOST_DISTURBED and all(preflight.outcome is Outcome.DISTURBED for preflight in last):
            self._let_on(experiment)

    def _accuse(self, experiment: Experiment, preflight: Preflight) -> None:
        fault = Fault(Wrong.PREFLIGHT, f"{preflight.outcome}: {first_line(preflight.detail)}", preflight.detail)
        if self._is_sound and preflight.outcome not in _SUSPECT:
            self._object(experiment, fault)
        else:
            self._accused.append((experiment.number, fault))

    def _take_parents(self, task: PreflightTask, preflight: Preflight) -> None:
        """A parent that comes through proves the candidate at fault; one that fails proves the preflight unfit."""
        assert task.accused is not None
        candidate = self._board.get(task.candidate)
        if preflight.failed:
            self._is_off = True
            number = task.request.experiment
            text = (
                f"the preflight is switched off for this session, because #{number}, which was kept, fails it too "
                f"({preflight.outcome}: {first_line(preflight.detail)}): see [preflight] in autoresearch.toml"
            )
            self._observe(Notice("unfit", self._board.get(number), text))
            self._accused.clear()
            self._let_on(candidate)  # the others with it, as soon as a slot is free
        elif preflight.outcome is Outcome.FINISHED:
            self._is_sound = True
            self._object(candidate, task.accused)
        else:
            self._let_on(candidate)  # nobody can say


def _begun(experiment: Experiment) -> Preflight | None:
    """A preflight of the present commit that was begun and has no answer yet."""
    last = experiment.preflights[-1] if experiment.preflights else None
    return last if last is not None and last.outcome is None and last.commit == experiment.commit else None


def _sentence(fault: Fault) -> str:
    """A fault as the ledger tells it."""
    return f"preflight: {fault.sentence}" if fault.what is Wrong.PREFLIGHT else fault.sentence
