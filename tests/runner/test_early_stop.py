"""Runs that are ended before their time, and runs that must not be, as real processes."""

import math
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from autoresearch.domain.metric import Metric
from autoresearch.domain.progress import Finished, Point, Progress, Reference, Stop
from autoresearch.domain.run import Outcome, RunRequest
from autoresearch.judge.forecast import consider, is_spared
from autoresearch.runner.progress import STOPPED, read_curve
from tests.runner.test_local_engine import SLOT, Lab, wait_for

VAL = Metric("val")
HANG_SECONDS = 60.0

TRAIN = """
import json, math, os, time
out = open(os.environ["AUTORESEARCH_RUN_DIR"] + "/progress.jsonl", "a")
def report(fraction, value, steps=None):
    out.write(json.dumps({"fraction": fraction, "value": value, "steps": steps}) + "\\n")
    out.flush()
def hang():
    time.sleep(60)
"""
"""How each of these programs begins."""


def curve(level: float) -> Progress:
    """What a good run of this lab looks like."""
    points = [Point(i / 50, i / 50, 10.0 * i, level + 3 * math.exp(-i / 5)) for i in range(1, 51)]
    return Progress(tuple(points), longest_silence_seconds=0.05)


FINISHED = tuple(Finished(curve(1 + i / 1000), 1 + i / 1000) for i in range(20))


def is_drawn(number: int, spared: bool = False) -> bool:
    """Whether the draw of this experiment is as wanted."""
    return is_spared(request(number)) is spared


def request(number: int) -> RunRequest:
    """The first run of a candidate with a budget of a second."""
    return RunRequest("night", number, 0, "commit", 7, 1.0, HANG_SECONDS)


PLAIN = next(number for number in range(1, 100) if is_drawn(number))
SPARED = next(number for number in range(1, 1000) if is_drawn(number, spared=True))


def watch(asked: RunRequest, progress: Progress) -> Stop | None:
    """The rule as it is, with the history of a campaign."""
    return consider(asked, progress, VAL, lambda: Reference(FINISHED, 1.0))


@pytest.fixture
def lab(tmp_path):
    """An empty lab."""
    return Lab(tmp_path)


def execute(lab, code, number=PLAIN, **options):
    """The result of a program under the rule."""
    lab.write(TRAIN + textwrap.dedent(code))
    engine = lab.engine(options={"watch": watch, "look_seconds": 0.02} | options)
    return engine.execute(request(number), SLOT)


def folder(lab, number=PLAIN):
    """Where a run leaves its files."""
    return lab.runs / "night" / f"{number:05d}" / "0"


LAGS = "for i in range(1, 46): report(i / 50, 5 + 3 * math.exp(-i / 5), 10 * i); time.sleep(0.005)\n"


def test_a_loss_that_is_no_number_ends_the_run(lab):
    """It is called diverged, as when the program had noticed by itself."""
    result = execute(lab, "report(0.1, 2.0); report(0.2, math.nan); report(0.3, math.nan); hang()")
    assert (result.outcome, result.metric) == (Outcome.DIVERGED, None)
    assert result.detail.startswith("Its value was not a number in 2 reports in a row, at 30% of its budget")


def test_a_foreign_program_may_print_its_progress(lab):
    """Lines of the log do as well."""
    code = "for i in (1, 2, 3): print(f'PROGRESS fraction=0.{i} value=nan', flush=True)\nhang()"
    assert execute(lab, code).outcome is Outcome.DIVERGED


def test_a_run_that_lags_hopelessly_is_ended(lab):
    """It is censored: what it printed half-way is no score, and what was seen stands in its sentence."""
    result = execute(lab, "print('val: 0.5', flush=True)\n" + LAGS + "hang()")
    assert (result.outcome, result.metric, "val" in result.summary) == (Outcome.STOPPED_EARLY, None, False)
    assert "not measured" in result.detail and 2 / 3 <= result.telemetry["stopped_at_fraction"] <= 0.95


def test_a_run_that_ends_politely_when_asked_is_censored_too(lab):
    """Printing a fine number on the way out gains nothing."""
    polite = "import signal, sys\ndef leave(*_): print('---\\nval: 0.1', flush=True); sys.exit(0)\n"
    result = execute(lab, polite + "signal.signal(signal.SIGTERM, leave)\n" + LAGS + "hang()")
    assert (result.outcome, result.metric) == (Outcome.STOPPED_EARLY, None)


def test_a_spared_run_finishes_and_says_so(lab):
    """One in twenty goes on, with its score, and its decision is kept for the share of false stops."""
    result = execute(lab, LAGS + "time.sleep(0.3); print('---\\nval: 5.0')", SPARED)
    assert (result.outcome, result.metric) == (Outcome.FINISHED, 5.0)
    assert 2 / 3 <= result.telemetry["would_stop_at_fraction"] <= 0.95


