"""Verdicts in words: one to three whole sentences about anything, and no number that nobody knows."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.experiment import Stage
from autoresearch.domain.line import what
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome
from autoresearch.domain.verdict import Verdict
from autoresearch.report.words import amount, chance_better, chance_in, chances, explain, p_value
from tests.report.nights import build

METRIC = Metric("val_bpb")
RIVAL = build(4, "keep", 1.0)
BELIEF = {
    "gain": 0.004, "candidate": 0.996, "incumbent": 1.0, "candidate_runs": 2, "incumbent_runs": 3, "noise": 0.002,
    "expected_gain": 0.0021, "expected_gain_sd": 0.0011, "probability_better": 0.94, "price": 0.0003,
    "value_of_run": 0.00002, "value_of_idea": 0.0004, "believed": 0.9979, "believed_sd": 0.001, "policy": "belief",
}  # fmt: skip
KEYS = tuple(k for k in BELIEF if k != "policy")


def words(verdict="keep", value=0.996, *, rival=RIVAL, noise=None, policy="", metric=METRIC, **options):
    """The sentences about one experiment."""
    plan = {key: options.pop(key) for key in ("kind", "of") if key in options}
    experiment = build(7, verdict, value, **options)
    experiment = replace(experiment, proposal=replace(experiment.proposal, **plan))
    return explain(experiment, metric, rival=rival, noise=noise, policy=policy)


def test_a_keep_under_belief_is_told_in_three_sentences():
    """What was measured, what is believed, and why no more was run; each number with its meaning."""
    measured, believed, stopped = words(evidence=BELIEF)
    assert measured == (
        "In 2 runs this change reached val_bpb 0.99600 on average, and #4 1.00000 (3 runs): better by 0.004, "
        "where luck alone moves a run by about 0.002."
    )
    assert believed == (
        "Weighed against what ideas here usually bring, the judge believes in a gain of 0.0021, give or take 0.0011, "
        "with 94 chances in 100 that it gains more than the 0.0003 which its added lines cost."
    )
    assert stopped == (
        "One more run of it would have been worth 0.00002 on average, and the same time spent on a new idea 0.0004, "
        "so no more was run and it was kept."
    )


def test_runs_of_the_rival_that_were_left_out_are_accounted_for():
    """A rival with more runs than it is compared by had the others under other seeds."""
    rival = build(4, "keep", 1.0, 1.1, 1.2)
    evidence = {**BELIEF, "candidate_runs": 1, "incumbent_runs": 1}
    assert "#4 1.00000 (one run under the same seed): better" in words(rival=rival, evidence=evidence)[0]


@pytest.mark.parametrize(
    ("gain", "believed", "ending"),
    [
        (-0.004, 0.001, "; it takes the score of #4 for a lucky one."),
        (0.004, -0.001, "; it takes the score of #4 for an unlucky one."),
        (0.004, 0.001, " its added lines cost."),
        (-0.004, 0.0, " its added lines cost."),
    ],
)
def test_a_belief_of_the_other_sign_is_explained(gain, believed, ending):
    """Measured worse and believed better: the incumbent's own score was the lucky one, and the reader is told."""
    assert words(evidence={**BELIEF, "gain": gain, "expected_gain": believed})[1].endswith(ending)


def test_a_discard_that_looked_good_is_explained():
    """What is more likely a gain than not may still be too unsure to build on."""
    unsure = {**BELIEF, "expected_gain": 0.0005, "probability_better": 0.6}
    assert words("discard", evidence=unsure)[2].endswith("it was discarded, as too unsure to build on.")
    assert words("discard", evidence={**unsure, "expected_gain": 0.0001})[2].endswith("it was discarded.")


def test_the_chance_of_a_gain_is_the_judges_own_where_it_wrote_one():
    """A belief need not be normal, so its own chance comes first; over a price of zero both chances are one."""
    assert chance_in({**BELIEF, "probability_positive": 0.7}) == 0.7
    assert chance_in({**BELIEF, "price": 0.0}) == 0.94
    assert chance_in(BELIEF) == pytest.approx(0.9719, abs=1e-3) and chance_in({}) is None


def test_runs_that_were_used_up_are_said_to_be():
    """A further run that would still have been worth something was not allowed."""
    assert words(evidence={**BELIEF, "value_of_run": 0.1})[2] == (
        "It had all the runs that one idea is given, so it was kept."
    )


