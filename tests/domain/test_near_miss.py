"""Near-misses: what counts as one, what is tried together, and what a stack teaches about its parts."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.near_miss import STACKED, NearMisses, kept_elsewhere
from autoresearch.domain.operator import Operator
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict


def tried(number, gain, *, verdict=Verdict.DISCARD, kind=Kind.OTHER, sd=0.01, of=None, stacked="", touches=()):
    """A settled experiment whose gain is believed to be so much."""
    evidence = {"expected_gain": gain, "expected_gain_sd": sd, "gain": 2 * gain, "noise": 0.01}
    evidence |= {"candidate_runs": 1, "incumbent_runs": 2}
    run = Run(RunRequest("night", number, 0, f"c{number}", 1, 300, 600), "gpu0", RunResult(Outcome.FINISHED, 1.0))
    plan = Proposal(f"idea {number}", kind, touches, notes={STACKED: stacked} if stacked else {}, of=of)
    return Experiment(
        "night", number, "somebody", "c0", Stage.SETTLED, f"c{number}", plan, verdict, evidence=evidence, runs=(run,),
        operator=Operator.COMBINE if stacked else None,
    )  # fmt: skip


def learnt(*experiments):
    """What nearly helped, after these."""
    misses = NearMisses()
    for experiment in experiments:
        misses.learn(experiment)
    return misses


def labels(stacks):
    """Each stack as the labels of its members."""
    return [tuple(miss.label for miss in stack) for stack in stacks]


def test_a_discard_that_is_believed_to_help_is_a_near_miss():
    """Losses, keeps, crashes and removals are none."""
    misses = learnt(
        tried(1, 0.01),
        tried(2, -0.01),
        tried(3, 0.01, verdict=Verdict.KEEP),
        tried(4, 0.01, verdict=Verdict.CRASH),
        tried(5, 0.01, kind=Kind.ABLATION, of=3),
    )

    assert [miss.label for miss in misses.best()] == ["#1"]


def test_pairs_come_by_what_they_promise_together():
    """The sum of believed gains decides; what is tried is not tried again, whatever came of it."""
    misses = learnt(tried(1, 0.01), tried(2, 0.03), tried(3, 0.02))
    assert labels(misses.stacks()) == [("#2", "#3"), ("#2", "#1"), ("#3", "#1")]

    misses.learn(replace(tried(4, -1.0, stacked="#2 #3"), runs=(), evidence={}))

    assert labels(misses.stacks()) == [("#2", "#1"), ("#3", "#1")]


def test_what_turns_the_same_constants_is_no_pair():
    """A second value for one constant undoes the first."""
    misses = learnt(
        tried(1, 0.01, kind=Kind.TUNE, touches=("X", "Y")),
        tried(2, 0.02, kind=Kind.TUNE, touches=("Y",)),
        tried(3, 0.03, kind=Kind.TUNE, touches=("Z",)),
    )

    assert ("#2", "#1") not in labels(misses.stacks())
    assert len(misses.stacks()) == 2


def test_a_kept_stack_takes_its_parts_along():
    """They are in the incumbent now, and so is everything that holds one of them."""
    misses = learnt(tried(1, 0.01), tried(2, 0.02), tried(3, 0.03))

    misses.learn(tried(4, 0.05, stacked="#1 #2", verdict=Verdict.KEEP))

    assert [miss.label for miss in misses.best()] == ["#3"]


def test_a_stack_that_nearly_helped_may_be_stacked_further():
    """With what is not in it yet: so three come together."""
    misses = learnt(tried(1, 0.01), tried(2, 0.02), tried(3, 0.03), tried(4, 0.02, stacked="#1 #2"))

    assert ("#3", "#4") in labels(misses.stacks())
    assert ("#4", "#2") not in labels(misses.stacks()) and ("#2", "#4") not in labels(misses.stacks())
    [together] = [stack for stack in misses.stacks() if "#4" in labels([stack])[0]]
    assert frozenset().union(*(miss.parts for miss in together)) == {"#1", "#2", "#3"}


def test_a_second_look_replaces_the_first():
    """Kept, it is a near-miss no more; lost, neither; near again, its newest commit is the one to carry on."""
    again = tried(5, 0.02, kind=Kind.RETEST, of=1)

    assert learnt(tried(1, 0.01), replace(again, verdict=Verdict.KEEP)).best() == []
    assert learnt(tried(1, 0.01), tried(5, -0.02, kind=Kind.RETEST, of=1)).best() == []
    [miss] = learnt(tried(1, 0.01), again).best()
    assert (miss.label, miss.commit, miss.hypothesis) == ("#1", "c5", "idea 1")


@given(
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    st.floats(-2, 2),
    st.floats(0.001, 1),
)
def test_a_stack_teaches_about_its_parts(gains, deviations, measured, noise):
    """Their sum moves towards what was measured and not beyond, and nobody is less sure than before."""
    misses = learnt(tried(1, gains[0], sd=deviations[0]), tried(2, gains[1], sd=deviations[1]))
    before = {miss.label: miss for miss in misses.best()}
    stack = tried(3, -1.0, stacked="#1 #2")
    misses.learn(replace(stack, evidence={**stack.evidence, "gain": measured, "noise": noise}))

    after = {miss.label: miss for miss in misses.best()}
    if len(after) == 2:  # else one of them is not believed to help any more
        low, high = sorted((sum(gains), measured))
        assert low - 1e-9 <= sum(miss.gain for miss in after.values()) <= high + 1e-9
    assert all(miss.gain > 0 and miss.deviation <= before[label].deviation for label, miss in after.items())


def test_only_who_was_asked_to_combine_says_what_he_combined():
    """A note of the same title by anybody else is a note."""
    misses = learnt(tried(1, 0.01), tried(2, 0.02), replace(tried(3, -1, stacked="#1 #2"), operator=Operator.WILD))

    assert labels(misses.stacks()) == [("#2", "#1")]


def test_what_another_campaign_kept_is_worth_a_try_by_itself():
    """Under a label that tells it from this campaign's own."""
    other = kept_elsewhere("eve", [tried(1, 0.05, verdict=Verdict.KEEP), tried(2, 0.05)])

    assert labels(learnt(tried(1, 0.01)).stacks(other)) == [("#1", "eve#1"), ("eve#1",)]
