"""The way from runs to a verdict: replicates on request, stale winners, the judge's memory."""

from dataclasses import replace

from autoresearch.campaign.review import MOST_ASKED
from autoresearch.campaign.scheduler import SAME_REASONS
from autoresearch.campaign.simulation import Physics, SimulatedWorkspace, World, simulate
from autoresearch.domain.budget import Limits
from autoresearch.domain.verdict import Action, Decision, Verdict
from autoresearch.judge.policy import Greedy

QUIET = Physics(crash_share=0, disturbed_share=0, refused_share=0, conflict_share=0)


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
    assert len(rest) == SAME_REASONS  # and then its author is sent home, whatever the limit
    assert rest
    assert {(len(e.runs), e.reason) for e in rest} == {(0, "the same program as #1, which has been run")}


def test_the_judge_learns_every_experiment_once_and_again_after_a_restart():
    """A resumed campaign replays its history into the policy, in the order of the verdicts."""
    world, first, second = World(seed=2, slots=3), Asking(Action.RUN_CANDIDATE, 1), Asking(Action.RUN_CANDIDATE, 1)
    ledger = simulate(world, policy=first, limits=Limits(experiments=10))

    simulate(world, policy=second, ledger=ledger, limits=Limits(experiments=11))

    assert second.learnt[: len(first.learnt)] == first.learnt
    assert len(set(second.learnt)) == len(second.learnt)
