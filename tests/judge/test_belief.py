"""The belief ratchet as one campaign sees it: what it remembers, and what must not matter to it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Action, Case, Decision, Sample, Verdict
from autoresearch.judge.belief import Belief
from autoresearch.judge.policy import Policy, policy_named

LOWER = Metric("loss")
HIGHER = Metric("score", direction=Direction.MAX)
VERDICTS = {Action.KEEP: Verdict.KEEP, Action.DISCARD: Verdict.DISCARD}


def experiment(number: int, parent: str, values: list[float], verdict: Verdict, **plan: object) -> Experiment:
    """A settled experiment whose replicate j ran under seed j."""
    commit = f"c{number}"
    runs = tuple(
        Run(RunRequest("sim", number, j, commit, j, 300, 600), "cpu0", RunResult(Outcome.FINISHED, value))
        for j, value in enumerate(values)
    )
    kind = Kind.BASELINE if number == 0 else Kind.OTHER
    proposal = Proposal("", **{"kind": kind, **plan})
    return Experiment("sim", number, "r", parent, Stage.SETTLED, commit, proposal, verdict, runs=runs)


def sample(values: list[float]) -> Sample:
    """Under seeds 0, 1, ..."""
    return Sample(tuple(values), tuple(range(len(values))))


class Campaign:
    """Drives a policy as a campaign does: one candidate after another, run as often as it asks."""

    def __init__(self, policy: Policy, metric: Metric, baseline: list[float]) -> None:
        self.policy, self.metric = policy, metric
        self.best, self.values = 0, {0: baseline}
        self.count = 0
        self.log: list[tuple[str, int]] = []
        self.history: list[Experiment] = []
        self._settle(experiment(0, "c0", baseline, Verdict.KEEP))

    def _settle(self, settled: Experiment) -> None:
        self.history.append(settled)
        self.policy.learn(settled)

    def judge(self, values: list[float], **case: object) -> Decision:
        """One candidate; `values` are what its runs would give."""
        self.count += 1
        number, parent = self.count, self.best
        for runs in range(1, len(values) + 1):
            seen = values[:runs]
            decision = self.policy.decide(
                Case(self.metric, sample(seen), sample(self.values[parent]), number=number, parent=parent, **case)
            )
            if decision.action in VERDICTS:
                break
        verdict = VERDICTS.get(decision.action, Verdict.DISCARD)
        plan = {name: value for name, value in case.items() if name in ("kind", "of")}
        self._settle(experiment(number, f"c{parent}", seen, verdict, **plan))
        self.log.append((verdict.value, runs))
        if verdict is Verdict.KEEP:
            self.best, self.values[number] = number, seen
        return decision


def night(policy: Policy, metric: Metric, scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> Campaign:
    """Forty candidates of a program whose noise is 0.01, in another unit and with another zero."""
    rng = random.Random(seed)
    sign = 1 if metric.direction is Direction.MIN else -1

    def run(level: float) -> float:
        return sign * scale * (level + rng.gauss(0, 0.01)) + shift

    level = 1.0
    campaign = Campaign(policy, metric, [run(level) for _ in range(3)])
    for _ in range(40):
        effect = rng.choice([0, 0, -0.005, -0.02, -0.3, 0.003, 0.02])
        before = campaign.best
        campaign.judge([run(level - effect) for _ in range(8)])
        if campaign.best != before:
            level -= effect
    return campaign


def test_the_unit_does_not_matter():
    """The same night in the smallest units and in the largest has the same verdicts after the same runs."""
    logs = [night(Belief(LOWER, guess=0.01 * scale), LOWER, scale).log for scale in (1e-200, 1e-9, 1.0, 1e9, 1e200)]

    assert all(log == logs[0] for log in logs)
    assert {verdict for verdict, _ in logs[0]} == {"keep", "discard"}


def test_the_direction_does_not_matter():
    """A metric to be raised is the mirror of one to be lowered."""
    assert night(Belief(LOWER), LOWER).log == night(Belief(HIGHER), HIGHER).log


def test_the_zero_does_not_matter():
    """Only differences between runs count, once the noise has been guessed."""
    assert night(Belief(LOWER, guess=0.01), LOWER).log == night(Belief(LOWER, guess=0.01), LOWER, shift=50.0).log


def test_the_same_history_gives_the_same_judge():
    """A resumed campaign replays what was settled and decides as if it had never stopped."""
    lived = night(Belief(LOWER), LOWER)
    replayed = Belief(LOWER)
    for settled in lived.history:
        replayed.learn(settled)

    case = Case(LOWER, sample([0.9]), sample(lived.values[lived.best]), number=99, parent=lived.best)
    assert replayed.decide(case) == lived.policy.decide(case)


def test_luck_is_shrunken_and_progress_believed():
    """Of a hundred campaigns of pure noise few keep anything, and what is believed is far below what was seen."""
    kept = 0
    for seed in range(30):
        rng = random.Random(seed)
        campaign = Campaign(Belief(LOWER), LOWER, [1 + rng.gauss(0, 0.01) for _ in range(3)])
        for _ in range(15):
            decision = campaign.judge([1 + rng.gauss(0, 0.01) for _ in range(8)])
            assert decision.evidence["expected_gain"] <= max(decision.evidence["gain"], 0) + 0.02
        kept += sum(verdict == "keep" for verdict, _ in campaign.log)

    greedy = 0
    for seed in range(30):
        rng = random.Random(seed)
        campaign = Campaign(policy_named("greedy", LOWER), LOWER, [1 + rng.gauss(0, 0.01) for _ in range(3)])
        for _ in range(15):
            campaign.judge([1 + rng.gauss(0, 0.01) for _ in range(8)])
        greedy += sum(verdict == "keep" for verdict, _ in campaign.log)
    assert kept < 0.6 * greedy


def test_a_noiseless_lab_keeps_every_gain_and_no_tie():
    """The metric of a deterministic program is the truth."""
    campaign = Campaign(Belief(LOWER), LOWER, [5.0, 5.0, 5.0])
    for value in (5.0, 4.999, 4.9995, 4.998):
        campaign.judge([value] * 8)

    assert campaign.log == [("discard", 1), ("keep", 1), ("discard", 1), ("keep", 1)]


def test_one_run_of_the_baseline_is_enough_to_begin():
    """The noise is then a guess; a large gain is kept and a large loss is not."""
    campaign = Campaign(Belief(LOWER), LOWER, [2.0])
    campaign.judge([2.5] * 8)
    campaign.judge([1.5] * 8)

    assert [verdict for verdict, _ in campaign.log] == ["discard", "keep"]


def test_a_seeds_luck_is_taken_off():
    """Under seed 0 everybody is better by 0.05: a candidate that gains nothing does not look as if it did.

    Its one run, under seed 0, lies far below the incumbent's mean over three seeds.
    """
    luck = [-0.05, 0.03, 0.02]
    campaign = Campaign(Belief(LOWER), LOWER, [1 + each for each in luck])
    decision = campaign.judge([1 + luck[0] + 0.001])

    assert decision.evidence["gain"] == pytest.approx(-0.001)
    assert decision.evidence["expected_gain"] < 0.01


def test_removing_what_earned_its_place_is_refused():
    """A removal is judged with what its change was believed to gain: bad without it, so it stays."""
    campaign = Campaign(Belief(LOWER), LOWER, [1.0, 1.01, 0.99])
    campaign.judge([0.8] * 8)
    assert campaign.best == 1
    decision = campaign.judge([0.99, 1.01, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], kind=Kind.ABLATION, of=1, lines_removed=3)

    assert decision.action is Action.DISCARD


def test_shorter_programs_may_lose_a_little_and_longer_ones_must_gain():
    """The same score, once with sixty lines less and once with sixty more."""
    shorter, longer = (
        Campaign(Belief(LOWER), LOWER, [1.0, 1.01, 0.99]).judge([1.0] * 8, lines_added=added, lines_removed=removed)
        for added, removed in ((0, 60), (60, 0))
    )

    assert shorter.action is Action.KEEP
    assert longer.action is Action.DISCARD


@pytest.mark.parametrize("broken", [1.5, 3.0, 1e5, 1e300])
def test_a_broken_candidate_does_not_make_the_incumbent_look_bad(broken):
    """After three of them, a candidate that gains nothing is believed to gain no more than before."""
    alike = [1.0005] * 8
    before = Campaign(Belief(LOWER), LOWER, [1.0, 1.001, 0.999]).judge(alike)
    campaign = Campaign(Belief(LOWER), LOWER, [1.0, 1.001, 0.999])
    for _ in range(3):
        campaign.judge([broken] * 8)
    after = campaign.judge(alike)

    assert after.action is Action.DISCARD
    assert after.evidence["expected_gain"] == pytest.approx(before.evidence["expected_gain"], abs=1e-4)


def test_an_accident_of_the_incumbents_is_not_believed():
    """Its fourth run diverged: a candidate as good as the first three is not kept for that."""
    campaign = Campaign(Belief(LOWER), LOWER, [1.0, 1.001, 0.999])
    campaign.values[0].append(12.0)

    assert campaign.judge([1.002] * 8).action is Action.DISCARD


def test_an_accident_is_no_noise():
    """The third run of a promising candidate diverged: the noise of all others stays near what it was."""
    campaign = Campaign(Belief(LOWER), LOWER, [1.0, 1.001, 0.999])
    before = campaign.judge([1.0] * 8).evidence["noise"]
    campaign.policy.learn(experiment(9, "c0", [0.998, 0.998, 12.0], Verdict.DISCARD))
    decision = campaign.judge([1.002] * 8)

    assert decision.evidence["noise"] < 3 * before
    assert decision.action is Action.DISCARD


@pytest.mark.parametrize("without", [5.0, 4.0, 3.0, 50.0])
def test_a_noiseless_lab_can_be_pruned(without):
    """A removal there has one outcome for sure; what comes after is judged as before."""
    campaign = Campaign(Belief(LOWER), LOWER, [5.0, 5.0, 5.0])
    campaign.judge([4.0])
    campaign.judge([without], kind=Kind.ABLATION, of=1)
    campaign.judge([2.0])

    assert campaign.log == [("keep", 1), ("keep" if without < 4 else "discard", 1), ("keep", 1)]


def test_a_part_that_others_lean_on_says_nothing_of_the_incumbent_either():
    """Taking it away costs fifty times what it brought; a candidate that gains nothing is not kept for that."""
    campaign = Campaign(Belief(LOWER), LOWER, [1.0, 1.001, 0.999])
    campaign.judge([0.99] * 8)
    campaign.judge([1.5] * 8, kind=Kind.ABLATION, of=1)
    decision = campaign.judge([0.9905] * 8)

    assert [verdict for verdict, _ in campaign.log] == ["keep", "discard", "discard"]
    assert abs(decision.evidence["expected_gain"]) < 0.001


values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
    st.sampled_from([0.0, 1.0, 1.0 + 1e-15, 5e-324, -1.7e308, 1.7e308]),
)
plans = st.sampled_from([{}, {"kind": Kind.ABLATION, "of": 1}, {"kind": Kind.RETEST, "of": 1}])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(values, min_size=1, max_size=4),
    st.lists(st.tuples(st.lists(values, min_size=8, max_size=8), plans), max_size=6),
)
def test_no_numbers_stop_a_night(baseline, candidates):
    """Whatever a metric does, there is a verdict, and its evidence holds numbers that can be written down."""
    campaign = Campaign(Belief(LOWER), LOWER, baseline)
    for candidate, plan in candidates:
        decision = campaign.judge(candidate, **plan)
        assert decision.action in VERDICTS
        for value in decision.evidence.values():
            assert value == value and value not in (float("inf"), float("-inf"))


@pytest.mark.parametrize("name", ["belief", "trust", "explore", "greedy", "margin", "fixed-n"])
def test_every_policy_keeps_to_the_protocol(name):
    """Under its own name; a decision for every case; large gains are kept, large losses are not."""
    policy = policy_named(name, LOWER)
    campaign = Campaign(policy, LOWER, [1.0, 1.01, 0.99])

    assert policy.name == name
    assert campaign.judge([0.5] * 8).action is Action.KEEP
    assert campaign.judge([1.5] * 8).action is Action.DISCARD


def test_an_unknown_policy_is_refused_in_words():
    """With the names that there are."""
    with pytest.raises(ValueError, match=r"no policy is called 'magic'; there is: belief, trust"):
        policy_named("magic", LOWER)
