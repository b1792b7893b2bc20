"""The scheduler in virtual time: determinism, faults, order and limits."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from autoresearch.campaign.simulation import Physics, SimulatedEngine, SimulatedResearcher, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.disturbance import causes_in
from autoresearch.domain.experiment import Experiment, Stage
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome, seed_of
from autoresearch.domain.verdict import Verdict
from autoresearch.ledger.ledger import Ledger
from autoresearch.researchers.protocol import NoProposal
from autoresearch.testing.faults import simulate_with_kills


def contradictions(world: World, ledger: Ledger) -> list[str]:
    """Everything in which ledger and world disagree after a campaign's end."""
    experiments = ledger.experiments("sim")
    found = [f"#{e.number} is still {e.stage}" for e in experiments if e.stage is not Stage.SETTLED]
    kept = sorted((e for e in experiments if e.verdict is Verdict.KEEP), key=lambda e: e.decided_at or 0)
    found += [
        f"#{after.number} does not build on #{before.number}"
        for before, after in pairwise(kept)
        if after.parent != before.commit
    ]
    if world.tip != kept[-1].commit:
        found.append(f"the branch is at {world.tip}, the incumbent at {kept[-1].commit}")
    recorded = {run.request.key: run.result for e in experiments for run in e.runs}
    found += [f"run {key} was lost" for key in world.answers if recorded.get(key) is None]
    found += [f"run {key} never ran" for key, result in recorded.items() if result and key not in world.answers]
    found += [
        f"run {key} was recorded wrongly"
        for key, (answer, _) in world.answers.items()
        if recorded[key] and recorded[key].metric != answer.metric and recorded[key].outcome is not Outcome.DISTURBED
    ]
    found += [
        f"run {key} met somebody else's work and counts"
        for key, (answer, _) in world.answers.items()
        if recorded[key] and recorded[key].metric is not None and answer.telemetry["gpu_others_share"]
    ]
    found += [
        f"#{e.number} has no verdict on its own value"
        for e in experiments
        if e.verdict is Verdict.CRASH and e.sample.count and not e.failure
        if not e.reason.startswith("disturbed ")  # given up while the judge wanted one more run
    ]
    return found


def measured(experiments: list[Experiment]) -> list[Experiment]:
    """Those that had a run, without the baseline."""
    return [e for e in experiments if e.runs and not e.is_baseline]


def test_the_same_seed_gives_the_same_history():
    """Two campaigns from one integer are byte-identical, events and times included."""
    first, second = (
        "\n".join(simulate(World(seed=7, slots=4), researchers=3).history("sim")).encode() for _ in range(2)
    )

    assert first == second


def test_another_seed_gives_another_history():
    """The integer decides."""
    first, second = ("\n".join(simulate(World(seed=seed)).history("sim")) for seed in (1, 2))

    assert first != second


@pytest.mark.parametrize(("slots", "researchers"), [(1, 1), (1, 4), (3, 1), (8, 8), (16, 4)])
def test_ledger_and_branch_agree_at_any_size(slots, researchers):
    """One scheduler serves a laptop and a swarm; every keep builds on the one before it."""
    world = World(seed=3, slots=slots)

    ledger = simulate(world, researchers=researchers, limits=Limits(experiments=80))

    assert contradictions(world, ledger) == []


def test_the_limit_of_experiments_is_exact():
    """As many experiments as asked for are measured, whatever was refused or conflicted beside them."""
    ledger = simulate(World(seed=5, slots=4), researchers=4, limits=Limits(experiments=50))

    assert len(measured(ledger.experiments("sim"))) == 50


def test_the_proposal_that_reaches_the_cost_limit_is_run_all_the_same():
    """What is paid for is measured; nothing more is asked for."""
    world = World(seed=3, physics=Physics(proposal_cost_usd=1.0, refused_share=0))

    ledger = simulate(world, limits=Limits(cost_usd=5))
    experiments = ledger.experiments("sim")[1:]

    assert len(experiments) == 5
    assert all(e.verdict for e in experiments)


def test_everybody_gets_a_turn():
    """One slot and three researchers: whose last turn is longest ago is asked next."""
    ledger = simulate(World(seed=1), researchers=3, limits=Limits(experiments=30))

    turns = Counter(e.researcher for e in ledger.experiments("sim")[1:])

    assert max(turns.values()) - min(turns.values()) <= 1


