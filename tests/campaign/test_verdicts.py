"""The way from runs to a verdict: replicates on request, stale winners, the judge's memory."""

from dataclasses import replace

import pytest

from autoresearch.campaign.board import Plan
from autoresearch.campaign.simulation import Physics, SimulatedWorkspace, World, simulate
from autoresearch.campaign.verdicts import MOST_ASKED, MOST_DISTURBED, Do, next_step
from autoresearch.domain.budget import Limits
from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Action, Decision, Verdict
from autoresearch.judge.policy import Greedy

QUIET = Physics(crash_share=0, disturbed_share=0, refused_share=0, conflict_share=0)
PATIENCE = Plan("sim", Metric("loss"), 1, 300, 600).patience


class Asking(Greedy):
    """Asks for one kind of run until the sample is large enough, then decides greedily."""

    def __init__(self, action: Action, enough: int) -> None:
        self.action, self.enough, self.learnt = action, enough, []

    def decide(self, case):
        """One more run, or greedy's answer."""
        sample = case.candidate if self.action is Action.RUN_CANDIDATE else case.incumbent
        return Decision(self.action, "one more") if sample.count < self.enough else super().decide(case)

    def learn(self, experiment):
        """Remember the order."""
        self.learnt.append(experiment.number)


def test_a_candidate_is_run_as_often_as_the_judge_wants():
    """Each replicate takes the next seed, the same ones for every candidate."""
    policy = Asking(Action.RUN_CANDIDATE, 3)

    ledger = simulate(World(seed=1, slots=2, physics=QUIET), policy=policy, limits=Limits(experiments=8))
    decided = [e for e in ledger.experiments("sim") if e.number and e.revisions == ()]

    assert all(e.sample.count == 3 for e in decided)
    assert len({tuple(run.request.seed for run in e.runs) for e in decided}) == 1


def test_the_incumbent_is_run_again_when_the_judge_wants():
    """A case rests until the incumbent's new run is there, and is then decided."""
    policy = Asking(Action.RUN_INCUMBENT, 4)

    ledger = simulate(World(seed=1, slots=2, physics=QUIET), policy=policy, limits=Limits(experiments=8))
    baseline, *others = ledger.experiments("sim")

    assert baseline.sample.count >= 4
    assert all(e.verdict for e in others)


def test_a_judge_that_never_decides_is_stopped():
    """A bug in a policy costs a bounded number of runs, not the night."""
    policy = Asking(Action.RUN_CANDIDATE, 10**9)

    ledger = simulate(World(seed=1, physics=QUIET), policy=policy, limits=Limits(experiments=2))

    assert [e.verdict for e in ledger.experiments("sim")[1:]] == [Verdict.DISCARD] * 2
    assert all(len(e.runs) == MOST_ASKED + 1 for e in ledger.experiments("sim")[1:])
    assert all(e.reason.startswith("still undecided after") for e in ledger.experiments("sim")[1:])


def test_a_stale_winner_is_measured_again_on_the_incumbent():
    """No keep rests on a comparison with a parent that is no longer the incumbent."""
    ledger = simulate(World(seed=1, slots=8, physics=QUIET), researchers=8, limits=Limits(experiments=60))
    experiments = ledger.experiments("sim")
    by_commit = {e.commit: e for e in experiments}
    moved = [e for e in experiments if e.verdict is Verdict.KEEP and e.revisions and len(e.runs) > 1]

    assert moved
    for e in moved:
        assert e.runs[-1].request.commit == e.commit
        assert e.evidence["incumbent"] == by_commit[e.parent].sample.under({e.runs[-1].request.seed}).mean


class Unoriginal:
    """A workspace in which every change comes to the same program."""

    def __init__(self, workspace):
        self._workspace = workspace

    def __getattr__(self, name):
        return getattr(self._workspace, name)

    def commit(self, *args):
        """A new commit, the old content."""
        return replace(self._workspace.commit(*args), content="the same")


