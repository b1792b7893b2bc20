"""The original's results file: what we write it can read, and what was written anywhere we can read."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.experiment import Experiment, Run
from autoresearch.domain.metric import Direction, Metric
from autoresearch.domain.proposal import Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.errors import LedgerError, UserError
from autoresearch.ledger import results_tsv

DATA = Path(__file__).parent / "data"
METRIC = Metric("val_bpb")
HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


def experiment(value=0.9979, hypothesis="raise the learning rate", verdict=Verdict.KEEP, **telemetry):
    """One experiment with one run, which crashed when there is no value."""
    request = RunRequest("night", 1, 0, "abcdef0123", 7, 300, 600)
    if value is None:
        result = RunResult(Outcome.CRASHED, detail="boom", telemetry=telemetry)
    else:
        result = RunResult(Outcome.FINISHED, value, telemetry=telemetry)
    return Experiment(
        "night", 1, "tuner", "p", commit="abcdef0123", proposal=Proposal(hypothesis), verdict=verdict,
        runs=(Run(request, "gpu0", result),),
    )  # fmt: skip


def parse(text, **options):
    """What the reader makes of a file `log.tsv` with this content."""
    content = text if isinstance(text, bytes) else text.encode()
    return results_tsv.parse(content, "log.tsv", **options)


# -- writing --------------------------------------------------------------------------------------------------------


def test_a_row_has_the_originals_five_columns():
    """Short commit, six decimals, gigabytes with one decimal, status, description."""
    line = results_tsv.row(experiment(peak_memory_bytes=44.0 * 1024**3))
    assert line == "abcdef0\t0.997900\t44.0\tkeep\traise the learning rate"


def test_the_programs_own_word_on_its_gpu_memory_comes_first():
    """peak_vram_mb of the summary is the GPU's; what the harness saw is the process's."""
    one = experiment(peak_memory_bytes=1e9)
    result = replace(one.runs[0].result, summary={"peak_vram_mb": 45056.0})
    one = replace(one, runs=(replace(one.runs[0], result=result),))
    assert results_tsv.row(one).split("\t")[2] == "44.0"


def test_a_crash_is_written_as_zeros():
    """The original's convention, which every reader of its files knows."""
    assert results_tsv.row(experiment(None, "too wide", Verdict.CRASH)) == "abcdef0\t0.000000\t0.0\tcrash\ttoo wide"


def test_an_unknown_value_of_a_discard_is_not_a_number():
    """Zero would be a record score wherever smaller is better."""
    assert results_tsv.row(experiment(None, "refused", Verdict.DISCARD)).split("\t")[1:3] == ["", ""]


def test_an_undecided_experiment_has_no_row():
    """There is no status for it among the original's three."""
    with pytest.raises(ValueError, match="no verdict"):
        results_tsv.row(experiment(verdict=None))


def test_writing_leaves_out_what_is_undecided_and_no_other_file(tmp_path):
    """The file appears whole under its name, and the temporary one is gone."""
    path = tmp_path / "results.tsv"
    results_tsv.write(path, [experiment(), experiment(verdict=None)], METRIC)
    assert path.read_text() == HEADER + results_tsv.row(experiment()) + "\n"
    assert list(tmp_path.iterdir()) == [path]


def test_appending_writes_the_header_once(tmp_path):
    """Appending row by row gives the same file as writing all at once."""
    for one in (experiment(), experiment(0.9)):
        results_tsv.append(tmp_path / "appended.tsv", one, METRIC)
    results_tsv.write(tmp_path / "written.tsv", [experiment(), experiment(0.9)], METRIC)
    assert (tmp_path / "appended.tsv").read_bytes() == (tmp_path / "written.tsv").read_bytes()


