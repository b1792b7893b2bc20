"""Whole runs on this machine, with real processes and the smallest labs that do each thing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from autoresearch.domain.metric import Metric, Source
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.errors import AutoResearchError, UserError
from autoresearch.host.files import sha256_of
from autoresearch.runner.local import LocalEngine, Recipe
from autoresearch.runner.protocol import Slot

SLOT = Slot("cpu0", "cpu")
PYTHON = [sys.executable, "-I", "-S"]
VAL = Metric("val")
HANG_SECONDS = 60
GOOD = "print('---'); print('val: 1.5')"


def request(ordinal: int = 0, seconds: float = HANG_SECONDS, **options) -> RunRequest:
    """One run of a campaign."""
    return RunRequest("night", 1, ordinal, "commit", 7, 1.0, seconds, **options)


class Lab:
    """A folder whose copy is a checkout, and an engine on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files = home / "lab"
        self.files.mkdir(exist_ok=True)
        self.runs = home / "runs"
        self.checkouts = 0

    def write(self, code: str, name: str = "train.py") -> "Lab":
        """Put a file into the lab."""
        (self.files / name).write_text(textwrap.dedent(code))
        return self

    def checkout(self, commit: str, destination: Path) -> None:
        """Copy the lab, and count."""
        self.checkouts += 1
        shutil.copytree(self.files, destination)

    def engine(self, *, metric: Metric = VAL, options: dict | None = None, **recipe) -> LocalEngine:
        """An engine on this lab; `recipe` and `options` are what differs from the plain case."""
        return LocalEngine(
            [SLOT],
            self.runs,
            Recipe(**{"run": [*PYTHON, "train.py"], "metric": metric, "grace_seconds": 0.2} | recipe),
            checkout=self.checkout,
            discard=lambda path: shutil.rmtree(path, ignore_errors=True),
            **(options or {}),
        )

    def execute(self, ordinal: int = 0, seconds: float = HANG_SECONDS, **options) -> RunResult:
        """Execute one run with an engine of its own."""
        return self.engine(**options).execute(request(ordinal, seconds), SLOT)

    def folder(self, ordinal: object = 0) -> Path:
        """Where a run leaves its files."""
        return self.runs / "night" / "00001" / str(ordinal)


@pytest.fixture
def lab(tmp_path):
    """An empty lab."""
    return Lab(tmp_path)


def wait_for(path: Path) -> str:
    """The content of a file that a process is about to write."""
    until = time.monotonic() + HANG_SECONDS
    while time.monotonic() < until:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def test_a_good_run_finishes(lab):
    """Metric, configuration, telemetry and environment are all there; the checkout is not."""
    code = "import os; open(os.environ['AUTORESEARCH_RUN_DIR'] + '/config.json', 'w').write('{\"LR\": 0.1}')\n" + GOOD
    result = lab.write(code).execute(options={"environment": {"lab": "hash"}})
    assert (result.outcome, result.metric, result.config) == (Outcome.FINISHED, 1.5, {"LR": 0.1})
    assert result.telemetry["cpu_seconds"] > 0
    assert result.telemetry["peak_memory_bytes"] > 1e6
    assert result.environment == {"lab": "hash", "slot": "cpu0", "commit": "commit"}
    assert not (lab.folder() / "checkout").exists()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("raise KeyError('x')", Outcome.CRASHED),
        ("import os; os.kill(os.getpid(), 9)", Outcome.OUT_OF_MEMORY),
        ("x = []\nraise MemoryError", Outcome.OUT_OF_MEMORY),
        ("print('val: nan')", Outcome.DIVERGED),
        ("print('---\\nval: 1\\nval: 2')", Outcome.NO_METRIC),
        ("print('val: oops')", Outcome.NO_METRIC),
        ("pass", Outcome.NO_METRIC),
    ],
)
def test_every_bad_end_is_an_outcome(lab, code, outcome):
    """Whatever a candidate does is a result."""
    assert lab.write(code).execute().outcome is outcome


