"""Measurements beside the verdicts: which runs are wanted, and their execution whatever dies meanwhile."""

import threading
from collections import Counter
from dataclasses import replace

import pytest

from autoresearch.campaign.measure import (
    Measuring,
    Wanted,
    close_order,
    missing_runs,
    open_order,
    order_confirmation,
    order_noise,
    order_reproduction,
    plan_order,
)
from autoresearch.campaign.tasks import ThreadTasks
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, Purpose, RunRequest, RunResult, Split, seed_of
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import AutoResearchError, UserError
from autoresearch.host.clock import SystemClock
from autoresearch.ledger.ledger import Campaign, Ledger
from autoresearch.runner.protocol import Slot

SEED = 11
VALUE = RunResult(Outcome.FINISHED, 1.0)


class Engine:
    """Slots whose runs answer at once, after a script: what a request gets, by its key."""

    def __init__(self, slots=1, script=None):
        self.slots = [Slot(f"cpu{i}") for i in range(slots)]
        self.script = script or {}
        self.log = []
        self._lock = threading.Lock()

    def execute(self, request, slot):
        """Answer at once, and note who asked."""
        with self._lock:
            self.log.append((request, slot.name))
        answer = self.script.get(request.key, VALUE)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self):
        """Nothing is ever under way."""


@pytest.fixture
def ledger():
    """A campaign with a baseline of two runs and one kept experiment of one."""
    ledger = Ledger.in_memory(SystemClock())
    ledger.begin_campaign(Campaign("night", "c0", SEED, "greedy", Metric("loss")))
    for number, runs in ((0, 2), (1, 1)):
        kind = Kind.BASELINE if number == 0 else Kind.TUNE
        e = Experiment("night", number, "tuner", "c0", Stage.PROPOSED, f"c{number}", Proposal("", kind))
        e = ledger.begin_experiment(e)
        for j in range(runs):
            request = RunRequest("night", number, j, f"c{number}", seed_of(SEED, j), 1, 2)
            e = ledger.finish_run(ledger.begin_run(e, request, "cpu0"), request, VALUE)
        ledger.settle(ledger.decide(e, Verdict.KEEP, "better"))
    return ledger


def experiments(ledger):
    """The campaign as the ledger has it."""
    return ledger.experiments("night")


def measuring(ledger, engine, **more):
    """A measurement on these slots."""
    tasks = ThreadTasks()
    return Measuring(ledger, engine, "night", budget_seconds=1, timeout_seconds=2, tasks=tasks, **more)


def confirmation(ledger, pairs=3, split=Split.TEST):
    """The order of so many pairs."""
    baseline, final = experiments(ledger)
    return order_confirmation(baseline, final, experiments(ledger), SEED, pairs, split)


def runs_of(ledger, purpose):
    """All runs that were made for something."""
    return [run for e in experiments(ledger) for run in e.runs if run.request.purpose is purpose]


# --- what is wanted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("runs", "repeats"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4)])
def test_noise_repeats_used_seeds_and_tries_fresh_ones(ledger, runs, repeats):
    """At least one repeats a seed, at most half do, and no fresh seed comes twice."""
    baseline = experiments(ledger)[0]
    seeds = [wanted.seed for [wanted] in order_noise(baseline, SEED, runs).chains]
    used = {seed_of(SEED, 0), seed_of(SEED, 1)}
    fresh = [seed for seed in seeds if seed not in used]
    assert len(seeds) == runs and len(seeds) - len(fresh) == repeats
    assert len(set(fresh)) == len(fresh)


def test_reproduction_uses_own_seeds_first(ledger):
    """Of three runs of an experiment with two seeds, two repeat them and one is fresh."""
    seeds = [wanted.seed for [wanted] in order_reproduction(experiments(ledger)[0], SEED, 3).chains]
    assert seeds[:2] == [seed_of(SEED, 0), seed_of(SEED, 1)] and seeds[2] not in seeds[:2]


def test_confirmation_draws_seeds_that_decided_nothing(ledger):
    """Each pair has one seed for both commits, no run had it before, and the order turns from pair to pair."""
    chains = confirmation(ledger, 4).chains
    assert [[wanted.experiment for wanted in chain] for chain in chains] == [[0, 1], [1, 0], [0, 1], [1, 0]]
    assert all(one.seed == other.seed for one, other in chains)
    assert not {chain[0].seed for chain in chains} & {r.request.seed for e in experiments(ledger) for r in e.runs}


def test_confirmation_asked_again_is_the_same_and_more(ledger):
    """Five pairs after three are those three and two; another split begins with other seeds."""
    three = confirmation(ledger, 3)
    measuring(ledger, Engine()).run(three)
    assert confirmation(ledger, 5).chains[:3] == three.chains
    others = confirmation(ledger, 3, Split.VAL)
    assert not {w.seed for chain in others.chains for w in chain} & {w.seed for chain in three.chains for w in chain}


# --- execution --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_every_run_is_made_once_and_a_pair_stays_on_its_slot(ledger, slots):
    """Intents and results stand in the ledger, ordinals go on, both of a pair run one after the other on one slot."""
    engine, order = Engine(slots), confirmation(ledger)
    assert measuring(ledger, engine).run(order) is None
    assert missing_runs(order, experiments(ledger)) == []
    runs = runs_of(ledger, Purpose.CONFIRM)
    assert len(runs) == 6 and all(run.result for run in runs)
    assert [len({r.slot for r in runs if r.request.seed == chain[0].seed}) for chain in order.chains] == [1, 1, 1]
    assert [r.request.ordinal for r in experiments(ledger)[0].runs] == [0, 1, 2, 3, 4]


