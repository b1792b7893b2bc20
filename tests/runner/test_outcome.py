"""What each way of ending means."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Metric, Source
from autoresearch.domain.run import Outcome
from autoresearch.host.process import Answer, CommandAnswer
from autoresearch.runner.outcome import classify

METRIC = Metric("val")
ENDED = CommandAnswer(
    name="run", exit_code=0, signal=None, timed_out=False, error="", started_at=1.0, seconds=2.0, cpu_seconds=1.0,
    max_rss_bytes=1, oom_kills=0, survivors_killed=0, log_bytes=0, log_dropped_bytes=0,
)  # fmt: skip


def answer(*commands: CommandAnswer, **changes) -> Answer:
    """An answer in which nothing went wrong but what is said."""
    whole = Answer(commands, 1.0, 2.0, interrupted=False, changed=(), changed_after="", error="")
    return replace(whole, **changes)


def result_of(log: str = "", metric: Metric = METRIC, **changes):
    """How a single command ended that differs from success in `changes`."""
    return classify(answer(replace(ENDED, **changes)), metric=metric, logs={changes.get("name", "run"): log})


def test_a_finished_run_carries_its_metric_and_numbers():
    """Success: metric, summary, times."""
    result = result_of("---\nval: 1.5\nsteps: 9\n")
    assert (result.outcome, result.metric) == (Outcome.FINISHED, 1.5)
    assert result.summary == {"val": 1.5, "steps": 9.0}
    assert (result.started_at, result.wall_seconds) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("log", "outcome", "words"),
    [
        ("---\nval: nan", Outcome.DIVERGED, "val is nan"),
        ("---\nval: -inf", Outcome.DIVERGED, "val is -inf"),
        ("---\nval: oops", Outcome.NO_METRIC, "'oops'"),
        ("---\nval: 1\nval: 2", Outcome.NO_METRIC, "ambiguous"),
        ("---\nother: 1", Outcome.NO_METRIC, "no line 'val: <number>'"),
        ("", Outcome.NO_METRIC, "no line 'val: <number>'"),
    ],
)
def test_success_without_a_usable_number(log, outcome, words):
    """A command that succeeds and a number that does not."""
    result = result_of(log)
    assert (result.outcome, result.metric) == (outcome, None)
    assert words in result.detail


@pytest.mark.parametrize(
    ("log", "changes", "outcome"),
    [
        ("KeyError: 'x'", {"exit_code": 1}, Outcome.CRASHED),
        ("", {"exit_code": 1}, Outcome.CRASHED),
        ("Segmentation fault", {"exit_code": None, "signal": 11}, Outcome.CRASHED),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to", {"exit_code": 1}, Outcome.OUT_OF_MEMORY),
        ("MemoryError", {"exit_code": 1}, Outcome.OUT_OF_MEMORY),
        ("", {"exit_code": None, "signal": 9}, Outcome.OUT_OF_MEMORY),
        ("Killed", {"exit_code": 137}, Outcome.OUT_OF_MEMORY),
        ("", {"exit_code": None, "signal": 9, "timed_out": True}, Outcome.TIMED_OUT),
        ("---\nval: 1", {"exit_code": 0, "timed_out": True}, Outcome.TIMED_OUT),
        ("step 3 | loss: nan\nFAIL", {"exit_code": 1}, Outcome.DIVERGED),
        ("FAIL", {"exit_code": 1}, Outcome.DIVERGED),
        ("ValueError: loss is NaN at step 12", {"exit_code": 1}, Outcome.DIVERGED),
        ("FAILED tests/test_a.py", {"exit_code": 1}, Outcome.CRASHED),
        ("ModuleNotFoundError: No module named 'nancy'", {"exit_code": 1}, Outcome.CRASHED),
        ("", {"exit_code": None, "error": "the command 'x' was not found"}, Outcome.CRASHED),
        ("val: 1\nINVALID: it peeked", {"exit_code": 1}, Outcome.INVALID),
        ("INVALID: it peeked\n\n", {"exit_code": 1, "name": "evaluate"}, Outcome.INVALID),
        ("INVALID: so it said\nKeyError: 1", {"exit_code": 1}, Outcome.CRASHED),
        ("INVALID: slow", {"exit_code": None, "signal": 9, "timed_out": True}, Outcome.TIMED_OUT),
        ("INVALID: no", {"exit_code": 1, "name": "check"}, Outcome.CHECK_FAILED),
        ("AssertionError", {"exit_code": 1, "name": "check"}, Outcome.CHECK_FAILED),
        ("", {"exit_code": None, "signal": 9, "timed_out": True, "name": "evaluate"}, Outcome.EVALUATION_FAILED),
    ],
)
def test_failures_are_told_apart(log, changes, outcome):
    """Each way to fail has its own outcome, and a metric printed before does not count."""
    result = result_of(log, **changes)
    assert (result.outcome, result.metric) == (outcome, None)
    assert result.detail


def test_a_refusal_is_its_own_sentence_and_leaves_no_score():
    """The measurement's sentence is the whole detail, and what the program printed of its metric is not kept."""
    result = result_of("---\nval: 0.1\nsteps: 5\nINVALID: losses changed by 3 nats", exit_code=1)
    assert (result.detail, result.summary) == ("losses changed by 3 nats", {"steps": 5.0})