def test_appending_never_melts_two_rows_into_one(tmp_path):
    """A last line that lost its newline is ended first."""
    path = tmp_path / "results.tsv"
    path.write_text(HEADER + "abc1234\t0.9\t1.0\tkeep\tcut sho")
    results_tsv.append(path, experiment(), METRIC)
    assert len(results_tsv.read(path).rows) == 2


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path):
    """A missing folder is our failure, told with the path."""
    with pytest.raises(LedgerError, match=r"nowhere.*cannot be written"):
        results_tsv.write(tmp_path / "nowhere" / "results.tsv", [], METRIC)
    with pytest.raises(LedgerError, match=r"nowhere.*cannot be written"):
        results_tsv.append(tmp_path / "nowhere" / "results.tsv", experiment(), METRIC)


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_any_number_come_back(hypothesis_text, value):
    """The description returns but for its white space, the value to the digits that are written."""
    text = results_tsv.header(METRIC) + "\n" + results_tsv.row(experiment(value, hypothesis_text)) + "\n"
    (row,) = parse(text).rows
    assert row.description == " ".join("".join(c if c.isprintable() else " " for c in hypothesis_text).split())
    assert row.value == pytest.approx(value, rel=1e-5, abs=0) and row.verdict is Verdict.KEEP


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_lone_surrogates_do_not_stop_a_campaign(hypothesis_text):
    """Agents hand in broken Unicode; the row is one line of valid UTF-8 all the same."""
    line = results_tsv.row(experiment(hypothesis=hypothesis_text))
    assert results_tsv._encode(line).decode().count("\n") == 0 and line.count("\t") == 4


# -- reading --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400) | st.text(alphabet="keepdiscard0.1\t\n,;\"' -").map(str.encode))
def test_arbitrary_bytes_are_rows_or_one_sentence(content):
    """Nothing but a UserError ever comes out, with or without a header before the bytes."""
    for prefix in (b"", HEADER.encode()):
        try:
            found = parse(prefix + content)
        except UserError as error:
            assert "log.tsv" in str(error)
        else:
            assert found.rows and len(found.experiments("c")) == len(found.rows)


def test_a_log_of_the_original_loads():
    """Baseline as number 0 though its commit is a word, a crash without its zero, gigabytes as bytes."""
    found = results_tsv.read(DATA / "one-gpu.tsv")
    base, kept, crashed, bad = found.experiments("night")
    assert base.is_baseline and base.number == 0 and base.score == 0.9979
    assert kept.parent == "baseline" and kept.runs[0].result.telemetry["peak_memory_bytes"] == 43.9 * 1024**3
    assert crashed.score is None and crashed.failure.outcome is Outcome.CRASHED
    assert bad.score == 3.215849 and bad.parent == "bea057b"
    assert found.remarks == ("one-gpu.tsv line 2: 'baseline' is not a commit of git; imported under that name",)


def test_more_columns_than_five_are_no_trouble():
    """The first column that is none of the original's is the metric, wherever the others stand."""
    found = results_tsv.read(DATA / "eight-columns.tsv")
    assert found.metric_name == "val_bpb" and [r.value for r in found.rows] == [2.013867, 2.613756, 1.959782]
    assert found.rows[0].memory_gb == 20.7 and found.remarks == ()


def test_another_column_can_be_the_metric():
    """Whoever imports may decide, and a wrong name is answered with the right ones."""
    assert results_tsv.read(DATA / "eight-columns.tsv", metric="worst_case_bpb").rows[0].value == 3.563608
    with pytest.raises(UserError, match="val_bpb, robustness_gap"):
        results_tsv.read(DATA / "eight-columns.tsv", metric="accuracy")


def test_stale_results_are_suspected():
    """Eleven ideas with the identical value, a worse value kept, one commit for many ideas: each is said once."""
    found = results_tsv.read(DATA / "stale-rows.tsv")
    assert found.metric == Metric("val_rmse", Direction.MIN) and len(found.rows) == 39
    lines = "\n".join(found.remarks)
    assert "lines 12 to 22: 11 different ideas in a row have the identical val_rmse 210.43" in lines
    assert "line 12: keeps val_rmse 210.43, worse than 191.45 before it" in lines
    assert "line 4: repeats the commit of line 3" in lines and len(found.remarks) == 3


