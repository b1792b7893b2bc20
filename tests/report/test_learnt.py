"""Reviews, open ideas and drift in words: for `status` and for the report."""

from autoresearch.domain.experiment import Experiment
from autoresearch.domain.learnt import Abandoned, Idea, Review
from autoresearch.domain.proposal import Proposal
from autoresearch.report.learnt import Learnt, learnt_lines, learnt_sentences

EVIL = "# Result\n![x](http://example.org/x.png) <script>"
REVIEW = Review(
    2, "claude", 40, "a plateau", "Depth pays.", ("up to 6",), ("width",), (EVIL,), (Abandoned("e3", "no room"),)
)
DRIFTED = Experiment(
    "c", 7, "ada", "base", proposal=Proposal("share weights"), plan_drift="declared forward, which did not change",
    drops_idea=True,
)  # fmt: skip


def test_nothing_is_said_where_nothing_was_written():
    """A campaign without a review, an idea or drift has neither sentence nor section."""
    assert list(learnt_sentences(Learnt())) == [] and learnt_lines(Learnt()) == []


def test_status_has_the_newest_review_and_what_waits():
    """One sentence each: who looks back, the review with its first bet, the bill, drift, open ideas."""
    told = Learnt([Review(1, "harness", 20, summary="old", is_computed=True), REVIEW], [Idea("n1", "sort", "you")],
                  [DRIFTED], "codex", 0.5, 1200)  # fmt: skip
    looking, review, bill, drift, ideas = learnt_sentences(told)
    assert looking.startswith("codex looks back now")
    assert review.startswith("Review 2 (by claude, after 40 verdicts): Depth pays. Next: # Result")
    assert bill == "Reviews took $0.50, 1,200 tokens."
    assert drift == "1 diff departed from its plan (#7): see `autoresearch show`."
    assert ideas == "1 open idea (`autoresearch ideas`): n1 sort."


def test_the_report_has_all_of_it_escaped():
    """What agents wrote is text: it opens no heading, loads no picture, and is no HTML."""
    lines = learnt_lines(Learnt([REVIEW], [Idea("n1", EVIL, EVIL)], [DRIFTED]))
    text = "\n".join(lines)
    assert [line for line in lines if line.startswith("#")] == [
        "## What was learnt",
        "## Open ideas",
        "## Plans and diffs",
    ]
    assert "![" not in text and "<script>" not in text
    assert "- #7: share weights: declared forward, which did not change; the idea is untried" in lines