def test_researchers_at_work_at_once_know_of_each_other(monkeypatch):
    """A brief names the ideas that are still being written, so that nobody writes the same one."""
    briefs = []
    propose = SimulatedResearcher.propose
    monkeypatch.setattr(SimulatedResearcher, "propose", lambda self, b: briefs.append(b) or propose(self, b))

    simulate(World(seed=1, slots=2), researchers=2, limits=Limits(experiments=6))

    assert any(e.commit is None for brief in briefs for e in brief.in_flight)
    assert all(e.number != brief.number for brief in briefs for e in brief.in_flight)


def test_a_researcher_with_nothing_new_is_asked_again_when_something_has_changed(monkeypatch):
    """Failing while a run is under way costs one experiment, not the night."""

    def dry_while_running(self, brief):
        if brief.history and len(brief.history) % 2:
            return NoProposal(f"nothing new after {len(brief.history)}")
        return Proposal(f"idea {brief.number}")

    monkeypatch.setattr(SimulatedResearcher, "propose", dry_while_running)
    world = World(seed=1, physics=Physics(disturbed_share=0, refused_share=0, crash_share=0))

    ledger = simulate(world, limits=Limits(experiments=8))

    assert len(measured(ledger.experiments("sim"))) == 8


def absent_until(hour, away_seconds, only=""):
    """A researcher whose provider is back at an hour of the world, or never."""

    def propose(self, brief):
        if self.name.startswith(only) and self._world.clock.now() < hour * 3600:
            return NoProposal("the provider is overloaded", away_seconds=away_seconds)
        self._world.clock.sleep(60)
        return Proposal(f"idea {brief.number}")

    return propose


def test_a_provider_that_comes_back_finds_its_researcher_waiting(monkeypatch):
    """Left alone for 15 minutes and longer each time, so two hours of outage cost few attempts and no night."""
    monkeypatch.setattr(SimulatedResearcher, "propose", absent_until(2, 900))
    world = World(seed=1, physics=Physics(disturbed_share=0, refused_share=0, crash_share=0))

    experiments = simulate(world, limits=Limits(experiments=8)).experiments("sim")

    assert len(measured(experiments)) == 8
    assert (
        sum("overloaded" in e.reason for e in experiments) == 4
    )  # after 0, 15, 45 and 90 minutes; after 150 it is back


def test_a_provider_that_never_comes_back_ends_the_session(monkeypatch):
    """Nobody waits for ever, and the end says for what."""
    monkeypatch.setattr(SimulatedResearcher, "propose", absent_until(10**6, 900))
    told = []

    simulate(World(seed=1), limits=Limits(experiments=8), observe=told.append)

    assert told[-1].text == "no researcher has anything more to propose (sim-0: the provider is overloaded)"


def test_what_only_a_person_can_cure_is_asked_once(monkeypatch):
    """The others go on without a pause."""
    monkeypatch.setattr(SimulatedResearcher, "propose", absent_until(10**6, math.inf, only="sim-0"))
    world = World(seed=1, physics=Physics(disturbed_share=0, refused_share=0, crash_share=0))

    experiments = simulate(world, researchers=2, limits=Limits(experiments=12)).experiments("sim")

    assert [e.researcher for e in experiments].count("sim-0") == 1
    assert len(measured(experiments)) == 12 and world.clock.now() < 2 * 3600


@pytest.mark.parametrize("seed", range(12))
def test_the_baseline_is_measured_as_often_as_asked_whatever_disturbs_it(seed):
    """Every one of its values is under a seed of its own, the first one's included, or it is given up loudly."""
    world = World(seed=seed, slots=2, physics=Physics(disturbed_share=0.5))

    ledger = simulate_with_kills(world, kills=2, limits=Limits(experiments=2))
    baseline = ledger.experiments("sim")[0]

    if baseline.verdict is Verdict.KEEP:
        assert set(baseline.sample.seeds) == {seed_of(seed, 0), seed_of(seed, 1)}
        assert baseline.sample.count == 2
    else:
        assert baseline.reason.startswith("disturbed 3 times in a row")