def test_a_swarms_summary_names_its_researchers():
    """A leading agent column is the researcher; nobody is the baseline, so numbers start at 1."""
    experiments = results_tsv.read(DATA / "swarm-summary.tsv").experiments("swarm")
    assert [e.researcher for e in experiments] == ["gpu0-claude", "gpu1-claude", "gpu2-claude", "gpu3-claude"]
    assert [e.number for e in experiments] == [1, 2, 3, 4] and not any(e.is_baseline for e in experiments)


def test_a_file_without_results_is_one_sentence():
    """A list of commits is no results file, and the sentence says what one looks like."""
    with pytest.raises(UserError, match=r"no-results\.tsv holds no results: .*val_bpb, memory_gb, status"):
        results_tsv.read(DATA / "no-results.tsv")


@pytest.mark.parametrize("content", ["", "\n\n", HEADER, "\ufeff", "no table at all"])
def test_an_empty_file_is_one_sentence(content):
    """So is one with nothing but a header."""
    with pytest.raises(UserError, match="holds no results"):
        parse(content)


def test_a_missing_file_is_one_sentence(tmp_path):
    """With the cure at its end."""
    with pytest.raises(UserError, match=r"give the path of a results\.tsv"):
        results_tsv.read(tmp_path / "absent.tsv")


@pytest.mark.parametrize(
    ("line", "verdict", "value", "remark"),
    [
        ("c1\t0.9\t1.0\tKEEP\tloud", "keep", 0.9, None),
        ("c1\t0.9\t1.0\tkept\tpast tense", "keep", 0.9, "has status 'kept'; imported as keep"),
        ("c1\t0.9\t1.0\tmeh\twho knows", "discard", 0.9, "has the unknown status 'meh'; imported as discard"),
        ("c1\t\t\ttimeout\tslow", "crash", None, "has status 'timeout'; imported as crash"),
        ("c1\t0.9\t\tkeep\tno memory", "keep", 0.9, None),
        ("c1\t0.9\tlots\tkeep\tmemory in words", "keep", 0.9, "has memory 'lots', not a number; imported without it"),
        ("c1\t0.9\t1.0\tcrash\tcrashed late", "crash", None, "is a crash with val_bpb 0.9; imported without the value"),
        ("c1\tnan\t1.0\tdiscard\tblew up", "discard", None, "has val_bpb 'nan', not a usable number"),
        ("c1\tn/a\t1.0\tkeep\thope", "discard", None, "is a keep with val_bpb 'n/a'; imported as discard"),
        ("c1\t0.000000\t0.0\tdiscard\tkilled", "discard", None, "has neither value nor memory"),
        ("c1\t0.9\t1.0\tkeep", "keep", 0.9, "is short: 4 of 5 cells; imported as keep"),
        ("c1\t0.9\t1.0\tkeep\ttabs\tinside", "keep", 0.9, "has 1 cells too many"),
        ('c1\t0.9\t1.0\tkeep\t"say ""cheese"""', "keep", 0.9, None),
    ],
)
def test_an_odd_row_is_imported_with_one_sentence(line, verdict, value, remark):
    """The sentence names the file and the line, and what became of the row."""
    found = parse(HEADER + "abc1234\t1.0\t1.0\tkeep\tbaseline\n" + line.replace("c1", "c1c1c1c") + "\n")
    assert (found.rows[-1].verdict, found.rows[-1].value) == (verdict, value)
    assert len(found.remarks) == (remark is not None)
    assert not remark or found.remarks[0].startswith(f"log.tsv line 3: {remark}")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + HEADER.encode() + b"abc1234\t0.9\t1.0\tkeep\tbaseline\n",
        HEADER.replace("\n", "\r\n").encode() + b"\r\n\r\nabc1234\t0.9\t1.0\tkeep\tbaseline\r\n",
        HEADER.replace("\n", "\r").encode() + b"abc1234\t0.9\t1.0\tkeep\tbaseline\r",
        (HEADER + "abc1234\t0.9\t1.0\tkeep\tbaseline\n").encode("utf-16"),
    ],
)
def test_any_editors_line_ends_and_marks_are_read(content):
    """Byte order marks, carriage returns, blank lines and Windows' UTF-16 leave no trace."""
    found = parse(content)
    assert [(r.value, r.description) for r in found.rows] == [(0.9, "baseline")] and found.remarks == ()


