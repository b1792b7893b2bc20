"""What is going on now: the campaign's state in memory, rebuilt from the ledger at every start."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from autoresearch.domain.budget import BRIEF_TOKENS
from autoresearch.domain.disturbance import DEFAULT_TOLERANCE, Tolerance
from autoresearch.domain.experiment import Experiment, Run, Stage, order_of_verdicts
from autoresearch.domain.learnt import Ideas
from autoresearch.domain.metric import Metric
from autoresearch.domain.near_miss import NearMiss, NearMisses
from autoresearch.domain.run import Outcome, RunRequest, seed_of
from autoresearch.domain.verdict import Verdict
from autoresearch.judge.disturbance import KEPT_TELEMETRY, MOST_EARLIER
from autoresearch.judge.noise import Spread, spread_of


@dataclass(frozen=True)
class Plan:
    """What stays fixed while a campaign runs."""

    campaign: str
    metric: Metric
    seed: int
    budget_seconds: float
    timeout_seconds: float
    editable: tuple[str, ...] = ()
    program: str = ""
    hardware: dict[str, object] = field(default_factory=dict)
    machine: tuple[str, ...] = ()
    """What briefs say of the machine, in sentences."""
    brief_tokens: int = BRIEF_TOKENS
    """How long a brief's page may be."""
    baseline_runs: int = 2
    """Runs of the untouched lab under fresh seeds, so that the noise is measured before anything is judged."""
    lookahead: int | None = None
    """Proposals that may be written ahead for each slot; None = as many as keep slots from waiting."""
    patience: int = 10
    """Fruitless proposals in a row after which a researcher is sent home for this session."""
    prune_every: int = 0
    """Keeps after which each kept change is taken away once to see whether it earns its lines; 0 = never."""
    retest_share: float = 0.0
    """Share of experiments that may be second looks at near-misses."""
    review_every: int = 0
    """Verdicts after which somebody has to look back before anything new is proposed; 0 = never."""
    plateau: int = 0
    """Verdicts without a keep after which the same is due; 0 = never."""

    usd_per_slot_hour: float = 2.0
    """What an hour of a slot is worth beside the dollars that proposals cost."""
    elsewhere: tuple[NearMiss, ...] = ()
    """What other campaigns of this lab kept, for whoever combines."""
    audit_every: int = 0
    """Keeps after which the incumbent is compared with the baseline on sealed data; 0 = never."""
    rotations_left: int = 0
    """Sets of validation data that this lab has not used yet."""
    tolerance: Tolerance = DEFAULT_TOLERANCE
    """What is still taken for a quiet machine."""

    def seed_for(self, replicate: int) -> int:
        """The seed of replicate `replicate`, the same for every commit."""
        return seed_of(self.seed, replicate)