def test_an_old_memory_error_that_was_survived_is_not_the_reason():
    """A program that shrinks its batch after running out of memory may still crash over something else."""
    log = "CUDA out of memory, trying a smaller batch\nTraceback (most recent call last):\n  x\nKeyError: 'x'\n"
    assert result_of(log, exit_code=1).outcome is Outcome.CRASHED


def test_the_reason_comes_first():
    """A person reads the exception before the traceback."""
    log = "Traceback (most recent call last):\n  File\nKeyError: 'x'\n"
    assert result_of(log, exit_code=1).detail.split("\n")[:2] == [
        "KeyError: 'x'", "The command 'run' ended with exit code 1.",
    ]  # fmt: skip


def test_the_evaluation_alone_decides():
    """What the run prints about its own metric is remembered, but never counts against the evaluation."""
    both = answer(ENDED, replace(ENDED, name="evaluate"))
    logs = {"run": "---\nval: 0.1\nsteps: 5\n", "evaluate": "---\nval: 1.5\n"}
    result = classify(both, metric=METRIC, logs=logs)
    assert (result.metric, result.summary) == (1.5, {"val": 1.5, "steps": 5.0})
    assert classify(both, metric=METRIC, logs=logs | {"evaluate": ""}).outcome is Outcome.NO_METRIC


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        ({"interrupted": True}, Outcome.INTERRUPTED, "stopped"),
        ({"error": "the disk is full"}, Outcome.DISTURBED, "the disk is full"),
        ({"changed": ("prepare.py",), "changed_after": "run"}, Outcome.PROTECTED_CHANGED, "changed during 'run'"),
        ({"changed": ("prepare.py",)}, Outcome.PROTECTED_CHANGED, "prepare.py differed before"),
    ],
)
def test_what_spoils_a_whole_run(changes, outcome, words):
    """However good the number looks, a spoilt run has none."""
    result = classify(answer(ENDED, **changes), metric=METRIC, logs={"run": "---\nval: 1"})
    assert (result.outcome, result.metric) == (outcome, None)
    assert words in result.detail


records = st.builds(
    CommandAnswer,
    name=st.sampled_from(["check", "run", "evaluate"]), exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64), timed_out=st.booleans(), error=st.sampled_from(["", "not found"]),
    started_at=st.just(0.0), seconds=st.just(1.0), cpu_seconds=st.just(1.0), max_rss_bytes=st.just(0),
    oom_kills=st.integers(0, 1), survivors_killed=st.just(0), log_bytes=st.just(0), log_dropped_bytes=st.just(0),
)  # fmt: skip


@given(
    commands=st.lists(records, max_size=3), log=st.text(), file=st.none() | st.text(), source=st.sampled_from(Source),
    interrupted=st.booleans(), changed=st.sampled_from([(), ("a",)]),
)  # fmt: skip
def test_every_answer_has_an_outcome(commands, log, file, source, interrupted, changed):
    """Nothing that a supervisor can say or a candidate can print raises."""
    given_answer = answer(*commands, interrupted=interrupted, changed=changed)
    logs = dict.fromkeys(["check", "run", "evaluate"], log)
    result = classify(given_answer, metric=Metric("val", source=source), logs=logs, metric_file=file)
    assert (result.metric is None) == (result.outcome is not Outcome.FINISHED)
    assert len(result.detail) < 3000
