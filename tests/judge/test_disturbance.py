"""When a machine counts as disturbed: who else was there, what the GPU did, how long steps took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.disturbance import AS_MEASURED, Cause, Earlier, Tolerance
from autoresearch.judge.disturbance import KEPT_TELEMETRY, crowded_out, disturbances

SAMPLED = {"samples": 300.0}
CLOCK, STEP, HEAT = "gpu_loaded_clock_mhz", "median_step_ms", "gpu_throttle_thermal_share"


def causes(telemetry, *earlier, tolerance=Tolerance()):  # noqa: B008 - frozen
    """What is found in a run of commit `c1` on `gpu0`."""
    return set(disturbances(SAMPLED | telemetry, "c1", "gpu0", earlier, tolerance))


def before(commit="c1", slot="gpu0", **telemetry):
    """An earlier run that counted."""
    return Earlier(commit, slot, telemetry)


@pytest.mark.parametrize(
    ("telemetry", "earlier", "found"),
    [
        ({"gpu_others_share": 0.04}, [], set()),
        ({"gpu_others_share": 0.06, "gpu_other_pid": 7.0}, [], {Cause.OTHERS}),
        ({"cpu_steal_percent": 12.0}, [], set()),
        ({"cpu_steal_percent": 14.0}, [], {Cause.STEAL}),
        ({HEAT: 0.2}, [], {Cause.HEAT}),
        ({HEAT: 0.5}, [before("c0", **{HEAT: 0.45})], set()),
        ({HEAT: 0.5}, [before("c0", "gpu1", **{HEAT: 0.45})], {Cause.HEAT}),
        ({"gpu_throttle_power_cap_share": 1.0}, [], set()),
        ({CLOCK: 1700.0}, [before("c0", **{CLOCK: 1900.0})], set()),
        ({CLOCK: 1600.0}, [before("c0", **{CLOCK: 1900.0})], {Cause.CLOCK}),
        ({CLOCK: 1600.0}, [before("c0", "gpu1", **{CLOCK: 1900.0})], set()),
        ({STEP: 130.0}, [before(**{STEP: 100.0})], {Cause.STEPS}),
        ({STEP: 130.0}, [before(slot="gpu1", **{STEP: 100.0})], {Cause.STEPS}),
        ({STEP: 110.0}, [before(**{STEP: 100.0})], set()),
        ({"first_half_step_ms": 100.0, "second_half_step_ms": 125.0}, [], set()),
        ({"first_half_step_ms": 100.0, "second_half_step_ms": 140.0}, [], {Cause.SLOWING}),
    ],
)
def test_each_sign_of_a_disturbance_is_told_from_a_quiet_machine(telemetry, earlier, found):
    """Others, steal, heat, clocks and steps beyond their limit are causes; below it, or elsewhere, they are none."""
    assert causes(telemetry, *earlier) == found


def test_slower_steps_of_another_program_are_no_disturbance():
    """A deeper model is slow by itself: only runs of the same commit say how long its steps take."""
    assert causes({STEP: 300.0}, before("c0", **{STEP: 100.0})) == set()


def test_a_hungry_program_may_clock_low_at_the_power_cap():
    """At the power cap the clock is the program's own; runs of the same program had the same hunger."""
    capped = {CLOCK: 1500.0, "gpu_throttle_power_cap_share": 0.9}

    assert causes(capped, before("c0", **{CLOCK: 1900.0})) == set()
    assert causes(capped, before("c1", **{CLOCK: 1900.0})) == {Cause.CLOCK}


def test_a_schedule_that_makes_later_steps_longer_is_learnt():
    """What earlier runs on this slot did too is how the program trains."""
    grows = {"first_half_step_ms": 100.0, "second_half_step_ms": 150.0}

    assert causes(grows, before("c0", **grows)) == set()


def test_a_run_that_counted_although_slow_is_the_new_reference():
    """What came back as slow each time is how it is now; what was before it compares no more."""
    fast, slow = before(**{STEP: 100.0}), before(**{STEP: 150.0, AS_MEASURED: 1.0})

    assert causes({STEP: 150.0}, fast, fast, fast) == {Cause.STEPS}
    assert causes({STEP: 150.0}, fast, fast, fast, slow) == set()


def test_a_glimpse_says_nothing_of_the_machine():
    """Fewer samples than five are no evidence, however bad."""
    assert causes({"samples": 4.0, "gpu_others_share": 1.0, "cpu_steal_percent": 50.0, HEAT: 1.0}) == set()


def test_processor_seconds_are_disturbed_by_extremes_only():
    """A budget of processor time does not mind load from outside, up to three times as long."""
    cpu = Tolerance(is_cpu_clock=True)

    assert causes({STEP: 250.0, "cpu_steal_percent": 50.0}, before(**{STEP: 100.0}), tolerance=cpu) == set()
    assert causes({STEP: 350.0}, before(**{STEP: 100.0}), tolerance=cpu) == {Cause.STEPS}


def test_memory_that_others_held_is_not_the_candidates_fault():
    """From one GiB on, and with nobody named as cause below it."""
    assert set(crowded_out({"gpu_others_memory_bytes": 3 * 2**30}, Tolerance())) == {Cause.OTHERS}
    assert not crowded_out({"gpu_others_memory_bytes": 2**28}, Tolerance())
    assert not crowded_out({"gpu_others_memory_bytes": 3 * 2**30}, Tolerance(band=0))


_NAMES = sorted(KEPT_TELEMETRY | {"gpu_others_share", "cpu_steal_percent", "gpu_other_pid", "gpu_others_memory_bytes"})
_TELEMETRY = st.dictionaries(st.sampled_from(_NAMES), st.floats(0, 1e4), max_size=8)
_EARLIER = st.lists(
    st.builds(Earlier, st.sampled_from(["c0", "c1"]), st.sampled_from(["gpu0", "gpu1"]), _TELEMETRY), max_size=6
)


@given(_TELEMETRY, _EARLIER, st.floats(1.01, 2), st.floats(0, 2))
def test_a_wider_band_never_finds_more(telemetry, earlier, band, wider):
    """And every cause has one plain sentence; with the band at 0 there is none."""
    narrow = disturbances(SAMPLED | telemetry, "c1", "gpu0", earlier, Tolerance(band))
    wide = disturbances(SAMPLED | telemetry, "c1", "gpu0", earlier, Tolerance(band + wider))

    assert wide.keys() <= narrow.keys()
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in narrow.values())
    assert disturbances(SAMPLED | telemetry, "c1", "gpu0", earlier, Tolerance(0)) == {}


@given(_TELEMETRY, st.integers(1, 7))
def test_a_run_like_all_runs_before_it_was_at_the_machines_own_pace(telemetry, count):
    """Whatever the pace is: only somebody else's work still counts against it."""
    runs = [Earlier("c1", "gpu0", telemetry)] * count

    assert all(cause.is_foreign for cause in disturbances(SAMPLED | telemetry, "c1", "gpu0", runs, Tolerance()))
