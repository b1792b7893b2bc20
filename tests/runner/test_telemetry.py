"""What is seen of a run from outside."""

import itertools
import math
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from autoresearch.host.family import MARKER_VARIABLE, belongs_to
from autoresearch.runner.protocol import Slot
from autoresearch.runner.telemetry import Telemetry

GPU = Slot("gpu0", "cuda", "GPU-fake")
OURS, THEIRS = 100, 200
THERMAL, POWER_CAP, HARDWARE, BRAKE = 0x20, 0x4, 0x8, 0x80


def test_samples_are_plain_finite_numbers():
    """Whatever this machine can tell is a number."""
    telemetry = Telemetry(Slot("cpu0"))
    telemetry.sample()
    telemetry.sample()
    seen = telemetry.close()
    assert all(isinstance(value, float) and math.isfinite(value) for value in seen.values())
    assert seen["samples"] == 1  # the second came at once, and one a second is enough


def test_a_gpu_that_does_not_answer_costs_nothing():
    """Telemetry of a GPU that is not there is empty and silent."""
    telemetry = Telemetry(Slot("gpu0", "cuda", "GPU-none"))
    telemetry.sample()
    assert not any(name.startswith("gpu_") for name in telemetry.close())


class Driver(ModuleType):
    """What `pynvml` is to us: one reading of each sort a sample, and errors for what it refuses."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        """Refused."""

    class NVMLError_NotFound(NVMLError):
        """Nobody worked."""

    def __init__(self):
        super().__init__("pynvml")
        self.now = {"clock": 1900, "busy": 99, "reasons": 0, "listed": {}, "working": {}}
        self.refused = {"memory"}
        self._stamp = itertools.count(1)
        self.nvmlInit = self.nvmlShutdown = lambda: None
        self.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
        self.nvmlDeviceGetUtilizationRates = lambda gpu: SimpleNamespace(gpu=self._read("busy"))
        self.nvmlDeviceGetMemoryInfo = lambda gpu: self._read("memory")
        self.nvmlDeviceGetClockInfo = lambda gpu, of: 2600 if of == self.NVML_CLOCK_MEM else self._read("clock")
        self.nvmlDeviceGetPowerUsage = lambda gpu: 650_000
        self.nvmlDeviceGetTemperature = lambda gpu, sensor: 61
        self.nvmlDeviceGetCurrentClocksThrottleReasons = lambda gpu: self._read("reasons")
        self.nvmlDeviceGetComputeRunningProcesses = lambda gpu: [
            SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in self._read("listed").items()
        ]
        self.nvmlDeviceGetProcessUtilization = self._utilisation

    def _read(self, name):
        if name in self.refused:
            raise self.NVMLError(name)
        return self.now[name]

    def _utilisation(self, gpu, since):
        working = self._read("working")
        if not working:
            raise self.NVMLError_NotFound
        return [SimpleNamespace(pid=p, smUtil=share, timeStamp=next(self._stamp)) for p, share in working.items()]


@pytest.fixture
def driver(monkeypatch):
    """A GPU with nobody on it."""
    fake = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def watch(driver, *samples, is_ours=lambda pid: pid == OURS, is_fresh=True):
    """What is seen in these samples, each of which changes what the driver says."""
    seconds = itertools.count()
    telemetry = Telemetry(GPU, is_ours, is_fresh=is_fresh, monotonic=lambda: 2.0 * next(seconds))
    for now in samples:
        driver.now.update(now)
        telemetry.sample()
    return telemetry.close()


def test_clocks_count_under_load_only(driver):
    """While a run loads its data the GPU clocks low; that is no slow GPU."""
    seen = watch(driver, {"busy": 0, "clock": 300}, {}, *[{"busy": 99, "clock": 1900}] * 5)

    assert seen["gpu_loaded_clock_mhz"] == 1900 and seen["gpu_clock_mhz"] < 1900
    assert (seen["gpu_memory_clock_mhz"], seen["gpu_power_watts"]) == (2600, 650)


def test_throttle_reasons_are_told_in_words(driver):
    """Each bit of the driver's mask is a share of the samples under a name that a person understands."""
    seen = watch(driver, {"reasons": THERMAL | POWER_CAP}, {"reasons": POWER_CAP}, {"reasons": HARDWARE | BRAKE}, {})

    shares = {name.removeprefix("gpu_throttle_"): value for name, value in seen.items() if "throttle" in name}
    assert shares == {
        "thermal_share": 0.25,
        "power_cap_share": 0.5,
        "power_brake_share": 0.5,
        "hardware_slowdown_share": 0.5,
    }


