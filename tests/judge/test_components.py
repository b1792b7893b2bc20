"""Parts of the noise: seed, nondeterminism, drift, and what is odd about them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.judge.components import Observation, decompose, residuals, shape_remarks


def campaign(draw, commits, seeds, repeats=1, *, seed=0.0, own=0.0, machine=0.0, drift=0.0):
    """Runs of a lab whose parts of the noise are known, in any order; one run every six minutes."""
    luck = {j: draw.gauss(0, seed) for j in range(seeds)}
    pairs = {(c, j): draw.gauss(0, own) for c in range(commits) for j in range(seeds)}
    runs = [pair for pair in pairs for _ in range(repeats)]
    draw.shuffle(runs)
    found = []
    for place, (c, j) in enumerate(runs):
        value = 3 * c + luck[j] + pairs[c, j] + draw.gauss(0, machine) + drift * place / 10
        found.append(Observation(value, f"c{c}", j, 1e9 + 360 * place, "cpu0"))
    return found


def mean_of(name, count, **lab):
    """A part's mean over many campaigns, as its moment estimate promises to be right."""
    draw = random.Random(7)
    found = [decompose(campaign(draw, **lab)) for _ in range(count)]
    values = [getattr(each, name) for each in found]
    return sum(getattr(value, "deviation", value) ** 2 for value in values) / count


def test_parts_are_told_apart():
    """Over many campaigns nondeterminism and seed come out as they were put in, as variances."""
    lab = {"commits": 6, "seeds": 6, "repeats": 2, "seed": 0.8, "own": 0.6, "machine": 0.5}
    assert mean_of("nondeterminism", 60, **lab) == pytest.approx(0.25, rel=0.1)
    assert mean_of("seed", 60, **lab) == pytest.approx(1.0, rel=0.2)


def test_correlation_of_shared_seeds():
    """It is the shared part of one run's variance: 0.64 of 1 here; 0 when every commit has luck of its own."""
    draw = random.Random(3)
    shared = [decompose(campaign(draw, 8, 12, seed=0.8, own=0.6)).correlation for _ in range(40)]
    none = [decompose(campaign(draw, 8, 12, own=1.0)).correlation for _ in range(40)]
    assert sum(shared) / 40 == pytest.approx(0.62, abs=0.08)
    assert sum(none) / 40 == pytest.approx(0.0, abs=0.05)


def test_what_was_never_tried_is_not_known():
    """Without a seed run twice nondeterminism and seed are None; without a shared seed so is the correlation."""
    parts = decompose([Observation(float(v), "c", seed=v) for v in range(3)])
    assert parts.total is not None
    assert (parts.nondeterminism, parts.seed, parts.correlation, parts.drift) == (None, None, None, None)


@pytest.mark.parametrize("values", [[], [1.0], [float("inf"), 1.0], [float("nan"), float("-inf")]])
def test_too_little_to_say_anything(values):
    """No run, one run and runs without a finite number leave everything unknown, without a remark."""
    parts = decompose([Observation(value, "c", seed) for seed, value in enumerate(values)])
    assert (parts.total, parts.runs, parts.remarks) == (None, 0, ())


def test_repeating_a_seed_alone_gives_nondeterminism_but_no_total():
    """Three runs under one seed say what the machine adds, and nothing of a fresh seed."""
    parts = decompose([Observation(v, "c", 1) for v in (1.0, 2.0, 3.0)])
    assert parts.nondeterminism.deviation == pytest.approx(1.0)
    assert (parts.total, parts.seed) == (None, None)


def test_drift_is_found_and_its_absence_too():
    """A trend of two deviations an hour is seen with its size; without one, five of a hundred campaigns cry wolf."""
    draw = random.Random(5)
    trend = decompose(campaign(draw, 4, 6, machine=0.5, drift=1.0)).drift
    assert trend.p < 0.01 and trend.low < 1.0 < trend.high
    alarms = sum(decompose(campaign(draw, 4, 3, seed=1.0, machine=0.5)).drift.p < 0.05 for _ in range(300))
    assert 5 <= alarms <= 26


def test_runs_in_the_order_of_commits_and_seeds_cannot_show_drift():
    """Commit after commit, each under seeds 0, 1, 2: a trend looks like lucky seeds, so nothing is said of it."""
    runs = [Observation(draw_free(c, j), f"c{c}", j, 1e9 + 60 * (3 * c + j)) for c in range(4) for j in range(3)]
    assert decompose(runs).drift is None


def draw_free(commit, seed):
    """A number that is neither additive nor random."""
    return commit + seed + 0.1 * ((commit * 7 + seed * 3) % 5)


def test_a_lucky_seed_that_runs_second_is_no_drift():
    """Every commit runs seed 0, then seed 1, which is lucky: the difference is the seed's."""
    draw = random.Random(6)
    found = [
        Observation(3 * c + j + draw.gauss(0, 0.1), f"c{c}", j, 1e9 + 600 * (2 * c + j * (1 + c % 3)), "cpu0")
        for c in range(20)
        for j in range(2)
    ]
    assert decompose(found).drift.p > 0.05