def test_bytes_that_are_not_text_are_replaced():
    """The row stays, with a sentence."""
    found = parse(HEADER.encode() + b"abc1234\t0.9\t1.0\tkeep\tgr\xf6\xdfer\n")
    assert found.rows[0].description == "gr��er" and "line 2: has bytes that are not UTF-8" in found.remarks[0]


def test_commas_by_mistake_are_understood():
    """Quoted cells may hold commas, and an unquoted description too."""
    text = 'commit,val_bpb,memory_gb,status,description\nabc1234,0.9,1.0,keep,"a, b"\nabc1235,0.8,1.0,keep,c, d\n'
    found = parse(text)
    assert [r.description for r in found.rows] == ["a, b", "c, d"] and "instead of tabs" in found.remarks[0]


def test_a_missing_header_is_guessed_from_the_content():
    """The status is known by its words; the caller may name the metric."""
    found = parse("abc1234\t0.9\t44.0\tkeep\tbaseline\nabc1235\t0.8\t44.0\tkeep\tfaster\n", metric="val_bpb")
    assert [(r.commit, r.value, r.memory_gb, r.description) for r in found.rows] == [
        ("abc1234", 0.9, 44.0, "baseline"),
        ("abc1235", 0.8, 44.0, "faster"),
    ]
    assert found.metric_name == "val_bpb" and "is not a header" in found.remarks[0]


def test_a_row_written_twice_is_imported_once():
    """And so is a header in the middle of two logs that were joined."""
    line = "abc1234\t0.9\t1.0\tkeep\tbaseline\n"
    found = parse(HEADER + line + line + HEADER)
    assert len(found.rows) == 1
    assert [r.split(";")[0] for r in found.remarks] == [
        "log.tsv line 3: repeats line 2 word for word",
        "log.tsv line 4: repeats the header",
    ]


@pytest.mark.parametrize(
    ("name", "direction"),
    [("val_bpb", "min"), ("train_loss", "min"), ("val_accuracy", "max"), ("tokens_per_sec", "max"), ("shine", "max")],
)
def test_the_direction_follows_from_the_name_or_from_what_was_kept(name, direction):
    """`shine` tells nothing, but it was kept as it rose; the caller has the last word."""
    text = f"commit\t{name}\tstatus\tdescription\nabc1234\t1\tkeep\tbaseline\nabc1235\t2\tkeep\tmore\n"
    assert parse(text).metric.direction == direction
    assert parse(text, direction=Direction.MIN).metric.direction is Direction.MIN


def test_ten_thousand_lines_load_in_a_moment():
    """Reading is linear."""
    lines = "".join(f"{i:07x}\t{1 - i * 1e-5:.6f}\t1.0\tkeep\tstep {i}\n" for i in range(10_000))
    assert len(parse(HEADER + lines).experiments("long")) == 10_000


def test_imported_campaigns_are_known_as_such():
    """Reports must not promise commits and clock times that nobody has."""
    assert results_tsv.is_imported(results_tsv.read(DATA / "one-gpu.tsv").experiments("night"))
    assert not results_tsv.is_imported([experiment()])


def test_an_imported_log_is_exported_as_it_was(tmp_path):
    """Reading the original's file and writing it again changes nothing."""
    found = results_tsv.read(DATA / "one-gpu.tsv")
    results_tsv.write(tmp_path / "again.tsv", found.experiments("night"), found.metric)
    assert (tmp_path / "again.tsv").read_bytes() == (DATA / "one-gpu.tsv").read_bytes()
