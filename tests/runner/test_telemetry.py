"""What is seen of a run from outside."""

import math

from autoresearch.runner.protocol import Slot
from autoresearch.runner.telemetry import Telemetry


def test_samples_are_plain_finite_numbers():
    """Whatever this machine can tell is a number."""
    telemetry = Telemetry(Slot("cpu0"))
    telemetry.sample()
    telemetry.sample()
    seen = telemetry.close()
    assert all(isinstance(value, float) and math.isfinite(value) for value in seen.values())


def test_a_gpu_that_does_not_answer_costs_nothing():
    """Telemetry of a GPU that is not there is empty and silent."""
    telemetry = Telemetry(Slot("gpu0", "cuda", "GPU-none"))
    telemetry.sample()
    assert not any(name.startswith("gpu_") for name in telemetry.close())
