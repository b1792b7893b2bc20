"""What a constant's name and value say about where it may go, and what the lab file may say instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.errors import UserError
from autoresearch.researchers.dimension import Dimension, Scale
from autoresearch.researchers.space import infer_space


def dimension(name: str, value: object, annotation: object = None) -> Dimension:
    """The dimension of one constant."""
    annotations = {} if annotation is None else {name: annotation}
    return infer_space({name: value}, annotations)[name]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "value", "scale", "low", "high"),
    [
        ("BATCH", 64, Scale.POWER, 16, 256),
        ("DEPTH", 6, Scale.LOG, 3, 12),
        ("MATRIX_LR", 0.02, Scale.LOG, 0.005, 0.08),
        ("WARMDOWN_RATIO", 0.5, Scale.FRACTION, 1 / 9, 8 / 9),
        ("ADAM_BETA2", 0.95, Scale.COMPLEMENT, 0.75, 0.99),
        ("MLP_RATIO", 4.0, Scale.LOG, 1.0, 16.0),
        ("KEEP_FRAC", 1.0, Scale.LOG, 0.25, 1.0),
        ("WEIGHT_DECAY", 0.0, Scale.FROM_ZERO, 0.0, 0.15),
        ("OFFSET", -0.5, Scale.LOG, 0.125, 2.0),
    ],
)
def test_name_and_value_suggest_a_range(name: str, value: object, scale: Scale, low: float, high: float) -> None:
    """Powers, small whole numbers, rates, fractions, momenta, switched-off and negative numbers."""
    found = dimension(name, value)
    assert (found.scale, found.low, found.high) == (scale, pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("name", "value"),
    [("SEED", 42), ("RANDOM_SEED", 1), ("DATA_PATH", 3), ("OUT_DIR", 3), ("DEVICE", 0), ("VERSION", 2),
     ("EVAL_STEPS", 20), ("TIME_BUDGET", 300), ("LOG_EVERY", 10), ("OPTIMIZER", "adam"), ("SHIFT", 0.0),
     ("START", 0), ("LAST", -1)],
)  # fmt: skip
def test_what_is_no_knob_is_never_offered(name: str, value: object) -> None:
    """Seeds, paths, devices, budgets, logging, words, sentinels and zeros without a scale stay as they are."""
    assert infer_space({name: value}) == {}  # type: ignore[dict-item]


def test_a_soft_cap_on_logits_is_no_logging() -> None:
    """Words count, not letters."""
    assert "LOGIT_SOFTCAP" in infer_space({"LOGIT_SOFTCAP": 15.0})


def test_booleans_flip() -> None:
    """The other value is the only move."""
    assert dimension("FLAG", True).choices == (False, True)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.sampled_from([("BATCH", 64), ("DEPTH", 6), ("LR", 0.02), ("KEEP_FRAC", 0.5), ("BETA", 0.95), ("WD_DECAY", 0.0),
                     ("OFFSET", -0.5), ("BIG", 100_000), ("FLAG", True)]),
    st.floats(-5, 5),
)  # fmt: skip
def test_every_coordinate_is_a_value_within_bounds_that_optuna_accepts(knob: tuple[str, object], at: float) -> None:
    """Values keep type and sign, and go to a parameter and back."""
    found = dimension(*knob)
    value = found.value_at(at)
    assert type(value) is type(knob[1])
    assert isinstance(value, bool) or found.low <= value * found.sign <= found.high  # type: ignore[operator]
    assert found.from_parameter(found.to_parameter(value)) == value
    assert found.distribution._contains(found.distribution.to_internal_repr(found.to_parameter(value)))


@pytest.mark.parametrize("knob", [("BATCH", 64), ("LR", 0.02), ("BETA", 0.95), ("KEEP_FRAC", 0.5), ("OFFSET", -0.5)])
def test_the_anchor_is_the_origin(knob: tuple[str, object]) -> None:
    """Coordinates count from the value first seen, and order follows the magnitude."""
    found = dimension(*knob)
    assert found.coordinate(found.anchor) == 0
    assert found.coordinate(found.value_at(1.0)) == pytest.approx(1.0, abs=0.15)


def test_values_are_short_enough_to_read() -> None:
    """Two significant digits, as a person writes them."""
    assert dimension("LR", 0.02).value_at(1.0) == 0.032
    assert dimension("BETA2", 0.95).value_at(1.0) == 0.975


def test_a_guessed_range_follows_the_incumbent_and_an_annotated_one_does_not() -> None:
    """What a person wrote stands."""
    assert dimension("LR", 0.02).around(0.08).high == 0.32
    assert dimension("LR", 0.02, {"low": 0.01, "high": 0.1}).around(0.08).high == 0.1


def test_annotations_overrule_the_guess() -> None:
    """A list, a range with a grid, or never."""
    assert infer_space({"LR": 0.1}, {"LR": False}) == {}
    assert dimension("OPTIMIZER", "adam", {"choices": ["adam", "sgd"]}).choices == ("adam", "sgd")
    grid = dimension("WIDTH", 100, {"low": 50, "high": 200, "step": 25})
    assert {grid.value_at(at / 4) for at in range(-30, 31)} == {50, 75, 100, 125, 150, 175, 200}


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        ({"low": 3, "high": 2}, r"tuner\.constants\.LR: low 3 is not below high 2; swap"),
        ({"low": 0.2, "high": 2.0}, r"tuner\.constants\.LR: the present value 0\.1 lies outside 0\.2 to 2; widen"),
        ({"low": 0.0, "high": 2.0, "log": True}, r"tuner\.constants\.LR\.low: a log scale needs a low above 0"),
        ({"low": 0.0, "high": 2.0, "step": 3}, r"tuner\.constants\.LR\.step: 3 does not fit"),
        ({"high": 2.0}, r"tuner\.constants\.LR\.low: write a number"),
        ({"low": 0.0, "high": 1.0, "max": 1}, r"tuner\.constants\.LR\.max: no such key; use"),
        ({"low": 0.0, "high": 1.0, "log": "yes"}, r"tuner\.constants\.LR\.log: write true or false"),
        ({"choices": [1.0, 2.0]}, r"tuner\.constants\.LR\.choices: the present value 0\.1 is not among them; add it"),
        ({"choices": [0.1]}, r"tuner\.constants\.LR\.choices: list at least two"),
        ({"choices": [0.1, 0.2], "low": 1}, r"tuner\.constants\.LR: choices stand alone"),
        (7, r"tuner\.constants\.LR: write false"),
    ],
)
def test_a_wrong_annotation_is_one_sentence_with_its_cure(annotation: object, complaint: str) -> None:
    """Key, mistake, remedy."""
    with pytest.raises(UserError, match=complaint):
        infer_space({"LR": 0.1}, {"LR": annotation})


def test_other_types_have_other_mistakes() -> None:
    """Words need choices, whole numbers whole bounds, and names must exist."""
    with pytest.raises(UserError, match="is not a number; write false or"):
        infer_space({"NAME": "a"}, {"NAME": {"low": 0, "high": 1}})
    with pytest.raises(UserError, match="DEPTH is a whole number"):
        infer_space({"DEPTH": 4}, {"DEPTH": {"low": 0.5, "high": 8}})
    with pytest.raises(UserError, match=r"tuner\.constants\.LR: the editable files have no such"):
        infer_space({"DEPTH": 4}, {"LR": False})


def test_a_campaign_under_way_forgives_what_structural_changes_did() -> None:
    """A constant that is gone or has left its range is no reason to stop a night."""
    lenient = infer_space({"LR": 0.5}, {"LR": {"low": 0.1, "high": 0.2}, "GONE": False}, is_strict=False)
    assert (lenient["LR"].low, lenient["LR"].high) == (0.1, 0.5)