class Board:
    """Live experiments, settled history, the incumbent, and who waits for what.

    Not durable and not thread-safe: the scheduler's thread owns it, others only look.
    """

    def __init__(self, experiments: Iterable[Experiment] = ()) -> None:
        self.live: dict[int, Experiment] = {}
        self.history: list[Experiment] = []
        """Settled experiments in the order of their verdicts."""
        self.kept: dict[str, int] = {}
        """Commit of each kept experiment → its number."""
        self.incumbent: int | None = None
        self.resumed: deque[tuple[int, RunRequest, str]] = deque()
        """Runs that an earlier session intended and never saw the end of: experiment, request, slot's name."""
        self.asked: deque[int] = deque()
        """Experiments of which the judge wants one more run, the incumbent among them."""
        self.fresh: deque[int] = deque()
        """Proposals that wait for their first run."""
        self.unchecked: list[int] = []
        """Proposals that were handed in and are still to come through a preflight."""
        self.waiting: set[int] = set()
        """Candidates whose case rests until the incumbent has been run again."""
        self.derived: dict[int, Experiment] = {}
        """Experiments that nobody wrote: removals and second looks, by number."""
        self.submitted: set[int] = set()
        """Experiments that somebody handed in and may be waiting for."""
        self.cost_usd = 0.0
        """What all proposals cost together, as far as their researchers know."""
        self.tokens = 0
        """What models read and wrote for them, as far as it is known."""
        self.next_number = 0
        """The first number not taken."""
        self.last_of: dict[str, int] = {}
        """Researcher → the number of its newest experiment."""
        self.last_written: dict[str, int] = {}
        """Researcher → the number of its newest experiment that has a commit."""
        self.near_misses = NearMisses()
        """What nearly helped, and what of it was tried together."""
        self.ideas = Ideas()
        """What waits for somebody to try it."""
        self._experiments: dict[int, Experiment] = {}
        self._position: dict[int, int] = {}
        self._places: dict[int, int] = {}
        self._programs: dict[str, int] = {}
        """Content and meaning of each program that had a run → the first experiment that ran it."""
        self._tried: set[int] = set()
        self._failed_before: defaultdict[str, list[int]] = defaultdict(list)
        """Content and meaning of each program that failed before its run → the experiments that proposed it."""
        self._noise = Spread()
        self._spreads: list[tuple[Spread, Spread]] = []
        """Of each experiment that repeats a commit: its own spread, and that pooled with all before it."""
        self._spread_at: dict[int, int] = {}
        self._newest_on: defaultdict[str, list[Run]] = defaultdict(list)
        """Slot → the newest runs that finished there, oldest first."""
        for experiment in sorted(experiments, key=order_of_verdicts):
            self.put(experiment)

    def put(self, experiment: Experiment) -> Experiment:
        """Take in the newest record of an experiment."""
        if experiment.stage is Stage.SETTLED:
            experiment = _lean(experiment)
        before = self._experiments.get(experiment.number)
        self._experiments[experiment.number] = experiment
        self.cost_usd += (experiment.proposal.cost_usd or 0.0) - (before.proposal.cost_usd or 0.0 if before else 0.0)
        self.tokens += _tokens(experiment) - (_tokens(before) if before else 0)
        self.next_number = max(self.next_number, experiment.number + 1)
        self.last_of[experiment.researcher] = max(self.last_of.get(experiment.researcher, -1), experiment.number)
        if experiment.commit is not None:
            newest = self.last_written.get(experiment.researcher, -1)
            self.last_written[experiment.researcher] = max(newest, experiment.number)
        if experiment.proposal.kind.is_derived:
            self.derived[experiment.number] = experiment
        if experiment.proposal.submitted is not None:
            self.submitted.add(experiment.number)
        if experiment.runs and not experiment.is_baseline:
            self._tried.add(experiment.number)
        if experiment.runs and experiment.content:
            for name in filter(None, (experiment.content, experiment.meaning)):
                self._programs.setdefault(name, experiment.number)
            if experiment.stage is Stage.SETTLED and experiment.was_only_disturbed:
                self._programs = {c: n for c, n in self._programs.items() if n != experiment.number}
        if experiment.stage is Stage.SETTLED:
            self._settle(experiment)
        else:
            self.live[experiment.number] = experiment
        if experiment.verdict is Verdict.KEEP and experiment.commit not in self.kept:
            assert experiment.commit is not None
            self._places[experiment.number] = len(self.kept)
            self.kept[experiment.commit] = experiment.number
            self.incumbent = experiment.number
        self._spread_of(experiment)
        self._remember_finished(experiment, before)
        return experiment

    def get(self, number: int) -> Experiment:
        """The newest record of experiment `number`."""
        return self._experiments[number]

    @property
    def experiments(self) -> list[Experiment]:
        """The newest record of each, by the order in which they came."""
        return list(self._experiments.values())

    @property
    def best(self) -> Experiment | None:
        """The incumbent's record, None until the baseline is measured."""
        return None if self.incumbent is None else self._experiments[self.incumbent]

    @property
    def noise(self) -> float | None:
        """Pooled standard deviation of identical runs under different seeds; None below one repeated commit."""
        return self._noise.deviation

    @property
    def tried(self) -> int:
        """Experiments that count against the limit: those that had a run or wait for one, without the baseline."""
        return len(self._tried) + self.num_ready

    @property
    def num_ready(self) -> int:
        """Proposals that are written and wait for a slot."""
        return len(self.fresh) + len(self.unchecked)

    def charge(self, cost_usd: float, tokens: int) -> None:
        """Add what was spent on something else than a proposal; limits hold for it too."""
        self.cost_usd += cost_usd
        self.tokens += tokens

    def is_submitted(self, number: int) -> bool:
        """Whether somebody handed an experiment in and may be waiting for its verdict."""
        return number in self.submitted

    def twin_of(self, experiment: Experiment) -> int | None:
        """The other experiment whose runs measured the same program, however it is written; None if there is none."""
        found = (self._programs.get(name) for name in (experiment.content, experiment.meaning) if name)
        return next((twin for twin in found if twin not in (None, experiment.number)), None)

    def runs_beside(self, request: RunRequest, slot: str) -> list[Run]:
        """What a run is compared with: the runs of its experiment, and the newest that finished on its slot."""
        elsewhere = (run for run in self._newest_on[slot] if run.request.experiment != request.experiment)
        return [*self._experiments[request.experiment].runs, *elsewhere]

    def failed_before_its_run(self, experiment: Experiment) -> list[int]:
        """Settled experiments with a program of one of this one's names, which a preflight found unfit."""
        return [n for name in (experiment.content, experiment.meaning) for n in self._failed_before.get(name, ())]

    def parent_of(self, experiment: Experiment) -> Experiment:
        """The kept experiment that `experiment` was written against."""
        return self._experiments[self.kept[experiment.parent]]

    def place_of(self, number: int) -> int:
        """Where a kept experiment stands on the campaign's branch; the baseline is at 0."""
        return self._places[number]

    def withdraw(self, number: int) -> None:
        """Ask for no more runs of an experiment."""
        self.asked = deque(asked for asked in self.asked if asked != number)

    def forget_waiting(self) -> list[int]:
        """Take every case that waits for the incumbent."""
        waiting, self.waiting = sorted(self.waiting), set()
        return waiting

    def _settle(self, experiment: Experiment) -> None:
        self.live.pop(experiment.number, None)
        position = self._position.setdefault(experiment.number, len(self.history))
        if position == len(self.history):
            self.near_misses.learn(experiment)
            self.ideas.learn(experiment)
            if experiment.preflights and experiment.preflights[-1].failed:
                for name in filter(None, (experiment.content, experiment.meaning)):
                    self._failed_before[name].append(experiment.number)
        self.history[position : position + 1] = [experiment]

    def _remember_finished(self, experiment: Experiment, before: Experiment | None) -> None:
        known = {run.request.ordinal for run in before.runs if run.result} if before else set()
        for run in experiment.runs:
            if run.result and run.result.outcome is Outcome.FINISHED and run.request.ordinal not in known:
                newest = self._newest_on[run.slot]
                insort(newest, run, key=_age)
                del newest[:-MOST_EARLIER]

    def _spread_of(self, experiment: Experiment) -> None:
        spread = spread_of(experiment.replicates)
        if not spread.freedom:
            return
        at = self._spread_at.setdefault(experiment.number, len(self._spreads))
        if at < len(self._spreads) and self._spreads[at][0] == spread:
            return
        later = [own for own, _ in self._spreads[at + 1 :]]
        del self._spreads[at:]
        for own in (spread, *later):  # one after another, so that the sum does not hang on when each was measured
            pooled = self._spreads[-1][1] if self._spreads else Spread()
            self._spreads.append((own, pooled + own))
        self._noise = self._spreads[-1][1]  # at once: the live view reads it from another thread


def _age(run: Run) -> tuple[float, int, int]:
    """The key that sorts finished runs by their start."""
    assert run.result is not None
    return (run.result.started_at, run.request.experiment, run.request.ordinal)


def _tokens(experiment: Experiment) -> int:
    usage = experiment.proposal.usage
    return usage.tokens or 0 if usage else 0


def _lean(experiment: Experiment) -> Experiment:
    """What briefs and the judge need of history: a night of it stays in memory, and the ledger has the rest."""
    return replace(experiment, runs=tuple(_lean_run(run) for run in experiment.runs))


def _lean_run(run: Run) -> Run:
    if run.result is None:
        return run
    kept = KEPT_TELEMETRY | {"peak_memory_bytes"}
    seen = {name: value for name, value in run.result.telemetry.items() if name in kept}
    return replace(run, result=replace(run.result, environment={}, telemetry=seen))
