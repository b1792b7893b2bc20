"""What a run says of its progress is read in bounded bites, and never surprises."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.domain.progress import Progress, Stop
from autoresearch.domain.run import Outcome, RunRequest
from autoresearch.runner.progress import (
    BITE_BYTES,
    CURVE,
    MOST_POINTS,
    STOPPED,
    Follower,
    Overseer,
    read_curve,
    read_progress_line,
    read_report,
    read_stop,
)

REQUEST = RunRequest("night", 1, 0, "commit", 7, 1.0, 60.0)
STOP = Stop(Outcome.STOPPED_EARLY, "It lags.", 0.7)


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def follower(tmp_path):
    """Of a run whose files are made by the test."""
    return Follower(tmp_path / "progress.jsonl", tmp_path / "run.log", Time())


def reports(folder, *fractions, **more):
    """Append reports, as a run does."""
    with (folder / "progress.jsonl").open("a") as file:
        file.writelines(json.dumps({"fraction": fraction, **more}) + "\n" for fraction in fractions)


def test_both_ways_of_reporting_are_understood():
    """A line of JSON, and a line of the log."""
    assert read_report('{"fraction": 0.25, "steps": 480, "value": 3.41, "more": []}') == (0.25, 480, 3.41)
    assert read_progress_line("  PROGRESS fraction=0.25 steps=480 value=3.41\r") == (0.25, 480, 3.41)
    assert read_progress_line("PROGRESS value=nan fraction=1.01")[0] == 1.0


@pytest.mark.parametrize(
    "line",
    ["", "{}", "[1]", '{"fraction": -0.1}', '{"fraction": 2}', '{"fraction": NaN}', '{"fraction": true}', "[" * 900,
     '{"fraction": 0.5, "x": "' + "x" * 1000 + '"}', '{"fraction": "x"}'],
)  # fmt: skip
def test_what_is_no_report_is_passed_over(line):
    """Without a fraction of the budget between 0 and a little more than 1 there is no report."""
    assert read_report(line) is None


@given(st.text() | st.dictionaries(st.sampled_from(["fraction", "steps", "value"]), st.floats() | st.text()).map(str))
def test_any_line_is_a_report_or_none(line):
    """Whatever a candidate writes, what comes out is within its bounds."""
    for report in (read_report(line), read_progress_line(line), read_progress_line(f"PROGRESS {line}")):
        assert report is None or (0 <= report.fraction <= 1 and (report.steps is None or report.steps >= 0))


@settings(max_examples=50, deadline=None)
@given(chunks=st.lists(st.binary(max_size=60) | st.sampled_from([b'{"fraction": 0.5, "value": NaN}\n', b"\n"])))
def test_any_bytes_are_followed(chunks, tmp_path_factory):
    """Half lines, foreign bytes and no file at all: there is always a progress, with fractions that never fall."""
    folder = tmp_path_factory.mktemp("run")
    follower = Follower(folder / "progress.jsonl", folder / "run.log")
    for chunk in chunks:
        with (folder / "progress.jsonl").open("ab") as file:
            file.write(chunk)
        fractions = [point.fraction for point in follower.look().points]
        assert fractions == sorted(fractions)


def test_a_line_is_read_once_it_is_whole(follower, tmp_path):
    """Half of it is no report yet."""
    (tmp_path / "progress.jsonl").write_text('{"fraction": 0.')
    assert follower.look().points == ()
    (tmp_path / "progress.jsonl").write_text('{"fraction": 0.5}\n')
    assert [point.fraction for point in follower.look().points] == [0.5]


def test_endless_reports_stay_small(follower, tmp_path):
    """A million reports cost neither memory nor more than a bite at each look."""
    reports(tmp_path, *(i / 20_000 for i in range(20_001)))
    assert (tmp_path / "progress.jsonl").stat().st_size > BITE_BYTES
    first = follower.look()
    assert first.fraction < 1
    for _ in range(4):
        last = follower.look()
    assert last.fraction == 1 and len(last.points) <= MOST_POINTS + 1


def test_a_link_or_a_pipe_is_not_followed(follower, tmp_path):
    """A run that makes its reports a link to somebody else's file reports nothing."""
    (tmp_path / "other").write_text('{"fraction": 0.5}\n')
    (tmp_path / "progress.jsonl").symlink_to(tmp_path / "other")
    assert follower.look() == Progress()