def test_eight_slots_do_eight_times_the_work():
    """With researchers enough, slots are busy at least nine tenths of the time."""
    world = World(seed=2, slots=8)

    ledger = simulate(world, researchers=8, limits=Limits(experiments=400))
    busy = sum(run.result.wall_seconds for e in ledger.experiments("sim") for run in e.runs if run.result)

    assert busy / (8 * world.clock.now()) > 0.9


def test_hours_end_a_campaign():
    """The session stops beginning things when its hours are over, and lets what runs come to its end."""
    world = World(seed=1)

    ledger = simulate(world, limits=Limits(hours=2))

    assert 2 * 3600 <= world.clock.now() < 2 * 3600 + 700
    assert all(run.result for e in ledger.experiments("sim") for run in e.runs)


def test_a_resumed_campaign_goes_on_to_the_new_limit():
    """A second session adds what is missing, and measures nothing twice."""
    world = World(seed=4)
    ledger = simulate(world, limits=Limits(experiments=10))

    simulate(world, ledger=ledger, limits=Limits(experiments=25))

    assert contradictions(world, ledger) == []
    assert len(measured(ledger.experiments("sim"))) == 25


def test_disturbed_runs_are_repeated_not_judged():
    """No verdict rests on a disturbed run, however good its number: the same request is made again."""
    world = World(seed=9, slots=2, physics=Physics(disturbed_share=0.3))

    ledger = simulate(world, limits=Limits(experiments=60))
    experiments = ledger.experiments("sim")

    assert contradictions(world, ledger) == []
    disturbed = [(e, run) for e in experiments for run in e.runs if run.result.outcome is Outcome.DISTURBED]
    assert disturbed
    for e, run in disturbed:
        again = [later for later in e.runs[run.request.ordinal + 1 :] if later.request.seed == run.request.seed]
        assert again or e.reason.startswith(("disturbed", "stale", "crashed"))
    for e in measured(experiments):
        disturbed_only = {run.result.outcome for run in e.runs} == {Outcome.DISTURBED}
        assert not disturbed_only or e.reason.startswith(("disturbed", "stale"))


def test_disturbed_runs_never_move_the_incumbent():
    """Where no idea is any good, a campaign with far too good numbers on a disturbed machine keeps nothing."""
    physics = Physics(disturbed_share=0.3, noise=1e-6, draw_effect=lambda rng: -0.01)

    experiments = simulate(World(seed=3, slots=3, physics=physics), limits=Limits(experiments=60)).experiments("sim")

    assert any(run.result.outcome is Outcome.DISTURBED for e in experiments for run in e.runs)
    assert [e.number for e in experiments if e.verdict is Verdict.KEEP] == [0]


def test_what_is_as_slow_each_time_counts_with_a_note():
    """A machine that stays slow after the first run of a program is how it is now: the third such run is judged."""
    world = World(seed=2, physics=Physics(disturbed_share=0, crash_share=0))
    slow = 0

    class Throttled(SimulatedEngine):
        def execute(self, request, slot):
            nonlocal slow
            result = super().execute(request, slot)
            if request.experiment == 0 and request.ordinal == 0:
                return result
            slow += 1
            return replace(result, telemetry={**result.telemetry, "median_step_ms": 1500.0})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoresearch.campaign.simulation.SimulatedEngine", Throttled)
        baseline = simulate(world, limits=Limits(experiments=4)).experiments("sim")[0]

    endings = [run.result.outcome for run in baseline.runs]
    assert endings == [Outcome.FINISHED, Outcome.DISTURBED, Outcome.DISTURBED, Outcome.FINISHED]
    assert len({run.request.seed for run in baseline.runs[1:]}) == 1
    assert baseline.runs[-1].result.detail.startswith(
        "Judged as measured after 2 disturbed runs before it: A step took"
    )
    assert baseline.verdict is Verdict.KEEP


def test_a_night_beside_somebody_elses_work_ends_with_the_reason():
    """Proposals are too good for it: after nine disturbed runs in a row the session says why and stops."""
    world = World(seed=1, physics=Physics(disturbed_share=0))
    ledger = simulate(world, limits=Limits(experiments=5))
    world.physics = Physics(disturbed_share=1.0, crash_share=0, refused_share=0)
    sentences: list[str] = []

    simulate(world, ledger=ledger, limits=Limits(experiments=60), observe=lambda notice: sentences.append(notice.text))

    assert len(measured(ledger.experiments("sim"))) <= 9
    assert sentences[-1].startswith("9 runs in a row were disturbed (the last: Another process (pid 4711) used the GPU")