def test_a_simplification_has_a_bar_below_zero():
    """Removed lines are worth something, so a small loss is in order."""
    believed = words(evidence={**BELIEF, "price": -0.0005})[1]
    assert "loses less than the 0.0005 which its removed lines are worth" in believed


def test_greedy_is_told_with_the_odds_of_luck():
    """No belief stands in its evidence, so the reader learns how often nothing at all would look like that."""
    greedy = {"gain": 0.002, "candidate": 0.998, "incumbent": 1.0, "candidate_runs": 1, "incumbent_runs": 1}
    _, luck, stopped = words(evidence={**greedy, "noise": 0.002}, policy="greedy")
    assert luck == "A change without any effect would look this good about 1 time in 4, so it may well be luck."
    assert stopped.startswith("'greedy' lets a single run decide") and stopped.endswith("it was kept.")
    assert "hardly luck" in words("discard", evidence={**greedy, "gain": -0.02, "noise": 0.002}, policy="greedy")[1]


def test_noise_that_is_unknown_or_zero_is_said():
    """Neither is a number to compare with."""
    assert "luck" not in words()[0] and "no program had been run twice" in words()[1]
    assert "identical scores" in words(noise=0.0)[0] and "no part" in words(noise=0.0)[1]
    assert words("discard", 1.0, noise=0.0)[1] == "So the change has no effect on the score."


def test_derived_experiments_name_their_origin():
    """Taking something away and trying something again are told as such, with what follows for the original."""
    evidence = {**BELIEF, "gain": -0.004, "price": -0.001}
    measured, believed, stopped = words("discard", kind=Kind.ABLATION, of=3, evidence=evidence)
    assert believed.startswith("Together with what was believed of #3 when it was kept, the judge believes in a gain")
    assert "loses less than the 0.001 which a simpler program is worth" in believed
    assert "the program without #3 reached" in measured and stopped.endswith("#3 stays in.")
    assert words("keep", kind=Kind.ABLATION, of=3, evidence=BELIEF)[2].endswith("#3 was taken out for good.")
    assert "the change of #3, tried again, reached" in words(kind=Kind.RETEST, of=3, evidence=BELIEF)[0]


@pytest.mark.parametrize(
    ("proposal", "line"),
    [
        (Proposal("wider"), "wider"),
        (Proposal("wider", Kind.ABLATION, of=12), "removes #12: wider"),
        (Proposal("wider", Kind.RETEST, of=7), "tries #7 again: wider"),
        (Proposal("the program without #12", Kind.ABLATION, of=12), "the program without #12"),
        (Proposal("no rotary", Kind.ABLATION), "no rotary"),
    ],
)
def test_a_line_says_where_a_derived_experiment_comes_from(proposal, line):
    """Never twice."""
    assert what(replace(build(20, "keep", 1.0), proposal=proposal)) == line


def test_what_has_no_score_is_told_by_its_cause():
    """A crash, a refusal, an overtaken proposal, a run stopped early, and disturbed ones."""
    assert words("crash", None, detail="ValueError: bad\nTraceback")[0] == "Its program failed: ValueError: bad."
    refused = explain(build(1, "crash", reason="it edits prepare.py"), METRIC)
    assert refused[0] == "It was never run: it edits prepare.py." and "nothing was measured" in refused[1]
    for outcome, said in ((Outcome.STOPPED_EARLY, "no score"), (Outcome.DISTURBED, "change's own doing")):
        failed = build(1, "crash", None, detail="far behind")
        run = failed.runs[0]
        failed = replace(failed, runs=(replace(run, result=replace(run.result, outcome=outcome)),))
        assert any(said in sentence for sentence in explain(failed, METRIC))


def test_an_imported_verdict_is_not_ours(real_log):
    """Nobody knows how it was reached, and no judge of ours takes the credit."""
    experiments = real_log.experiments("night")
    kept = next(e for e in experiments if e.verdict is Verdict.KEEP and not e.is_baseline)
    said = explain(kept, real_log.metric, rival=experiments[0])
    assert "no judge of ours" in said[2] and "better by" in said[0]


def test_the_baseline_shows_what_luck_does():
    """Its replicates are the first measure of it."""
    assert explain(build(0, "keep", 1.00, 1.02, 0.98), METRIC) == (
        "3 runs of the untouched lab, each under another seed, gave val_bpb 1.0000 on average.",
        "They differ by about 0.02 although the program is the same: that much is luck.",
        "Every later change is compared with them.",
    )
    assert "single one" in explain(build(0, "keep", 1.0), METRIC)[1]