def test_the_same_program_is_never_run_twice():
    """Whoever proposes it again, and from whatever parent, learns which experiment has measured it."""
    world = World(seed=1, physics=QUIET)

    ledger = simulate(
        world,
        limits=Limits(experiments=30),
        wrap=lambda part: Unoriginal(part) if isinstance(part, SimulatedWorkspace) else part,
    )
    first, *rest = [e for e in ledger.experiments("sim") if e.number and e.verdict and not e.revisions]

    assert len(first.runs) == 1
    # Told while #1 waits or is run, and then so often that its author, who had one idea, is sent home.
    assert PATIENCE <= len(rest) <= PATIENCE + 4
    assert [(len(e.runs), e.verdict) for e in rest] == [(0, Verdict.DISCARD)] * len(rest)
    assert all("#1" in e.reason and "the same" in e.reason for e in rest)


def test_the_judge_learns_every_experiment_once_and_again_after_a_restart():
    """A resumed campaign replays its history into the policy, in the order of the verdicts."""
    world, first, second = World(seed=2, slots=3), Asking(Action.RUN_CANDIDATE, 1), Asking(Action.RUN_CANDIDATE, 1)
    ledger = simulate(world, policy=first, limits=Limits(experiments=10))

    simulate(world, policy=second, ledger=ledger, limits=Limits(experiments=11))

    assert second.learnt[: len(first.learnt)] == first.learnt
    assert len(set(second.learnt)) == len(second.learnt)


def candidate(*outcomes: Outcome | None, **notes: str) -> Experiment:
    """A candidate whose runs ended like this; None is still under way."""
    runs = [
        Run(
            RunRequest("sim", 1, i, "c1", sum(other is Outcome.FINISHED for other in outcomes[:i]), 1, 1),
            "slot",
            outcome and RunResult(outcome, 1.0 if outcome is Outcome.FINISHED else None, "so it was\nand more"),
        )
        for i, outcome in enumerate(outcomes)
    ]
    plan = Proposal("idea", Kind.ABLATION if notes else Kind.OTHER, notes=notes)
    return Experiment("sim", 1, "somebody", "c0", commit="c1", proposal=plan, runs=tuple(runs))


PARENT = replace(candidate(Outcome.FINISHED), number=0)
DONE, BAD = Outcome.FINISHED, Outcome.DISTURBED


@pytest.mark.parametrize(
    ("experiment", "what", "runs"),
    [
        (candidate(DONE, None), Do.WAIT, 0),
        (candidate(DONE), Do.JUDGE, 0),
        (candidate(DONE, BAD), Do.RUN, 1),
        (candidate(BAD), Do.RUN, 1),
        (candidate(*[BAD] * MOST_DISTURBED), Do.END, 0),
        (candidate(DONE, runs="3"), Do.RUN, 2),
        (candidate(DONE, DONE, DONE, runs="3"), Do.RUN_PARENT, 0),
        (candidate(DONE, runs="1"), Do.JUDGE, 0),
    ],
)
def test_the_next_step_follows_from_how_runs_ended(experiment, what, runs):
    """Waiting, repeating, giving up, measuring the other side too, judging: nothing else."""
    step = next_step(experiment, PARENT, baseline_runs=2)

    assert (step.what, step.runs) == (what, runs)


def test_a_failure_ends_an_experiment_and_a_run_stopped_early_is_a_discard():
    """What could not win was no crash."""
    crash = next_step(candidate(DONE, Outcome.CRASHED), PARENT, baseline_runs=2)
    stopped = next_step(candidate(Outcome.STOPPED_EARLY), PARENT, baseline_runs=2)

    assert (crash.what, crash.verdict, crash.reason) == (Do.END, Verdict.CRASH, "crashed: so it was")
    assert (stopped.what, stopped.verdict) == (Do.END, Verdict.DISCARD)
    assert stopped.reason.startswith("stopped early: so it was")


def test_the_baseline_gets_all_its_runs_at_once():
    """And is then what it is."""
    baseline = replace(candidate(DONE), number=0, proposal=Proposal("baseline", Kind.BASELINE))

    assert next_step(baseline, None, baseline_runs=3).runs == 2
    assert next_step(baseline, None, baseline_runs=1).what is Do.ACCEPT
