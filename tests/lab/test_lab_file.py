"""The lab file: what it accepts, and what it says when it does not."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.budget import Limits
from autoresearch.domain.metric import Direction, Metric
from autoresearch.errors import LabError
from autoresearch.lab.config import LabConfig, config_reference, load_config, parse_config, reference_markdown
from autoresearch.lab.config_text import toml_value

SMALLEST: dict[str, Any] = {
    "lab": {"run": "python train.py", "editable": ["train.py"]},
    "metric": {"name": "val_bpb", "direction": "min"},
    "budget": {"seconds": 300},
}


def changed(key: str, value: object) -> dict[str, Any]:
    """The smallest lab file with one key set; None removes it."""
    document = copy.deepcopy(SMALLEST)
    *tables, last = key.split(".")
    place = document
    for table in tables:
        place = place.setdefault(table, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def test_smallest_file_is_enough() -> None:
    """Everything but three tables has a default, and a command may be one line."""
    config = parse_config(SMALLEST)
    assert config.lab.run == ("python", "train.py")
    assert config.protected == ("autoresearch.toml", "program.md")
    assert config.budget.run_timeout_seconds == 660
    assert config.metric.to_metric() == Metric("val_bpb", Direction.MIN)
    assert config.campaign.to_limits() == Limits()
    assert [researcher.label for researcher in config.researcher] == ["tuner"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("metric.direction", "lower", "metric.direction is 'lower': use 'min' or 'max'"),
        ("metric.directon", "min", "metric.directon is not a known key: did you mean 'direction'?"),
        ("campain.seed", 1, "campain is not a known key: did you mean 'campaign'?"),
        ("metric", None, "metric is missing: set it to a table with name, direction"),
        ("metric.name", None, "metric.name is missing: set it to the name that the run prints, such as 'val_bpb'"),
        (
            "lab.switches",
            {"use_smear": False},
            "lab.switches names 'use_smear': use the name of an upper-case constant",
        ),
        ("lab.switches", {"RATE": float("nan")}, "lab.switches switches RATE off by nan: use a finite number"),
        ("lab.switches", {"RATE": [0]}, "lab.switches.RATE is [0]: use a table of constants"),
        ("campaign.prune_every", -1, "campaign.prune_every is -1: use a whole number of at least 0"),
        ("campaign.retest_share", 0.6, "campaign.retest_share is 0.6: use a share from 0 to 0.5"),
        ("metric.name", "", "metric.name is '': use the name that the run prints, such as 'val_bpb'"),
        ("lab.run", [], 'lab.run is []: use a list of strings such as ["python", "train.py"], or one such line'),
        ("lab.run", 'a "b', "lab.run is 'a \"b': use a list of strings"),
        ("lab.editable", ["../x"], "lab.editable is ['../x']: use paths or patterns within the lab"),
        ("lab.editable", ["/x"], "lab.editable is ['/x']: use paths or patterns within the lab"),
        ("lab.environment", {"AUTORESEARCH_SEED": "1"}, "lab.environment sets AUTORESEARCH_SEED: names that begin"),
        ("lab.environment", {"A": 1}, "lab.environment.A is 1: use a table of texts"),
        ("budget.seconds", 0, "budget.seconds is 0: use a number of seconds above 0"),
        ("budget.seconds", "300", "budget.seconds is '300': use a number of seconds above 0"),
        ("budget.seconds", True, "budget.seconds is true: use a number of seconds above 0"),
        ("budget.seconds", float("nan"), "budget.seconds is nan: use a number of seconds above 0"),
        ("budget.timeout_seconds", 300, "budget.timeout_seconds is 300: use more than budget.seconds, which is 300"),
        ("metric.rotation", 1, "metric.rotation is 1: use less than metric.rotations, which is 1 (counted from 0)"),
        ("telemetry.band", 1, "telemetry.band is 1: use a number above 1, such as 1.15, or 0 to switch it off"),
        ("telemetry.band", -1.0, "telemetry.band is -1.0: use a number above 1, or 0"),
        ("telemetry.disturbed_retries", -1, "telemetry.disturbed_retries is -1: use a whole number of at least 0"),
        ("slots.gpus", [0, 0], "slots.gpus is [0, 0]: use 'auto', 'none' or a list of different GPU numbers"),
        ("slots.cores_per_slot", 0, "slots.cores_per_slot is 0: use 'auto' or a whole number of at least 1"),
        ("slots", 5, "slots is 5: use a table with gpus, cpu, cores_per_slot"),
        ("researcher", [{}, {"kind": "command"}], 'researcher[2].command is missing: kind = "command" needs one'),
        ("researcher", {"comand": "x"}, "researcher[1].comand is not a known key: did you mean 'command'?"),
        ("researcher", "tuner", "researcher is 'tuner': use a table with"),
        ("tuner.constants", {"A": True}, "tuner.constants.A is true: use false, { low = …, high = … }"),
        ("tuner.constants", {"A": {"low": 2, "high": 1}}, "tuner.constants.A has low = 2 and high = 1: low must be"),
        ("tuner.constants", {"A": {"low": 0, "high": 1, "log": True}}, "tuner.constants.A has log = true and low = 0"),
        ("tuner.constants", {"A": {"lo": 1}}, "tuner.constants.A.lo is not a known key: did you mean 'low'?"),
    ],
)
def test_mistakes_are_one_sentence(key: str, value: object, said: str) -> None:
    """Each mistake names the file, the key, what is wrong and the cure."""
    with pytest.raises(LabError) as raised:
        parse_config(changed(key, value))
    assert str(raised.value).startswith(f"autoresearch.toml: {said}")
    assert "\n" not in str(raised.value)


def test_hash_follows_meaning_only() -> None:
    """What makes results comparable changes the hash; what does not, does not."""
    plain = parse_config(SMALLEST).comparable_hash()
    for key, value in (("lab.name", "x"), ("campaign.seed", 7), ("slots.cpu", 4), ("researcher", {"count": 2}),
                       ("metric.sealed", True), ("metric.rotations", 3), ("campaign.audit_every", 2),
                       ("telemetry.band", 2)):  # fmt: skip
        assert parse_config(changed(key, value)).comparable_hash() == plain
    for key, value in (("lab.run", "python x.py"), ("budget.seconds", 299), ("metric.direction", "max"),
                       ("lab.environment", {"A": "1"}), ("lab.check", "true"), ("budget.clock", "cpu")):  # fmt: skip
        assert parse_config(changed(key, value)).comparable_hash() != plain
    assert parse_config(SMALLEST).on_rotation(1).comparable_hash() != plain


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[lab\n", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a = " + b"[" * 5000, "is not TOML"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (None, "write one with `autoresearch init`"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file that is no TOML, no text or not there is told in one sentence."""
    if content is not None:
        (tmp_path / "autoresearch.toml").write_bytes(content)
    with pytest.raises(LabError, match=said):
        load_config(tmp_path)