def test_values_that_are_no_numbers_are_counted_in_a_row(follower, tmp_path):
    """A number in between begins anew."""
    reports(tmp_path, 0.1, value=math.nan)
    reports(tmp_path, 0.2, value=1.0)
    reports(tmp_path, 0.3, 0.31, value=math.inf)
    assert follower.look().bad_values == 2


def test_silence_is_measured_by_our_clock(tmp_path):
    """The pauses between reports as they arrive, and the one since the newest."""
    time = Time()
    follower = Follower(tmp_path / "progress.jsonl", tmp_path / "run.log", time)
    for at, fraction in ((5, 0.1), (12, 0.2), (14, 0.3)):
        time.now = at
        reports(tmp_path, fraction)
        follower.look()
    time.now = 20
    progress = follower.look()
    assert (progress.silent_seconds, progress.longest_silence_seconds) == (6, 7)
    assert [point.seconds for point in progress.points] == [5, 12, 14]


def overseer(folder, watch, ended):
    """An overseer of a run that is nothing but its files."""
    files = (folder / "progress.jsonl", folder / "run.log")
    return Overseer(REQUEST, folder, *files, watch=watch, terminate=lambda: ended.append(1), look_seconds=0.0)


def test_the_decision_is_written_before_the_act(tmp_path):
    """Whoever ends the run finds the reason on disk already; it is asked to end once."""
    seen = []
    watcher = Overseer(
        REQUEST, tmp_path, tmp_path / "progress.jsonl", tmp_path / "run.log",
        watch=lambda *_: STOP, terminate=lambda: seen.append(read_stop(tmp_path)), look_seconds=0.0,
    )  # fmt: skip
    watcher.look()
    watcher.look()
    assert seen == [STOP]


def test_a_killed_session_finds_its_decision_again(tmp_path):
    """Between the decision and the act: the next session acts, without asking again."""
    overseer(tmp_path, lambda *_: STOP, []).look()
    ended = []
    overseer(tmp_path, lambda *_: pytest.fail("asked again"), ended).look()
    assert ended == [1]


def test_a_spared_run_goes_on(tmp_path):
    """Its decision stands, and nothing is done."""
    ended = []
    watcher = overseer(tmp_path, lambda *_: Stop(STOP.outcome, STOP.sentence, 0.7, spared=True), ended)
    watcher.look()
    watcher.look()
    assert (ended, read_stop(tmp_path).spared) == ([], True)


def test_a_decision_that_cannot_be_written_is_not_carried_out(tmp_path):
    """On a full disk the run goes on."""
    ended = []
    overseer(tmp_path / "gone", lambda *_: STOP, ended).look()
    assert ended == []


def test_the_curve_of_an_ended_run_is_kept(tmp_path):
    """As it was seen, with the silence up to the end."""
    reports(tmp_path, 0.1, 0.5, steps=3, value=2.0)
    watcher = overseer(tmp_path, lambda *_: None, [])
    watcher.close()
    curve = read_curve(tmp_path)
    assert [(point.fraction, point.steps, point.value) for point in curve.points] == [(0.1, 3, 2.0), (0.5, 3, 2.0)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"points": 3}', '{"points": [[1]], "longest_silence_seconds": 1}',
                                  '{"points": [[1, "x", 1, 1]], "longest_silence_seconds": 1}'])  # fmt: skip
def test_a_damaged_curve_is_no_curve(tmp_path, text):
    """The file lies where a candidate can write."""
    (tmp_path / CURVE).write_text(text)
    assert read_curve(tmp_path) is None


@pytest.mark.parametrize("change", [{"outcome": "finished"}, {"outcome": 3}, {"fraction": None}, {"fraction": 7}])
def test_a_forged_decision_is_no_decision(tmp_path, change):
    """Nobody finishes by writing that he did."""
    record = {"outcome": "stopped_early", "sentence": "It lags.", "fraction": 0.7, "spared": False}
    (tmp_path / STOPPED).write_text(json.dumps(record))
    assert read_stop(tmp_path) == STOP
    (tmp_path / STOPPED).write_text(json.dumps(record | change))
    assert read_stop(tmp_path) is None
