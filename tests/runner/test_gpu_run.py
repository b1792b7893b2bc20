"""A whole run on a GPU slot: real processes, and a driver that is a module of ours."""

import os
import sys

import pytest

from autoresearch.domain.run import Outcome
from autoresearch.runner.protocol import Slot
from tests.runner.test_local_engine import Lab, request
from tests.runner.test_telemetry import Driver

GPU = Slot("gpu0", "cuda", "GPU-fake")
PROGRAM = """
    import os, pathlib, time
    pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"], "pid").write_text(str(os.getpid()))
    time.sleep(1.5)
    print("METRIC val=1.5\\n---\\nval: 1.5\\nmedian_step_ms: 12.5")
"""


@pytest.mark.parametrize("stranger", [False, True])
def test_a_run_is_told_from_a_stranger_on_its_gpu(tmp_path, monkeypatch, stranger):
    """The run's process is known by its family; this test, on the same GPU, is somebody else."""
    lab = Lab(tmp_path).write(PROGRAM)
    driver = Driver()
    pid_file = lab.folder() / "out" / "pid"

    def listed():
        pids = [int(pid_file.read_text())] if pid_file.exists() and pid_file.read_text() else []
        return dict.fromkeys([*pids, *([os.getpid()] if stranger else [])], 2**30)

    monkeypatch.setattr(driver, "_read", lambda name: listed() if name == "listed" else driver.now[name])
    driver.refused.add("working")
    monkeypatch.setattr(driver, "nvmlDeviceGetProcessUtilization", _refuse(driver), raising=False)
    monkeypatch.setattr(driver, "nvmlDeviceGetMemoryInfo", _refuse(driver), raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr("autoresearch.runner.telemetry.SAMPLE_SECONDS", 0.01)

    result = lab.engine().execute(request(), GPU)

    assert result.outcome is Outcome.FINISHED, result.detail
    assert result.telemetry["gpu_others_share"] == (1.0 if stranger else 0.0)
    assert result.telemetry.get("gpu_other_pid") == (os.getpid() if stranger else None)
    assert result.telemetry["gpu_loaded_clock_mhz"] == 1900 and result.telemetry["median_step_ms"] == 12.5


def _refuse(driver):
    def refused(*_):
        raise driver.NVMLError

    return refused