def test_reference_names_every_key_with_its_meaning() -> None:
    """No key is without a description or without the values it accepts."""
    rows = config_reference()
    assert len({row.key for row in rows}) == len(rows) > 40
    assert all(row.meaning and row.type for row in rows)
    assert all(f"`{row.key}`" in reference_markdown() for row in rows)


def test_documented_defaults_are_the_defaults() -> None:
    """A default in the reference can be written into the file and changes nothing."""
    document = copy.deepcopy(SMALLEST)
    for row in config_reference():
        table, key = row.key.split(".", 1)
        if "." not in key and row.default and row.default != "none":
            document.setdefault(table, {})[key] = tomllib.loads(f"x = {row.default}")["x"]
    assert parse_config(document) == parse_config(SMALLEST)


WORDS = (
    "lab metric budget slots campaign researcher tuner run editable name direction seconds gpus cpu kind command "
    "constants low high choices environment program literal[False] ConstantRange"
)
KEYS = st.sampled_from([*WORDS.split(), ""]) | st.text(max_size=5)
SCALARS = (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.datetimes()
           | st.sampled_from(["min", "auto", "python train.py", "tuner", "command", "a 'b"]))  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.booleans())
def test_any_document_gives_a_config_or_a_sentence(document: dict[str, Any], complete: bool) -> None:
    """No TOML document whatsoever leads to a traceback."""
    try:
        assert isinstance(parse_config({**SMALLEST, **document} if complete else document), LabConfig)
    except LabError as error:
        assert str(error).startswith("autoresearch.toml: ")


@given(st.sampled_from(["lab", "metric", "budget", "slots", "campaign", "researcher", "tuner"]), KEYS, VALUES)
def test_any_key_gives_a_config_or_a_sentence(table: str, key: str, value: object) -> None:
    """The same with one arbitrary value at a time, so that it gets deep."""
    document = {**SMALLEST, table: {**SMALLEST.get(table, {}), key: value}}
    try:
        assert isinstance(parse_config(document), LabConfig)
    except LabError as error:
        assert str(error).startswith("autoresearch.toml: ")


TOML_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@given(TOML_VALUES)
def test_values_survive_being_written(value: object) -> None:
    """What is written into a lab file is read back as it was."""
    assert repr(tomllib.loads(f"x = {toml_value(value)}")["x"]) == repr(value)