def test_what_the_driver_refuses_is_left_out(driver):
    """No number is invented, and the rest is there."""
    driver.refused |= {"clock", "reasons", "listed"}

    seen = watch(driver, {}, {}, {}, {})

    assert not any("clock_mhz" in name and "memory" not in name for name in seen)
    assert not any("throttle" in name or "others" in name for name in seen)
    assert seen["gpu_utilisation_percent"] == 99


def test_somebody_elses_work_is_seen_and_told_from_our_own(driver):
    """The run's own processes are nobody else's; a stranger that computes is, with its number and its memory."""
    ours, both = {OURS: 2**30}, {OURS: 2**30, THEIRS: 3 * 2**30}
    alone = {"listed": ours, "working": {OURS: 90}}
    shared = {"listed": both, "working": {OURS: 50, THEIRS: 45}}

    assert watch(driver, *[alone] * 4)["gpu_others_share"] == 0
    seen = watch(driver, *[alone] * 6, *[shared] * 2)
    assert (seen["gpu_others_share"], seen["gpu_other_pid"]) == (0.25, THEIRS)
    assert seen["gpu_others_memory_bytes"] == 3 * 2**30


def test_a_notebook_that_only_holds_memory_is_not_at_work(driver):
    """Unless the driver cannot say who works: then whoever is there counts."""
    idle = {"listed": {OURS: 1, THEIRS: 2**30}, "working": {OURS: 90, THEIRS: 0}}

    assert watch(driver, *[idle] * 4)["gpu_others_share"] == 0
    driver.refused |= {"working"}
    assert watch(driver, *[idle] * 4)["gpu_others_share"] == 1


def test_numbers_of_processes_from_outside_a_container_are_not_taken_for_strangers(driver):
    """When none of ours is ever among them, only who was there before the run counts."""
    late = [{"listed": {}, "working": {}}, *[{"listed": {5555: 1}, "working": {5555: 90}}] * 4]
    early = [{"listed": {5555: 1}, "working": {5555: 90}}] * 5

    assert watch(driver, *late, is_ours=lambda pid: None)["gpu_others_share"] == 0
    assert watch(driver, *early, is_ours=lambda pid: None)["gpu_others_share"] >= 0.8
    assert watch(driver, *early, is_ours=lambda pid: None, is_fresh=False)["gpu_others_share"] == 0


def test_a_process_belongs_to_the_run_whose_marker_it_or_an_ancestor_carries():
    """A child of the run does even when it was given another environment; we do not; the dead are nobody's."""
    inner = "import time; print('up', flush=True); time.sleep(60)"
    outer = f"import subprocess, sys\nc = subprocess.Popen([sys.executable, '-S', '-c', {inner!r}], env={{}})\n"
    outer += "print(c.pid, flush=True)\nc.wait()"
    environment = {**os.environ, MARKER_VARIABLE: "/runs/x"}
    with subprocess.Popen([sys.executable, "-S", "-c", outer], env=environment, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.stdout.readline()
        try:
            assert belongs_to(parent.pid, "/runs/x") is True
            assert belongs_to(child, "/runs/x") is True
            assert belongs_to(child, "/runs/y") is False
            assert belongs_to(os.getpid(), "/runs/x") is False
        finally:
            os.kill(child, 9)
    assert belongs_to(child, "/runs/x") is None