def test_seeds_that_came_once_beside_pairs_are_no_drift():
    """Pairs that share all their luck leave nothing over; three lucky baseline runs before them are no trend."""
    draw = random.Random(8)
    alarms = 0
    for _ in range(100):
        luck = [draw.gauss(0, 1) for _ in range(8)]
        first = [Observation(luck[j], "c0", j, 1e9 + 20 * j, "cpu0") for j in range(3)]
        pairs = [
            Observation(3 * c + luck[j], f"c{c}", j, 1e9 + 40 * j + 20 * c, "cpu0") for j in range(3, 8) for c in (0, 1)
        ]
        drift = decompose([*first, *pairs]).drift
        alarms += drift is not None and drift.p < 0.01
    assert alarms == 0


def test_slots_that_differ_are_no_drift():
    """A slot that is slower than the other does not look like a trend when runs move from one to the other."""
    draw = random.Random(8)
    found = [
        Observation(draw.gauss(0, 0.1) + (k >= 6), "c", k, 1e9 + 600 * k, "cpu0" if k < 6 else "cpu1")
        for k in range(12)
    ]
    assert decompose(found).drift.p > 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-9, 1e-3, 1e9]))
def test_parts_follow_the_scale(number, scale):
    """In other units every part is the same part; correlation and p have no unit."""
    runs = campaign(random.Random(number), 3, 4, 2, seed=0.5, machine=0.5, drift=0.1)
    scaled = [Observation(r.value * scale, r.commit, r.seed, r.started_at, r.slot) for r in runs]
    one, other = decompose(runs), decompose(scaled)
    assert other.total.deviation == pytest.approx(one.total.deviation * scale, rel=1e-6)
    assert other.nondeterminism.deviation == pytest.approx(one.nondeterminism.deviation * scale, rel=1e-6)
    assert other.correlation == pytest.approx(one.correlation, rel=1e-6, abs=1e-9)
    assert other.drift.p == pytest.approx(one.drift.p, rel=1e-4, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_order_of_the_runs_does_not_matter(number):
    """What the parts rest on is a set of runs."""
    draw = random.Random(number)
    runs = campaign(draw, 3, 4, 2, seed=0.5, machine=0.5)
    one = decompose(runs)
    draw.shuffle(runs)
    other = decompose(runs)
    assert other.total.deviation == pytest.approx(one.total.deviation)
    assert (other.correlation, other.drift.p) == pytest.approx((one.correlation, one.drift.p))


def test_constant_metric():
    """Equal numbers everywhere: noise 0, correlation unknown, and it is said that the change plays no part."""
    parts = decompose([Observation(1.0, f"c{c}", j, 1e9 + 60 * (3 * c + j)) for c in range(2) for j in range(3)])
    assert parts.total.deviation == 0 and parts.correlation is None
    assert len(parts.remarks) == 1 and "does not depend on the change" in parts.remarks[0]


def test_commit_that_ignores_its_seed():
    """One commit of several with the same number under different seeds is named."""
    draw = random.Random(1)
    runs = [Observation(draw.gauss(0, 1), "good", j) for j in range(3)] + [Observation(0.5, "fixed", j) for j in (0, 1)]
    [remark] = decompose(runs, {"fixed": "#4"}).remarks
    assert remark.startswith("#4 gave the identical number") and "ignores its seed" in remark


def test_lab_that_ignores_seeds():
    """When every commit does so, it is the lab, or there is no luck."""
    [remark] = decompose([Observation(float(c), f"c{c}", j) for c in range(2) for j in (0, 1)]).remarks
    assert "AUTORESEARCH_SEED" in remark


def test_repeats_of_one_seed_are_no_sign_of_ignoring_it():
    """Equal numbers under one seed are what a deterministic program gives."""
    assert decompose([Observation(1.0, "c", 4), Observation(1.0, "c", 4)]).remarks == ()


@pytest.mark.parametrize("count", [10, 30, 100])
def test_gaussian_noise_is_rarely_called_odd(count):
    """Of 1,000 Gaussian campaigns at most 20 are told that their noise is not bell-shaped."""
    draw = random.Random(count)
    alarms = sum(any(shape_remarks([draw.gauss(0, 1) for _ in range(count)])) for _ in range(1000))
    assert alarms <= 20


def test_heavy_tails_and_lopsided_noise_are_seen():
    """One wild run in twenty, and noise that only ever makes things worse, are found at least 8 times of 10."""
    draw = random.Random(9)
    wild = [[draw.gauss(0, 20 if k % 20 == 0 else 1) for k in range(60)] for _ in range(50)]
    slanted = [[draw.expovariate(1) - 1 for _ in range(150)] for _ in range(50)]
    assert sum(any("bell-shaped" in r for r in shape_remarks(each)) for each in wild) >= 40
    assert sum(any("lopsided" in r for r in shape_remarks(each)) for each in slanted) >= 40


def test_noise_that_comes_in_jumps():
    """Mostly equal numbers with a rare jump are called by their name."""
    assert any("jumps" in remark for remark in shape_remarks([0.0] * 20 + [1.0, -1.0]))


def test_residuals_are_those_of_repeated_commits():
    """A commit that ran once has none; the others' add up to 0."""
    found = residuals([Observation(1.0, "a"), Observation(2.0, "a"), Observation(9.0, "b")])
    assert [(each.commit, rest) for each, rest in found] == [("a", -0.5), ("a", 0.5)]