def test_what_is_made_is_not_made_again(ledger):
    """The same order once more starts nothing."""
    order = confirmation(ledger)
    measuring(ledger, Engine()).run(order)
    engine = Engine()
    measuring(ledger, engine).run(order)
    assert engine.log == []


def test_a_candidates_own_failure_is_an_answer(ledger):
    """A run that crashed is not made again: it says something of the commit."""
    order, engine = confirmation(ledger, 1), Engine(script={"night/00001/1": RunResult(Outcome.CRASHED)})
    measuring(ledger, engine).run(order)
    assert missing_runs(order, experiments(ledger)) == []


def test_disturbed_runs_are_made_again_up_to_a_bound(ledger):
    """Twice disturbed, the third answers; disturbed three times in a row, the machine is to blame and it is said."""
    twice = {f"night/00000/{n}": RunResult(Outcome.DISTURBED, detail="load") for n in (2, 3)}
    measuring(ledger, Engine(script=twice)).run(confirmation(ledger, 1))
    assert Counter(run.result.outcome for run in runs_of(ledger, Purpose.CONFIRM))[Outcome.FINISHED] == 2
    ever = {f"night/00000/{n}": RunResult(Outcome.DISTURBED, detail="load") for n in range(20)}
    with pytest.raises(UserError, match="3 times in a row"):
        measuring(ledger, Engine(script=ever)).run(confirmation(ledger, 2, Split.VAL))


def test_killed_after_an_intent(ledger):
    """A run that was begun and has no result goes to the engine again on its slot, with the very same request."""
    order = confirmation(ledger, 2)
    begun = order.chains[0][0]
    request = RunRequest("night", 0, 2, "c0", begun.seed, 1, 2, Purpose.CONFIRM, Split.TEST)
    ledger.begin_run(experiments(ledger)[0], request, "cpu1")
    engine = Engine(2)
    measuring(ledger, engine).run(order)
    assert engine.log[0] == (request, "cpu1")
    assert len(runs_of(ledger, Purpose.CONFIRM)) == 4
    assert {slot for r, slot in engine.log if r.seed == begun.seed} == {"cpu1"}


@pytest.mark.parametrize("survives", range(6))
def test_killed_between_any_two_runs(ledger, survives):
    """However many runs ended before, the rest is made and no more."""
    order = plan_order(ledger, "night", order_noise(experiments(ledger)[1], SEED, 6))
    ended = []

    def observe(task, result):
        ended.extend([result] if result else [])
        if len(ended) == survives:
            first.finish("killed")

    first = measuring(ledger, Engine(), observe=observe)
    if survives:
        first.run(order)
    assert len(runs_of(ledger, Purpose.NOISE)) == survives
    found = open_order(ledger, "night", Purpose.NOISE, experiments(ledger)[1])
    assert found == order
    assert measuring(ledger, Engine()).run(found) is None
    assert len(runs_of(ledger, Purpose.NOISE)) == 6


def test_finished_orders_are_not_taken_up_again(ledger):
    """After its end an order is closed; one for another commit of the same experiment is none."""
    one = experiments(ledger)[1]
    order = plan_order(ledger, "night", order_noise(one, SEED, 2))
    assert open_order(ledger, "night", Purpose.NOISE, replace(one, commit="other")) is None
    assert open_order(ledger, "night", Purpose.REPRODUCE, one) is None
    close_order(ledger, "night", order)
    assert open_order(ledger, "night", Purpose.NOISE, one) is None


def test_ctrl_c_leaves_the_rest(ledger):
    """After `finish` what is under way ends, nothing begins, and the reason comes back."""
    order = confirmation(ledger)
    work = measuring(ledger, Engine(), observe=lambda task, result: work.finish("stopped by Ctrl-C"))
    assert work.run(order) == "stopped by Ctrl-C"
    assert work.made == 1 and len(runs_of(ledger, Purpose.CONFIRM)) == 1


def test_our_own_failure_is_raised(ledger):
    """A full disk ends the measurement with its sentence, and the intent stays to be picked up."""
    engine = Engine(2, {"night/00000/2": AutoResearchError("the disk is full")})
    with pytest.raises(AutoResearchError, match="disk is full"):
        measuring(ledger, engine).run(confirmation(ledger, 1))
    assert [run.result for run in runs_of(ledger, Purpose.CONFIRM)] == [None]


def test_slots_that_are_gone_do_not_hold_a_pair_up(ledger):
    """A half pair whose slot this machine no longer has is finished on another."""
    order = confirmation(ledger, 1)
    begun = order.chains[0][0]
    request = RunRequest("night", 0, 2, "c0", begun.seed, 1, 2, Purpose.CONFIRM, Split.TEST)
    ledger.begin_run(experiments(ledger)[0], request, "gpu7")
    engine = Engine(1)
    assert measuring(ledger, engine).run(order) is None
    assert [slot for _, slot in engine.log] == ["cpu0", "cpu0"]


def test_wanted_tells_runs_apart():
    """Seed, split, purpose and commit all count."""
    wanted = Wanted(0, "c0", 1, Purpose.CONFIRM, Split.TEST)
    request = RunRequest("night", 0, 0, "c0", 1, 1, 2, Purpose.CONFIRM, Split.TEST)
    assert wanted.is_made_by(request)
    for change in ({"seed": 2}, {"split": Split.VAL}, {"purpose": Purpose.NOISE}, {"commit": "c1"}):
        assert not wanted.is_made_by(replace(request, **change))
