"""The check against sealed data: silent while progress is real, loud when it is not, whatever the metric's scale."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.verdict import Sample
from autoresearch.judge.noise import Spread
from autoresearch.judge.sealed import Audit, Splits, audit, to_audit

LOWER = Metric("loss")
HIGHER = Metric("loss", Direction.MAX)
SEEDS = (11, 12)


def _splits(val: list[float], sealed: list[float], scale: float = 1.0, shift: float = 0.0) -> Splits:
    return Splits(*(Sample(tuple(scale * v + shift for v in s), SEEDS[: len(s)]) for s in (val, sealed)))


def _audit(baseline: Splits, incumbent: Splits, noise: float, metric: Metric = LOWER, **more: object) -> Audit:
    spread = Spread(noise**2 * 60, 60)
    found = audit(metric, baseline, incumbent, spread, **{"tried": 50, **more})  # type: ignore[arg-type]
    assert found is not None and found.limit is not None and found.standard_error is not None
    return found


BASE = _splits([1.0, 1.0], [1.1, 1.1])


def test_gains_are_compared_not_levels() -> None:
    """Sealed data may be harder; what counts is how much better the program became on either."""
    found = _audit(BASE, _splits([0.9], [1.0, 1.0]), 0.001)
    assert found.val_gain == pytest.approx(0.1) and found.difference == pytest.approx(0) and not found.is_alarm


def test_a_gain_that_sealed_data_lack_rings() -> None:
    """Half of a large gain missing is no luck; the same half of a gain within the noise is."""
    assert _audit(BASE, _splits([0.9], [1.05, 1.05]), 0.001).is_alarm
    assert not _audit(BASE, _splits([0.9], [1.05, 1.05]), 0.05).is_alarm


def test_a_small_part_missing_is_no_alarm_however_sure() -> None:
    """Other data may show a tenth less; a quarter and more is what has to be explained."""
    assert not _audit(BASE, _splits([0.9], [1.01, 1.01]), 1e-6).is_alarm
    assert _audit(BASE, _splits([0.9], [1.03, 1.03]), 1e-6).is_alarm


def test_more_gain_on_sealed_data_is_no_alarm() -> None:
    """It is luck of the good sort."""
    assert not _audit(BASE, _splits([0.95], [0.9, 0.9]), 1e-6).is_alarm


@given(
    values=st.lists(st.floats(-1, 1), min_size=7, max_size=7),
    noise=st.floats(1e-3, 1),
    power=st.integers(-9, 9),
    shift=st.floats(-5, 5),
    place=st.integers(1, 20),
)
def test_scale_shift_and_direction_do_not_matter(
    values: list[float], noise: float, power: int, shift: float, place: int
) -> None:
    """The same campaign in other units, from another zero or turned upside down has the same audit."""
    parts = ([values[:2], values[2:4]], [values[4:5], values[5:7]])
    plain = _audit(*(_splits(*part) for part in parts), noise, place=place)
    scale = 10.0**power
    moved = _audit(*(_splits(*part, scale, shift * scale) for part in parts), noise * scale, place=place)
    turned = _audit(*(_splits(*part, -1.0) for part in parts), noise, HIGHER, place=place)
    for other, size in ((moved, scale), (turned, 1.0)):
        assert other.difference == pytest.approx(plain.difference * size, rel=1e-6, abs=1e-9 * size)
        assert other.limit == pytest.approx(plain.limit * size, rel=1e-9)  # type: ignore[operator]
        assert other.standard_error == pytest.approx(plain.standard_error * size, rel=1e-9)  # type: ignore[operator]


@given(order=st.permutations([0, 1]))
def test_the_order_of_runs_does_not_matter(order: list[int]) -> None:
    """Runs of one commit are exchangeable."""
    sealed = Sample(tuple([1.05, 1.0][i] for i in order), tuple(SEEDS[i] for i in order))
    incumbent = Splits(Sample((0.9,), SEEDS[:1]), sealed)
    assert _audit(BASE, incumbent, 0.01) == _audit(BASE, _splits([0.9], [1.05, 1.0]), 0.01)


def test_what_widens_the_limit() -> None:
    """Fewer runs behind the noise, more candidates, later audits and an evaluation that errs: each asks for more."""
    incumbent = _splits([0.9], [1.0, 1.0])
    plain = _audit(BASE, incumbent, 0.01).limit
    few = audit(LOWER, BASE, incumbent, Spread(0.01**2 * 3, 3), tried=50)
    assert few is not None and plain is not None and few.limit is not None
    others = [
        few.limit,
        *(_audit(BASE, incumbent, 0.01, **more).limit or 0 for more in ({"tried": 500}, {"place": 2})),
        _audit(BASE, incumbent, 0.01, evaluation_error=0.01).limit or 0,
    ]
    assert min(others) > plain > 3 * 0.01 * math.sqrt(1 / 2 + 1 / 2 + 1 / 2) * 0.99


def test_what_is_not_known_rings_nothing() -> None:
    """No noise measured, or no score on one of the data; and without any noise the material part alone decides."""
    found = audit(LOWER, BASE, _splits([0.9], [1.1]), Spread(), tried=5)
    assert found is not None and found.limit is None and not found.is_alarm
    assert audit(LOWER, BASE, _splits([0.9], []), Spread(1.0, 1), tried=5) is None
    assert _audit(BASE, _splits([0.9], [1.1]), 0.0).is_alarm and not _audit(BASE, _splits([0.9], [1.0]), 0.0).is_alarm
    assert not _audit(_splits([1.0], [1.0]), _splits([1.0], [1.0]), 0.0).is_alarm


def test_who_is_audited() -> None:
    """The baseline and every so manieth keep; nobody when audits are off."""
    kept = list(range(8))
    assert to_audit(kept, 3) == [0, 3, 6]  # type: ignore[arg-type,comparison-overlap]
    assert to_audit(kept, 0) == [] and to_audit([], 3) == []


def _campaign(rng: random.Random, sigma: float, overfit: float, shared: float, keeps_wanted: int = 40) -> int | None:
    """One greedy campaign with audits every 5 keeps; the audit that rang first, None when none did.

    `shared` is the share of a run's luck (in variance) that is the same on both data; two runs under one seed have the
    rest anew each, which is the worst case for the audit.
    """

    def run(level: float, luck: float) -> float:
        return level + sigma * (math.sqrt(shared) * luck + math.sqrt(1 - shared) * rng.gauss(0, 1))

    true, sealed_true = 1.0, 1.0
    lucks = {seed: rng.gauss(0, 1) for seed in SEEDS}
    baseline = Splits(*(Sample(tuple(run(1.0, lucks[s]) for s in SEEDS), SEEDS) for _ in range(2)))
    best, keeps, tried, place = baseline.val.values[0], 0, 0, 0
    samples = [baseline.val, baseline.sealed]
    while keeps < keeps_wanted and tried < 400:
        tried += 1
        effect = -abs(rng.gauss(0, 0.012)) if rng.random() < 0.6 else rng.expovariate(1 / 0.004)
        luck = rng.gauss(0, 1)
        value = run(true - effect, luck)
        if value >= best:
            continue
        best, keeps, true, sealed_true = value, keeps + 1, true - effect, sealed_true - effect * (1 - overfit)
        if keeps % 5 == 0:
            place += 1
            sealed = Sample((run(sealed_true, luck), run(sealed_true, rng.gauss(0, 1))), SEEDS)
            samples.append(sealed)
            squares = sum(sum((v - s.mean) ** 2 for v in s.values) for s in samples)
            incumbent = Splits(Sample((value,), SEEDS[:1]), sealed)
            found = audit(LOWER, baseline, incumbent, Spread(squares, len(samples)), tried=tried, place=place)
            if found is not None and found.is_alarm:
                return place
    return None


@pytest.mark.parametrize("shared", [0.0, 0.8])
@pytest.mark.parametrize("sigma", [0.0007, 0.0025, 0.005])
def test_fewer_than_one_sound_campaign_in_a_hundred_rings(sigma: float, shared: float) -> None:
    """40 keeps of the greedy rule, whose validation scores are as lucky as scores can be, without any overfitting."""
    rang = [_campaign(random.Random(f"{sigma}:{shared}:{n}"), sigma, 0.0, shared) for n in range(400)]
    assert sum(place is not None for place in rang) < 4


@pytest.mark.parametrize(("sigma", "share_found"), [(0.0007, 0.95), (0.0025, 0.9)])
def test_overfitting_is_found(sigma: float, share_found: float) -> None:
    """Gains of which sealed data show nothing ring within 40 keeps, nearly always."""
    rang = [_campaign(random.Random(f"{sigma}:{n}"), sigma, 1.0, 0.5) for n in range(100)]
    assert sum(place is not None for place in rang) >= 100 * share_found
