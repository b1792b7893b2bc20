"""Runs beside the verdicts: which ones a measurement wants, and their execution over all slots.

The ledger has the intent before each run and the result after it, as in a campaign. Killed anywhere, the same command
goes on: what was begun is picked up, what has ended is not made again, what was disturbed or interrupted is.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TypeVar

from autoresearch.campaign.disturbance import weigh
from autoresearch.campaign.scheduler import DRAIN_SECONDS, RunTask
from autoresearch.campaign.tasks import Tasks
from autoresearch.domain.disturbance import DEFAULT_TOLERANCE, Tolerance
from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split, first_line, seed_of
from autoresearch.errors import UserError
from autoresearch.ledger.ledger import Ledger
from autoresearch.runner.protocol import Engine, Slot

CONFIRM_SEEDS = 1 << 20
"""The replicate from which confirmations draw: so far up that no campaign and no other measurement comes there."""

PLANNED, MADE = "measurement planned", "measurement made"
"""Events around the runs of a measurement that is made anew each time it is asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run that a measurement needs."""

    experiment: int
    commit: str
    seed: int
    purpose: Purpose
    split: Split = Split.VAL

    def is_made_by(self, request: RunRequest) -> bool:
        """Whether this request is for such a run."""
        return self == Wanted(request.experiment, request.commit, request.seed, request.purpose, request.split)


Chain = tuple[Wanted, ...]
"""Runs that follow one another on one slot."""


@dataclass(frozen=True)
class Order:
    """What a person asked for: chains of runs, of which those count that were begun after the order."""

    chains: tuple[Chain, ...]
    since: Mapping[int, int]
    """Experiment → how many runs it had before; missing means that all of its runs count."""

    @property
    def runs(self) -> int:
        """How many runs it is."""
        return sum(map(len, self.chains))


# --- what is wanted ---------------------------------------------------------------------------------------------------


def order_noise(experiment: Experiment, campaign_seed: int, runs: int) -> Order:
    """Runs that show what luck is made of: half repeat a seed (at least one does), the rest are under fresh seeds.

    Repeats tell the machine's nondeterminism from the luck of a seed. They take turns with fresh seeds, so that a
    drift of the machine is not taken for either.
    """
    repeats = max(1, runs // 2)
    used = Counter(run.request.seed for run in _scored(experiment))
    repeated = [seed for seed, _ in sorted(used.items(), key=lambda item: item[1])]
    fresh = _fresh_seeds(campaign_seed, {run.request.seed for run in experiment.runs})
    seeds, known = [], deque(repeated)
    for place in range(runs):
        if place % 2 == 0 and place < 2 * repeats and known:
            seeds.append(known[0])
            known.rotate(-1)
        else:
            seeds.append(next(fresh))
    return _order(experiment, seeds, Purpose.NOISE)


def order_reproduction(experiment: Experiment, campaign_seed: int, runs: int) -> Order:
    """Half of the runs, rounded up, under the experiment's own seeds, the rest under fresh ones."""
    own = list(dict.fromkeys(run.request.seed for run in _scored(experiment)))[: (runs + 1) // 2]
    fresh = _fresh_seeds(campaign_seed, {run.request.seed for run in experiment.runs})
    return _order(experiment, [*own, *(next(fresh) for _ in range(runs - len(own)))], Purpose.REPRODUCE)


def order_confirmation(
    baseline: Experiment,
    final: Experiment,
    experiments: Iterable[Experiment],
    campaign_seed: int,
    pairs: int,
    split: Split,
) -> Order:
    """Pairs of runs of both commits, each under a seed that decided nothing.

    It follows from the ledger alone: asked again, it is the same order, and with more pairs the same and more. So all
    pairs ever made count, and nobody can confirm until he likes the number.

    Returns:
        One chain for each pair, the original first in one and the final commit first in the next: whatever drifts in
        time, or warms up, helps both alike.
    """
    assert baseline.commit is not None and final.commit is not None
    ours = [Wanted(e.number, str(e.commit), 0, Purpose.CONFIRM, split) for e in (baseline, final)]
    taken = set()
    for experiment in experiments:
        for run in experiment.runs:
            request, seed = run.request, run.request.seed
            if not any(_under(wanted, seed).is_made_by(request) for wanted in ours):
                taken.add(seed)
    seeds = _fresh_seeds(campaign_seed, taken, CONFIRM_SEEDS)
    chains = []
    for pair, seed in zip(range(pairs), seeds, strict=False):
        both = tuple(_under(wanted, seed) for wanted in ours)
        chains.append(both if pair % 2 == 0 else both[::-1])
    return Order(tuple(chains), {})


def _under(wanted: Wanted, seed: int) -> Wanted:
    return Wanted(wanted.experiment, wanted.commit, seed, wanted.purpose, wanted.split)


def _order(experiment: Experiment, seeds: Iterable[int], purpose: Purpose) -> Order:
    assert experiment.commit is not None
    chains = tuple((Wanted(experiment.number, experiment.commit, seed, purpose),) for seed in seeds)
    return Order(chains, {experiment.number: len(experiment.runs)})


def _scored(experiment: Experiment) -> list[Run]:
    """Finished runs of the present commit on the validation data."""
    return [
        run
        for run in experiment.runs
        if run.result and run.result.metric is not None and run.request.split is Split.VAL
        if run.request.commit == experiment.commit
    ]


def _fresh_seeds(campaign_seed: int, used: set[int], first: int = 0) -> Iterator[int]:
    """The seeds of the campaign's stream that are not in use, in order."""
    return (seed for j in count(first) if (seed := seed_of(campaign_seed, j)) not in used)


# --- orders in the ledger ---------------------------------------------------------------------------------------------


def open_order(ledger: Ledger, campaign: str, purpose: Purpose, experiment: Experiment) -> Order | None:
    """The order for the same measurement that an earlier command left unfinished, None if there is none."""
    found: Order | None = None
    for event in ledger.events(campaign):
        if event.experiment != experiment.number or event.what not in (PLANNED, MADE):
            continue
        record = json.loads(event.detail)
        if record["purpose"] == purpose:
            found = _order_of(record, experiment.number) if event.what == PLANNED else None
    is_of_now = found is not None and all(w.commit == experiment.commit for chain in found.chains for w in chain)
    return found if is_of_now else None


def plan_order(ledger: Ledger, campaign: str, order: Order) -> Order:
    """Write an order down, so that it can be finished after a kill."""
    first = order.chains[0][0]
    record = {
        "purpose": first.purpose,
        "since": order.since[first.experiment],
        "commit": first.commit,
        "split": first.split,
        "seeds": [[wanted.seed for wanted in chain] for chain in order.chains],
    }
    ledger.note(campaign, PLANNED, json.dumps(record), first.experiment)
    return order


def close_order(ledger: Ledger, campaign: str, order: Order, **told: object) -> None:
    """Write down that an order is finished, with what came of it."""
    first = order.chains[0][0]
    ledger.note(campaign, MADE, json.dumps({"purpose": first.purpose, **told}), first.experiment)


def _order_of(record: Mapping[str, object], experiment: int) -> Order:
    purpose, split, commit = Purpose(str(record["purpose"])), Split(str(record["split"])), str(record["commit"])
    seeds, since = record["seeds"], record["since"]
    assert isinstance(seeds, list) and isinstance(since, int)
    chains = tuple(tuple(Wanted(experiment, commit, seed, purpose, split) for seed in chain) for chain in seeds)
    return Order(chains, {experiment: since})


# --- execution --------------------------------------------------------------------------------------------------------


class Measuring:
    """Executes orders on all slots of an engine.

    Args:
        ledger: Records every run; this is its only writer.
        engine: Provides the slots.
        campaign: Its name.
        budget_seconds: Of one run.
        timeout_seconds: Of one run.
        tasks: Threads, or a test's own.
        tolerance: What is still taken for a quiet machine.
        observe: Told of each run that begins (without a result) and ends; must not block.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        campaign: str,
        *,
        budget_seconds: float,
        timeout_seconds: float,
        tasks: Tasks[RunTask],
        tolerance: Tolerance = DEFAULT_TOLERANCE,
        observe: Callable[[RunTask, RunResult | None], None] = lambda task, result: None,
    ) -> None:
        self.running: dict[str, RunTask] = {}
        """Runs that execute now, by the name of their slot."""
        self.made = 0
        """Runs of the order that have ended, those of earlier commands included."""
        self.total = 0
        """Runs of the order."""
        self.stopping: str | None = None
        """Why nothing new is begun any more."""
        self._ledger = ledger
        self._engine = engine
        self._campaign = campaign
        self._budget_seconds = budget_seconds
        self._timeout_seconds = timeout_seconds
        self._tasks = tasks
        self._tolerance = tolerance
        self._observe = observe
        self._experiments = {experiment.number: experiment for experiment in ledger.experiments(campaign)}
        self._disturbed: Counter[Wanted] = Counter()

    @property
    def experiments(self) -> list[Experiment]:
        """The campaign as it stands, by number."""
        return list(self._experiments.values())

    def leftovers(self) -> list[Run]:
        """Runs that an earlier process began and never saw the end of; they may still be executing."""
        return [run for experiment in self._experiments.values() for run in experiment.runs if run.result is None]

    def run(self, order: Order) -> str | None:
        """Make the runs of an order that are not made yet.

        Returns:
            None when all are made, else why it stopped.

        Raises:
            UserError: A run was disturbed again and again.
            AutoResearchError: Our own failure; the ledger is consistent, and the same command goes on.
        """
        self.total = order.runs
        self.made = order.runs - sum(len(rest) for rest, _ in missing_runs(order, self.experiments))
        resumed = deque((run.request, run.slot) for run in self.leftovers())
        try:
            self._work(order, resumed)
        except Exception:
            self.stop_now("stopped by a failure")
            for _ in range(len(self.running) + 1):
                self._tasks.wait(DRAIN_SECONDS)
            raise
        return self.stopping

    def finish(self, reason: str) -> None:
        """Begin nothing new, let what is under way end; callable from a signal handler."""
        self.stopping = self.stopping or reason
        self._tasks.wake()

    def stop_now(self, reason: str) -> None:
        """End what is under way; it is made again when the same command is given once more."""
        self.finish(reason)
        self._engine.stop()

    def _work(self, order: Order, resumed: deque[tuple[RunRequest, str]]) -> None:
        queue: deque[tuple[deque[Wanted], str]] | None = None
        at: dict[str, deque[Wanted]] = {}
        while True:
            if queue is None and not resumed and not self.running:
                self.made = order.runs - sum(len(rest) for rest, _ in missing_runs(order, self.experiments))
                queue = deque((deque(rest), home) for rest, home in missing_runs(order, self.experiments))
            for slot in self._engine.slots:
                if self.stopping or slot.name in self.running:
                    continue
                if queue is None:
                    if request := _claimed(resumed, slot.name, self._engine.slots):
                        self._start(request, slot)
                elif chain := at.pop(slot.name, None) or _claimed(queue, slot.name, self._engine.slots):
                    self._start(self._begin(chain[0], slot), slot)
                    at[slot.name] = chain
            if not self.running:
                if self.stopping or queue is not None:
                    return
                continue
            self._take(at)

    def _take(self, at: dict[str, deque[Wanted]]) -> None:
        """Take in the next run that ends, and put its chain a step forward."""
        done = self._tasks.wait(None)
        if done is None:
            return
        task = done.key
        del self.running[task.slot.name]
        if done.error is not None:
            raise done.error
        assert isinstance(done.result, RunResult)
        runs = [run for experiment in self.experiments for run in experiment.runs]
        result = weigh(runs, task.request, task.slot.name, done.result, self._tolerance)
        self._record(task.request, result)
        self._observe(task, result)
        chain = at.pop(task.slot.name, None)
        if chain is None:
            return
        if self._counts(chain[0], result):
            chain.popleft()
            self.made += 1
        if chain:
            at[task.slot.name] = chain

    def _counts(self, wanted: Wanted, result: RunResult) -> bool:
        """Whether this run is the wanted one; what was spoilt from outside is made again, up to a bound."""
        if result.outcome is Outcome.DISTURBED:
            self._disturbed[wanted] += 1
            if self._disturbed[wanted] >= self._tolerance.most_disturbed:
                raise UserError(
                    f"a run of #{wanted.experiment} was disturbed {self._disturbed[wanted]} times in a row "
                    f"({first_line(result.detail)}): see what disturbs this machine, then give the same command again"
                )
        return not result.outcome.is_repeatable

    def _begin(self, wanted: Wanted, slot: Slot) -> RunRequest:
        experiment = self._experiments[wanted.experiment]
        request = RunRequest(
            campaign=self._campaign,
            experiment=wanted.experiment,
            ordinal=len(experiment.runs),
            commit=wanted.commit,
            seed=wanted.seed,
            budget_seconds=self._budget_seconds,
            timeout_seconds=self._timeout_seconds,
            purpose=wanted.purpose,
            split=wanted.split,
        )
        self._experiments[wanted.experiment] = self._ledger.begin_run(experiment, request, slot.name)
        return request

    def _start(self, request: RunRequest, slot: Slot) -> None:
        task = RunTask(slot, request)
        self.running[slot.name] = task
        self._observe(task, None)
        self._tasks.start(task, partial(self._engine.execute, request, slot))

    def _record(self, request: RunRequest, result: RunResult) -> None:
        experiment = self._experiments[request.experiment]
        self._experiments[request.experiment] = self._ledger.finish_run(experiment, request, result)


def missing_runs(order: Order, experiments: Iterable[Experiment]) -> list[tuple[list[Wanted], str]]:
    """What is left of each chain, with the slot that its first runs were made on."""
    made = {
        experiment.number: [
            run
            for run in experiment.runs
            if run.result and not run.result.outcome.is_repeatable
            if run.request.ordinal >= order.since.get(experiment.number, 0)
        ]
        for experiment in experiments
    }
    left = []
    for chain in order.chains:
        rest, home = [], ""
        for wanted in chain:
            runs = made[wanted.experiment]
            run = next((run for run in runs if wanted.is_made_by(run.request)), None)
            if run is None:
                rest.append(wanted)
            else:
                runs.remove(run)
                home = run.slot
        if rest:
            left.append((rest, home))
    return left


Item = TypeVar("Item")


def _claimed(waiting: deque[tuple[Item, str]], name: str, slots: Sequence[Slot]) -> Item | None:
    """Take the first that belongs on this slot, or on none that is there."""
    names = {slot.name for slot in slots}
    found = next((each for each in waiting if each[1] == name or each[1] not in names), None)
    if found is None:
        return None
    waiting.remove(found)
    return found[0]
