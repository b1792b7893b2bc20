"""Which ideas wait for somebody to try them: derived from what the ledger holds, and from nothing else."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.learnt import Abandoned, Idea, Ideas, Review, open_ideas
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import RunRequest
from autoresearch.domain.verdict import Verdict

SHARE = "share the weights of all layers"


def tried(number, hypothesis, *, idea="", has_run=True, **fields):
    """A settled experiment."""
    runs = (Run(RunRequest("c", number, 0, f"c{number}", 1, 5, 9), "cpu0"),) if has_run else ()
    plan = Proposal(hypothesis, Kind.OTHER, idea=idea)
    return Experiment(
        "c", number, "ada", "base", Stage.SETTLED, f"c{number}", plan, Verdict.DISCARD, runs=runs, **fields
    )


DROPPED = tried(3, SHARE, drops_idea=True)


def ids(*experiments, **known):
    """Ids of the ideas that are open."""
    return [idea.id for idea in open_ideas(experiments, **known)]


def test_a_dropped_plan_is_an_idea_that_nobody_has_tried():
    """Its experiment tried something else; one whose diff did what it declared leaves nothing open."""
    assert open_ideas([DROPPED, tried(4, "a wider model")]) == [Idea("e3", SHARE, "ada")]


def test_an_experiment_takes_an_idea_up_by_its_id_or_in_its_words():
    """Who says `e3`, or says the same in nearly the same words, has taken it up; something similar has not."""
    assert ids(DROPPED, tried(5, "tie them", idea="e3")) == []
    assert ids(DROPPED, tried(5, "Sharing: share weights of all the layers")) == []
    assert ids(DROPPED, tried(5, "share the weights of the embedding")) == ["e3"]


def test_an_attempt_that_came_to_nothing_leaves_the_idea_open():
    """Refused before its run, or dropped a second time: still nobody knows what it is worth, and it is listed once."""
    assert ids(DROPPED, tried(5, SHARE, idea="e3", has_run=False)) == ["e3"]
    assert ids(DROPPED, tried(5, SHARE, idea="e3", drops_idea=True)) == ["e3"]


def test_reviews_abandon_and_people_close():
    """An idea leaves the list when a review gives it up or a person closes it, whoever had it."""
    review = Review(1, "bob", 9, next_bets=("warm up", "cool down"), abandoned=(Abandoned("e3", "no room"),))
    noted = [Idea("n1", "sort the data", "you")]
    assert ids(DROPPED, reviews=[review], noted=noted) == ["r1.1", "r1.2", "n1"]
    assert ids(DROPPED, reviews=[review], noted=noted, closed={"r1.2": "", "n1": ""}) == ["r1.1"]


def test_bets_lapse_with_the_next_review_that_somebody_writes():
    """Only the newest bets are open; a computed review names none of its own and ends nobody's."""
    first, second = Review(1, "bob", 9, next_bets=("warm up",)), Review(2, "bob", 20, next_bets=("cool down",))
    third = Review(3, "harness", 30, next_bets=("another look at #4",), is_computed=True)
    assert ids(reviews=[first, second]) == ["r2.1"]
    assert ids(reviews=[first, second, third]) == ["r2.1"]


@given(st.lists(st.tuples(st.sampled_from(["warm up", "cool down", "tie both"]), st.booleans()), max_size=8))
def test_an_idea_is_open_from_its_fall_to_the_next_attempt(attempts):
    """In whatever order: exactly the dropped plans that no later experiment carried out, each told once."""
    found = open_ideas([tried(n, text, drops_idea=is_dropped) for n, (text, is_dropped) in enumerate(attempts)])
    waiting: dict[str, str] = {}
    for number, (text, is_dropped) in enumerate(attempts):
        if is_dropped:
            waiting.setdefault(text, f"e{number}")
        else:
            waiting.pop(text, None)
    assert {idea.text: idea.id for idea in found} == waiting


@given(
    st.lists(
        st.tuples(st.sampled_from(["warm up", "cool down", "tie both", "tie them"]), st.booleans(), st.booleans()),
        max_size=10,
    ),
    st.randoms(use_true_random=False),
)
def test_ideas_kept_up_are_those_of_the_whole_history(attempts, rng):
    """Whoever asks after each verdict, in whatever order verdicts come, is told what all experiments together say."""
    review = Review(1, "bob", 9, next_bets=("tie both of them", "sort"))
    everything = [
        tried(n, text, drops_idea=is_dropped, has_run=has_run) for n, (text, is_dropped, has_run) in enumerate(attempts)
    ]
    waiting, known = list(everything), Ideas()
    while waiting:
        known.learn(waiting.pop(rng.randrange(len(waiting))))
        under_way = [replace(each, stage=Stage.PROPOSED) for each in waiting]
        settled = [each for each in everything if each not in waiting]

        assert known.open(under_way, [review]) == open_ideas([*under_way, *settled], [review])
