"""A forecast of memory speaks only on evidence, and never against what would have fitted."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.memory_fit import HEADROOM, Weighed, forecast

GB = 1e9


def program(number: int, peak_bytes: float, **constants: object) -> Weighed:
    """A program that was run."""
    return Weighed(number, {"BATCH": 16, "LR": 0.1, "KIND": "adam", **constants}, peak_bytes)


BASE = program(0, 20 * GB)
BY_BATCH = [(BASE, program(1, 37 * GB, BATCH=32)), (BASE, program(2, 11 * GB, BATCH=8))]


def test_a_batch_that_cannot_fit_is_foretold_from_two_pairs_of_runs():
    """Twice the batch took 37 GB instead of 20, half of it 11: eight times it needs some 120."""
    found = forecast(program(9, 0, BATCH=128).constants, BASE, BY_BATCH)

    assert found is not None
    assert 110 * GB < found.least_bytes <= found.peak_bytes < 140 * GB
    assert found.knobs == ("BATCH",) and found.experiments == (0, 1, 2)
    assert found.exceeds(80 * GB) and not found.exceeds(140 * GB)


@pytest.mark.parametrize(
    ("constants", "pairs"),
    [
        ({"BATCH": 128}, BY_BATCH[:1]),  # one pair
        ({"BATCH": 128}, [BY_BATCH[0], (BASE, program(3, 36 * GB, BATCH=32))]),  # the same two values twice
        ({"BATCH": 128, "LR": 0.2}, BY_BATCH),  # a knob nobody has turned alone
        ({"BATCH": 128}, [(BASE, program(1, 37 * GB, BATCH=32, LR=0.2)), BY_BATCH[1]]),  # a pair of two knobs
        ({"BATCH": 128}, [BY_BATCH[0], (BASE, program(2, 60 * GB, BATCH=8))]),  # pairs that contradict each other
        ({"BATCH": 128}, [BY_BATCH[0], (program(4, 20 * GB, BATCH=33), BY_BATCH[0][1])]),  # values too near
        ({"KIND": "muon"}, BY_BATCH),  # no number
        ({"BATCH": 0}, BY_BATCH),
        ({"BATCH": 128, "NEW": 1}, BY_BATCH),  # another program
        ({}, BY_BATCH),
    ],
)
def test_on_thin_evidence_nothing_is_said(constants, pairs):
    """Then the change gets its run."""
    assert forecast({**BASE.constants, **constants}, BASE, pairs) is None


sizes = st.floats(1, 512)


@given(
    fixed=st.floats(0, 50 * GB),
    part=st.floats(1e6, 5 * GB),
    power=st.sampled_from([1, 1.5, 2]),
    seen=st.lists(sizes, min_size=2, max_size=5, unique=True),
    wanted=sizes,
)
def test_what_fits_is_never_refused(fixed, part, power, seen, wanted):
    """Whatever fixed part a model has, and however the rest grows with a knob, upwards of what was seen."""

    def peak(value: float) -> float:
        return fixed + part * value**power

    def at(number: int, value: float) -> Weighed:
        return program(number, peak(value), BATCH=value)

    pairs = [(at(i, before), at(i + 1, after)) for i, (before, after) in enumerate(pairwise(seen))]
    parent = at(0, max(seen))
    if wanted > max(seen):
        found = forecast({**parent.constants, "BATCH": wanted}, parent, pairs)
        assert found is None or not found.exceeds(peak(wanted) / (1 - HEADROOM) * (1 + 1e-9))


@given(step=st.floats(1.2, 4), elasticity=st.floats(0.1, 2), wanted=st.floats(1.2, 8))
def test_a_pure_power_is_foretold_exactly(step, elasticity, wanted):
    """Where all memory grows with the knob, the forecast is the truth, as far as four times beyond what was seen."""
    values = [16.0, 16.0 * step, 16.0 * step * step]
    seen = [program(i, GB * value**elasticity, BATCH=value) for i, value in enumerate(values)]

    found = forecast({**seen[0].constants, "BATCH": 16.0 * wanted}, seen[0], [(seen[0], seen[1]), (seen[1], seen[2])])

    assert found is not None
    reach = min(wanted, 4 * step)
    assert math.isclose(found.peak_bytes, GB * (16 * reach) ** elasticity, rel_tol=1e-9)