def test_chances_are_never_certain():
    """Neither 100 in 100 nor 0."""
    assert [chances(p) for p in (2.0, 0.999, 0.5, 0.011, 0.0)] == [
        "more than 99 chances in 100", "more than 99 chances in 100", "50 chances in 100", "1 chance in 100",
        "less than 1 chance in 100",
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), [(0.00042, "0.00042"), (-1234.5, "1234"), (3e-9, "3e-09"), (0, "0")])
def test_amounts_are_written_in_full_where_that_can_be_read(value, text):
    """No powers of ten for what people know from everyday life."""
    assert amount(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.5, "p = 0.5"), (0.0312, "p = 0.031"), (2.7e-6, "p < 0.001"), (0, "p < 0.001")]
)
def test_no_p_value_claims_more_than_a_few_pairs_can_show(p, text):
    """Below a thousandth only that is said."""
    assert p_value(p) == text


def test_a_belief_gives_the_chance_of_a_gain():
    """Half for none, certain without spread, None where nothing is known."""
    assert chance_better(0.0, 1.0) == 0.5 and chance_better(1.0, 0.0) == 1.0
    assert chance_better(1.96, 1.0) == pytest.approx(0.975, abs=1e-3)
    assert chance_better(None, 1.0) is None and chance_better(1.0, None) is None


@st.composite
def experiments(draw):
    """Anything that a ledger may hold, and worse."""
    values = draw(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=3))
    numbers = st.one_of(st.floats(), st.integers(), st.just(0.0), st.text(max_size=3))
    evidence = draw(st.dictionaries(st.sampled_from(KEYS), numbers))
    if draw(st.booleans()):
        evidence["policy"] = draw(st.sampled_from(["greedy", "margin", "fixed-n", "belief", "else"]))
    made = build(7, draw(st.sampled_from(Verdict)), *values, evidence=evidence)
    runs = tuple(
        replace(run, result=replace(run.result, outcome=draw(st.sampled_from(list(Outcome)[1:]))))
        if run.result.metric is None
        else run
        for run in made.runs
    )
    plan = Proposal("idea", draw(st.sampled_from(Kind)), of=draw(st.none() | st.integers(0, 9)))
    return replace(
        made, runs=runs, proposal=plan, verdict=draw(st.none() | st.just(made.verdict)),
        stage=draw(st.sampled_from(Stage)), reason=draw(st.sampled_from(["", "stale since #3 was kept. Really"])),
    )  # fmt: skip


@settings(max_examples=300)
@given(
    experiments(),
    st.none() | experiments(),
    st.sampled_from(Direction),
    st.none() | st.floats(),
    st.sampled_from(["", "greedy", "belief"]),
)
def test_anything_is_told_in_whole_sentences(experiment, rival, direction, noise, policy):
    """One to three, each ending in a full stop, without nan, inf, None or an empty place."""
    said = explain(experiment, Metric("loss", direction), rival=rival, noise=noise, policy=policy)
    assert 1 <= len(said) <= 3
    for sentence in said:
        assert re.fullmatch(r"\S.*[^.\s]\.", sentence) and not re.search(r"\b(nan|inf|None)\b|  |\( ", sentence)


def test_without_noise_nothing_is_a_matter_of_chance():
    """Identical runs that agree exactly leave no odds to tell, and no reason to look again."""
    exact = {**BELIEF, "gain": 0.0, "candidate": 1.0, "noise": 0.0, "expected_gain": 0.0, "expected_gain_sd": 0.0}
    measured, believed, stopped = words("discard", evidence={**exact, "probability_better": 0.5})
    assert "exactly the same" in measured
    assert believed == "So the change has no effect on the score."
    assert stopped == "One more run would have given the same number, so no more was run and it was discarded."


def test_runs_under_other_seeds_are_not_forgotten():
    """The comparison shares its seeds; what was run beside them stands in the same sentence."""
    measured = words(evidence={**BELIEF, "all_runs": 7})[0]
    assert measured.startswith("In 2 runs") and measured.endswith("; the judge weighed all of its 7 runs.")
    assert "weighed" not in words(evidence={**BELIEF, "all_runs": 2})[0]