def test_a_hang_times_out(lab):
    """The time-out of the request counts."""
    assert lab.write("while True: pass").execute(seconds=0.5).outcome is Outcome.TIMED_OUT


def test_a_missing_command_is_a_crash_with_a_sentence(lab):
    """The candidate's lab names a program that is not there."""
    result = lab.write("").execute(run=["no-such-program"])
    assert (result.outcome, "'no-such-program' was not found" in result.detail) == (Outcome.CRASHED, True)


def test_the_metric_of_a_json_file(lab):
    """A file in the run directory, not in the checkout."""
    code = "import os; open(os.environ['AUTORESEARCH_RUN_DIR'] + '/metrics.json', 'w').write('{\"val\": 2}')"
    assert lab.write(code).execute(metric=Metric("val", source=Source.JSON)).metric == 2.0


def test_a_stale_metric_file_is_never_read(lab):
    """A file from the commit, or from the run when the evaluation should have written it, does not count."""
    lab.write('{"val": 1}', "metrics.json").write("", "quiet.py")
    assert lab.write("pass").execute(metric=Metric("val", source=Source.JSON)).outcome is Outcome.NO_METRIC
    lab.write("import os; open(os.environ['AUTORESEARCH_RUN_DIR'] + '/metrics.json', 'w').write('{\"val\": 2}')")
    evaluate = [*PYTHON, "quiet.py"]
    result = lab.execute(1, metric=Metric("val", source=Source.JSON), evaluate=evaluate)
    assert result.outcome is Outcome.NO_METRIC


def test_check_and_evaluation_fail_under_their_own_names(lab):
    """A failed check costs no run; a failed evaluation is no crash."""
    lab.write(GOOD).write("raise SystemExit('no')", "bad.py")
    bad = [*PYTHON, "bad.py"]
    assert lab.execute(0, check=bad).outcome is Outcome.CHECK_FAILED
    assert not (lab.folder(0) / "run.log").exists()
    assert lab.execute(1, evaluate=bad).outcome is Outcome.EVALUATION_FAILED


def test_a_protected_file_that_changes_voids_the_number(lab):
    """During the run, and before it."""
    lab.write(GOOD + "; open('prepare.py', 'a').write('#')").write("", "prepare.py")
    protected = {"prepare.py": sha256_of(lab.files / "prepare.py")}
    result = lab.execute(0, protected=protected)
    assert (result.outcome, "during 'run'" in result.detail) == (Outcome.PROTECTED_CHANGED, True)
    assert "before the run" in lab.execute(1, protected={"prepare.py": "0"}).detail


def test_a_second_call_reads_the_first_answer(lab):
    """Asking twice for the same run never makes two, and both answers are equal."""
    engine = lab.write(GOOD).engine()
    assert engine.execute(request(), SLOT) == engine.execute(request(), SLOT)
    assert lab.checkouts == 1


