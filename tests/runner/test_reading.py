"""Metric, summary and last words from any text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Metric, Source
from autoresearch.runner import reading
from autoresearch.runner.reading import Unreadable, exception_of, find_metric, read_everything, read_number, tail_of

SUMMARY = Metric("val_bpb")
LINE = Metric("val_bpb", source=Source.METRIC)
JSON = Metric("val_bpb", source=Source.JSON)

ORIGINAL = """step 00950 (99.7%) | loss: 3.011204 | lrm: 0.01 | dt: 310ms\rstep 00951 | loss: 3.0\r
---
val_bpb:          0.997900
training_seconds: 300.1
peak_vram_mb:     45060.2
device:           H100
"""

finite = st.floats(allow_nan=False, allow_infinity=False)
hostile = st.text() | st.lists(
    st.sampled_from(["---", "val_bpb:", " ", "METRIC val_bpb=", "nan", "1e999", "\n", "\r", "\x1b[31m", "{", '"'])
).map("".join)  # fmt: skip


def test_the_summary_of_the_original_is_read():
    """The metric and every other line of the summary, numbers as numbers; progress is no summary."""
    assert find_metric(SUMMARY, ORIGINAL, None) == 0.9979
    assert read_everything(ORIGINAL) == {
        "val_bpb": 0.9979, "training_seconds": 300.1, "peak_vram_mb": 45060.2, "device": "H100",
    }  # fmt: skip


def test_without_a_rule_the_last_line_counts():
    """The original's own reading: a plain search for the line."""
    assert find_metric(SUMMARY, "val_bpb: 2\nval_bpb: 1\nbye", None) == 1.0


def test_the_same_value_twice_is_fine():
    """Repetition is not contradiction."""
    assert find_metric(SUMMARY, "---\nval_bpb: 1.50\nval_bpb: 1.5\n", None) == 1.5


@pytest.mark.parametrize(
    ("metric", "log"),
    [(SUMMARY, "---\nval_bpb: 1\nval_bpb: 2\n"), (LINE, "METRIC val_bpb=1\nMETRIC val_bpb=2\n")],
)
def test_two_values_are_ambiguous(metric, log):
    """Which of two numbers is meant cannot be guessed; both are named."""
    with pytest.raises(Unreadable, match=r"printed as 1\.0 and as 2\.0"):
        find_metric(metric, log, None)


def test_the_last_summary_counts_and_a_closing_rule_does_no_harm():
    """An earlier summary is overruled by a later one."""
    assert find_metric(SUMMARY, "---\nval_bpb: 2\n---\nval_bpb: 1\n---\n", None) == 1.0


def test_a_word_is_not_a_number():
    """What is no number is quoted."""
    with pytest.raises(Unreadable, match="printed as 'oops'"):
        find_metric(SUMMARY, "---\nval_bpb: oops\n", None)


@pytest.mark.parametrize("text", ["1_000", "１", "0x10", "1,5", "", "1 2", "--1", "1e", "infinit", "True"])
def test_what_python_would_accept_is_not_always_a_number(text):
    """Stricter than `float`."""
    assert read_number(text) is None


@given(value=finite)
def test_every_printed_number_is_read_back_exactly(value):
    """What Python prints is what is read, in all three places."""
    assert find_metric(SUMMARY, f"---\nval_bpb: {value!r}\n", None) == value
    assert find_metric(LINE, f"noise\nMETRIC val_bpb={value!r}\n", None) == value
    assert find_metric(JSON, "", f'{{"val_bpb": {value!r}}}') == value


@pytest.mark.parametrize("text", ["nan", "NaN", "-inf", "Infinity", "1e999"])
def test_not_finite_is_still_read(text):
    """NaN and infinity are values: the run diverged, it did not forget its metric."""
    assert not math.isfinite(find_metric(SUMMARY, f"---\nval_bpb: {text}\nval_bpb: {text}", None))


def test_colours_do_not_hide_a_number():
    """Terminal colours are taken off."""
    assert find_metric(SUMMARY, "---\n\x1b[1mval_bpb: \x1b[32m1.5\x1b[0m\n", None) == 1.5


def test_a_line_that_was_cut_is_not_read():
    """Half a number at the place where the log was cut is nothing."""
    log = "val_bpb: 1.2 [autoresearch: 99 bytes of log were dropped here]\nbye\n"
    assert find_metric(SUMMARY, log, None) is None


def test_json_may_be_nested():
    """A dotted name leads into objects, unless the whole name is a key."""
    assert find_metric(Metric("eval.bpb", source=Source.JSON), "", '{"eval": {"bpb": 2}}') == 2.0
    assert find_metric(Metric("eval.bpb", source=Source.JSON), "", '{"eval.bpb": 3, "eval": {"bpb": 2}}') == 3.0


@pytest.mark.parametrize("text", ['{"val_bpb": "1"}', '{"val_bpb": true}', '{"val_bpb": [1]}', "[1]", "", "[" * 10**5])
def test_json_that_holds_no_number_is_unreadable(text):
    """Texts, truths, lists and broken files are not numbers."""
    with pytest.raises(Unreadable):
        find_metric(JSON, "", text)


@pytest.mark.parametrize("text", [None, "{}", '{"val_bpb": null}'])
def test_json_without_the_key_is_absent(text):
    """No file, no key and null are all the same: nothing was measured."""
    assert find_metric(JSON, "", text) is None


@given(log=hostile, file=st.none() | hostile)
def test_no_text_is_a_surprise(log, file):
    """Every reader takes every text, within bounds."""
    for metric in (SUMMARY, LINE, JSON):
        try:
            value = find_metric(metric, log, file)
        except Unreadable:
            continue
        assert value is None or isinstance(value, float)
    assert len(read_everything(log, file)) <= 3 * reading.SUMMARY_LIMIT
    assert len(tail_of(log)) <= reading.DETAIL_LIMIT
    assert len(exception_of(log)) <= 300


TRACEBACK = """step 1
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    main()
ValueError: first
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
    raise KeyError("x")
KeyError: 'x'
cleaning up
"""


def test_the_last_exception_is_named():
    """The last traceback counts, and what is printed after it is kept but not taken for the reason."""
    assert exception_of(TRACEBACK) == "KeyError: 'x'"
    assert tail_of(TRACEBACK).startswith("Traceback")
    assert "first" not in tail_of(TRACEBACK)


def test_ranks_do_not_hide_a_traceback():
    """A launcher's prefixes are taken off."""
    log = "\n".join(f"[rank3]: {line}" for line in TRACEBACK.split("\n"))
    assert exception_of(log) == "KeyError: 'x'"


def test_without_a_traceback_the_last_line_speaks():
    """A shell script or a C program says it in its last line."""
    assert exception_of("compiling\nerror: no such flag\n\n") == "error: no such flag"
    assert exception_of("") == ""


def test_the_tail_is_bounded_and_clean():
    """What reaches a researcher holds no terminal commands and no more than agreed."""
    tail = tail_of("\x1b]0;title\x07" + "x" * 10**6 + "\x1b[2J\x00\u202e end")
    assert len(tail) == reading.DETAIL_LIMIT
    assert tail.isprintable()