def test_a_slot_beside_somebody_elses_work_rests_and_the_others_go_on():
    """Of three GPUs one is taken for good: it is tried less and less, nothing is lost, and nothing is set aside."""
    world = World(seed=4, slots=3, physics=Physics(disturbed_share=0, crash_share=0, refused_share=0))

    class Shared(SimulatedEngine):
        def execute(self, request, slot):
            result = super().execute(request, slot)
            others = {"gpu_others_share": 0.9 if slot.name == "sim1" else 0.0}
            return replace(result, telemetry=result.telemetry | others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoresearch.campaign.simulation.SimulatedEngine", Shared)
        experiments = simulate(world, researchers=3, limits=Limits(experiments=60)).experiments("sim")

    by_slot = Counter(run.slot for e in experiments for run in e.runs)
    assert by_slot["sim1"] < 0.5 * min(by_slot["sim0"], by_slot["sim2"])
    assert len(measured(experiments)) == 60
    assert not any(e.was_only_disturbed for e in experiments)


@pytest.mark.parametrize("seed", range(30))
def test_kills_on_a_disturbed_machine_lose_and_judge_nothing_wrongly(seed):
    """Killed anywhere on a machine that disturbs and slows one run in five, a campaign stays consistent."""
    physics = Physics(disturbed_share=0.2, slow_share=0.2, crash_share=0.02)
    world = World(seed=seed, slots=1 + seed % 3, physics=physics)

    ledger = simulate_with_kills(world, kills=6, limits=Limits(experiments=8))

    experiments = ledger.experiments("sim")
    if experiments[0].verdict is Verdict.CRASH:
        assert experiments[0].reason.startswith("disturbed 3 times in a row")
        return
    assert contradictions(world, ledger) == []
    for e in experiments[1:]:
        endings = Counter((run.request.commit, run.request.seed) for run in e.runs if causes_in(run.result))
        assert max(endings.values(), default=0) <= 3


def test_every_candidate_is_first_run_with_the_same_seed():
    """Replicate j of every commit uses seed j, so that differences are paired."""
    ledger = simulate(World(seed=6, physics=Physics(disturbed_share=0, crash_share=0)), limits=Limits(experiments=30))

    seeds = {e.runs[0].request.seed for e in ledger.experiments("sim") if e.runs}

    assert len(seeds) == 1


def test_a_crashed_baseline_ends_the_campaign_with_the_cure():
    """Nothing can be compared with a baseline that does not run."""
    sentences: list[str] = []
    world = World(seed=1, physics=Physics(baseline_crashes=True))

    ledger = simulate(world, observe=lambda notice: sentences.append(notice.text))

    assert ledger.experiments("sim")[0].verdict is Verdict.CRASH
    assert "the baseline did not run (crashed: ValueError: drawn): mend the lab" in sentences[-1]


@pytest.mark.parametrize("seed", range(60))
def test_kills_lose_nothing(seed):
    """A campaign killed between any two lasting acts ends as consistent as one that was left alone."""
    world = World(seed=seed, slots=1 + seed % 3)

    derived = {"prune_every": 2, "retest_share": 0.3} if seed % 2 else {}
    ledger = simulate_with_kills(world, kills=6, researchers=1 + seed % 2, limits=Limits(experiments=12), **derived)

    assert contradictions(world, ledger) == []
    assert len(measured(ledger.experiments("sim"))) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_two_thousand_campaigns_survive_their_kills(block):
    """100 seeds of sudden death in each of 20 blocks, on up to four slots."""
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        world = World(seed=seed, slots=1 + seed % 4)
        derived = {"prune_every": 1, "retest_share": 0.3} if seed % 2 else {}
        team, limits = 1 + seed % 3, Limits(experiments=5 + 4 * (seed % 2))
        ledger = simulate_with_kills(world, kills=3, researchers=team, limits=limits, **derived)

        assert contradictions(world, ledger) == [], f"seed {seed}"