def test_a_run_outlives_its_coordinator(lab):
    """Kill -9 the coordinator: the next one attaches to the run and gets its number."""
    wait = "import os, time; open('../on', 'w').write('1')\nwhile not os.path.exists('../go'): time.sleep(.01)\n"
    lab.write(wait + GOOD)
    code = f"""
    import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_local_engine import Lab, request, SLOT, Path
    Lab(Path({str(lab.home)!r})).engine().execute(request(), SLOT)
    """
    coordinator = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    wait_for(lab.folder() / "on")
    coordinator.kill()
    coordinator.wait()
    threading.Timer(0.3, (lab.folder() / "go").touch).start()
    assert lab.execute().metric == 1.5
    assert lab.checkouts == 0


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_supervisor_disturbs_the_run_and_the_next_call_makes_it_anew(lab):
    """No answer means no verdict: the run is repeatable, and nothing of the dead one is read."""
    lab.write("import time; print('val: 99', flush=True); open('../on', 'w').write('1'); time.sleep(1000)")
    engine, results = lab.engine(), []
    thread = threading.Thread(target=lambda: results.append(engine.execute(request(), SLOT)))
    thread.start()
    wait_for(lab.folder() / "on")
    os.kill(json.loads((lab.folder() / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    thread.join(HANG_SECONDS)
    assert results[0].outcome is Outcome.DISTURBED
    assert lab.write(GOOD).execute().metric == 1.5
    assert (lab.folder("0.stale-1") / "run.log").read_text() == "val: 99\n"


def test_stopping_interrupts_what_runs_and_starts_nothing_more(lab):
    """`stop` comes from any thread."""
    engine = lab.write("import time; open('../on', 'w').write('1'); time.sleep(1000)").engine()
    threading.Thread(target=lambda: (wait_for(lab.folder() / "on"), engine.stop())).start()
    assert engine.execute(request(), SLOT).outcome is Outcome.INTERRUPTED
    assert engine.execute(request(1), SLOT).outcome is Outcome.INTERRUPTED
    assert lab.checkouts == 1


def test_a_candidate_cannot_pose_as_a_person_who_interrupts(lab):
    """Interrupted runs are repeated without a bound, so only our own stop makes one."""
    engine = lab.write("import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)").engine()
    assert engine.execute(request(), SLOT).outcome is Outcome.DISTURBED


def test_low_disk_space_stops_before_the_start(lab):
    """Better no run than a spoilt one; the message says what to do."""
    with pytest.raises(AutoResearchError, match=r"Only 5 MB are free .* Free some space"):
        lab.write(GOOD).execute(options={"free_bytes": lambda path: 5_000_000})
    assert lab.checkouts == 0


def test_a_failing_checkout_is_ours_and_can_be_repeated(lab):
    """A checkout that failed leaves nothing that the next call could stumble over."""
    shutil.move(lab.files, lab.home / "away")
    with pytest.raises(AutoResearchError, match="cannot be prepared"):
        lab.execute()
    shutil.move(lab.home / "away", lab.files)
    assert lab.write(GOOD).execute().metric == 1.5


def test_linked_folders_are_in_the_checkout_and_survive_it(lab):
    """Data is linked and not copied; removing the checkout does not touch it."""
    (lab.home / "data").mkdir()
    (lab.home / "data" / "x").write_text("2.5")
    lab.write("print('---'); print('val:', open('data/x').read())")
    assert lab.execute(links={"data": lab.home / "data"}).metric == 2.5
    assert (lab.home / "data" / "x").exists()


def test_a_link_does_not_hide_a_file_of_the_commit(lab):
    """What is tracked and what is linked cannot have the same name."""
    with pytest.raises(UserError, match="cannot be linked"):
        lab.write(GOOD).execute(links={"train.py": lab.home})


def test_large_files_of_a_run_are_deleted_small_ones_kept(lab):
    """A night of checkpoints does not fill the disk."""
    code = "import os; os.chdir(os.environ['AUTORESEARCH_RUN_DIR']); open('big', 'w').write('x' * 99); open('s', 'w')"
    lab.write(f"{code}\n{GOOD}").execute(options={"keep_file_bytes": 50})
    assert [path.name for path in (lab.folder() / "out").iterdir()] == ["s"]


def test_two_runs_share_no_folder_and_get_their_own_seed(lab):
    """Concurrent runs on two slots do not meet."""
    engine = lab.write("import os; print('---'); print('val:', os.environ['AUTORESEARCH_SEED'])").engine()
    results: dict[int, RunResult] = {}

    def execute(seed: int) -> None:
        results[seed] = engine.execute(RunRequest("night", 1, seed, "commit", seed, 1.0, HANG_SECONDS), SLOT)

    threads = [threading.Thread(target=execute, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert {seed: result.metric for seed, result in results.items()} == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