@pytest.mark.parametrize(
    "code",
    [
        "for i in range(1, 51): report(i / 50, 1 + 3 * math.exp(-i / 5), 10 * i); time.sleep(0.005)",
        "for i in range(1, 51): report(i / 50, 1.02 + 3 * math.exp(-i / 5), 10 * i); time.sleep(0.005)",
        "for i in range(1, 51): report(i / 50, 1 + 3 * math.exp(-i / 5), i); time.sleep(0.005)",
        "for i in range(1, 9): report(i / 10, 1.0); time.sleep(0.05)\ntime.sleep(1)",
        "report(0.1, math.nan); report(0.2, 1.0); report(0.3, math.inf); report(0.4, 1.0); time.sleep(0.2)",
        "out.write('nonsense\\n' * 1000 + 'PROGRESS fraction=9\\n'); out.flush(); time.sleep(0.2)",
        "time.sleep(0.3)",
    ],
    ids=["as the others", "a little behind", "ten times fewer steps", "silent at the end", "two bad steps", "nonsense",
         "no reports"],
)  # fmt: skip
def test_an_honest_run_is_left_alone(lab, code):
    """It finishes with its score, and no decision is kept."""
    result = execute(lab, code + "\nprint('---\\nval: 1.0')")
    assert (result.outcome, result.metric) == (Outcome.FINISHED, 1.0)
    assert not (folder(lab) / STOPPED).exists()


def test_a_stalled_and_a_slow_run_are_ended(lab):
    """Both rules at their real bounds would take minutes, so the clock of this rule is a faster one."""

    def hurried(asked, progress):
        points = tuple(Point(100 * p.seconds, p.fraction, p.steps, p.value) for p in progress.points)
        silent, longest = 100 * progress.silent_seconds, 100 * progress.longest_silence_seconds
        return watch(asked, Progress(points, progress.bad_values, silent, longest))

    stalled = execute(lab, "for i in range(1, 8): report(i / 50, 2.0); time.sleep(0.002)\nhang()", watch=hurried)
    assert (stalled.outcome, "reported nothing for" in stalled.detail) == (Outcome.STOPPED_EARLY, True)
    other = next(number for number in range(PLAIN + 1, 100) if is_drawn(number))
    slow = execute(lab, "for i in range(1, 500): report(i / 1000, 2.0); time.sleep(0.1)", other, watch=hurried)
    assert (slow.outcome, "its time-out is at" in slow.detail) == (Outcome.STOPPED_EARLY, True)


def test_the_curve_of_a_finished_run_is_kept_for_others(lab):
    """With our own times, thinned."""
    execute(lab, "for i in range(1, 51): report(i / 50, 1.0, i); time.sleep(0.01)\nprint('---\\nval: 1.0')")
    kept = read_curve(folder(lab))
    assert kept is not None and kept.points[-1].fraction == 1.0 and kept.points[-1].seconds > 0.1


SESSION = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from autoresearch.host.process import Supervised
from tests.runner.test_early_stop import LAGS, TRAIN, PLAIN, SLOT, Lab, request, watch
if {before}:
    Supervised.terminate = lambda self: os.kill(os.getpid(), signal.SIGKILL)
else:
    ask = Supervised.terminate
    Supervised.terminate = lambda self: (ask(self), os.kill(os.getpid(), signal.SIGKILL))
engine = Lab(Path({home!r})).engine(options={{"watch": watch, "look_seconds": 0.02}})
engine.execute(request(PLAIN), SLOT)
"""


def killed_session(lab, code, *, before):
    """A session that is killed just before, or just after, it asked its run to end."""
    lab.write(TRAIN + code)
    script = SESSION.format(root=str(Path.cwd()), home=str(lab.home), before=before)
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=HANG_SECONDS)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("before", [True, False])
def test_a_session_killed_at_the_decision_loses_nothing(lab, before):
    """Whether the run was asked to end yet or not, the next session counts it as stopped early."""
    killed_session(lab, LAGS + "hang()", before=before)
    result = lab.engine(options={"watch": lambda *_: None, "look_seconds": 0.02}).execute(request(PLAIN), SLOT)
    assert (result.outcome, lab.checkouts) == (Outcome.STOPPED_EARLY, 0)
    assert "not measured" in result.detail


def test_a_run_that_finished_while_nobody_was_there_has_finished(lab):
    """The decision was taken and not carried out, so its score counts."""
    killed_session(lab, LAGS + "time.sleep(0.5); print('---\\nval: 5.0')", before=True)
    wait_for(folder(lab) / "answer.json")
    result = lab.engine(options={"watch": watch}).execute(request(PLAIN), SLOT)
    assert (result.outcome, result.metric) == (Outcome.FINISHED, 5.0)
    assert "would_stop_at_fraction" in result.telemetry


def test_reading_an_ended_run_again_gives_the_same(lab):
    """A session that dies after the answer and before the ledger reads it once more."""
    first = execute(lab, LAGS + "hang()")
    again = lab.engine().execute(request(PLAIN), SLOT)
    assert (again.outcome, again.detail, again.telemetry) == (first.outcome, first.detail, first.telemetry)


def test_a_person_who_stops_the_campaign_interrupts_and_does_not_judge(lab):
    """Without a decision of the rule it is an interruption, and the run is made again."""
    lab.write(TRAIN + "report(0.1, 2.0); hang()")
    engine = lab.engine(options={"watch": watch, "look_seconds": 0.02})
    results = []
    thread = threading.Thread(target=lambda: results.append(engine.execute(request(PLAIN), SLOT)))
    thread.start()
    wait_for(folder(lab) / "out" / "progress.jsonl")
    engine.stop()
    thread.join(HANG_SECONDS)
    assert results[0].outcome is Outcome.INTERRUPTED
