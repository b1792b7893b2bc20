"""The morning's report: complete, honest, and safe against what agents write."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind
from autoresearch.domain.run import Outcome, Purpose
from autoresearch.judge.confirm import Pair, confirm
from autoresearch.report.markdown import Context, escape, render, write_report
from autoresearch.report.summary import summarise
from tests.report.nights import build

METRIC = Metric("val_bpb")
CONTEXT = Context(
    lab="pretrain", campaign="night", base_commit="0123456789abcdef", hardware="one GPU", budget_seconds=300,
    started=1_700_000_000.0, policy="greedy", program="Lower it.\n```\nrm\n```\n", environment={"driver": "1.2|3"},
)  # fmt: skip


def report(experiments, context=CONTEXT):
    """The text of the report of these experiments."""
    return render(experiments, summarise(experiments, METRIC), context)


def section(text, title):
    """The lines below one heading."""
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_report_lies_beside_its_picture(tmp_path, night):
    """Both are written whole into a folder that need not be there."""
    path = write_report(tmp_path / "new", night, METRIC, CONTEXT)
    assert path.name == "report.md" and "](progress.png)" in path.read_text(encoding="utf-8")
    assert sorted(p.name for p in path.parent.iterdir()) == ["progress.png", "report.md"]


def test_the_headline_comes_first_and_the_doubts_second(night):
    """From where to where, how many times the noise, and what to check before believing it."""
    top = report(night).split("## ")[0]
    assert "# pretrain / night" in top and "1.000 → 0.890, 11 % better, 5.5× the measured noise" in top
    assert "gained less than the measured noise" in top and "rests on a single run" in top


def test_greedy_campaigns_are_called_optimistic(night):
    """Single-run scores that were chosen for being good are too good."""
    assert "optimistic" in report(night)
    assert "optimistic" not in report(night, Context(policy="belief"))


def test_the_result_can_be_merged_by_copying_a_line(night):
    """The campaign's branch, and the whole change against the base."""
    commands = section(report(night), "How to get it")
    assert "$ git merge autoresearch/night" in commands
    assert "$ git diff 0123456789ab..autoresearch/night" in commands


def test_nothing_is_offered_for_merging_when_nothing_was_kept(night):
    """A campaign of discards has no result to fetch."""
    assert "How to get it" not in report([night[0], night[2]])


def test_a_branch_name_cannot_smuggle_a_command(night):
    """A line to be copied into a shell is either clean or absent."""
    assert "rm -rf" not in report(night, Context(campaign="x", branch="a; rm -rf ~"))


def test_every_kept_change_has_a_line(night):
    """Number, words, score, gain, share, times the noise, commit, researcher."""
    rows = [line for line in section(report(night), "Kept changes").splitlines() if line.startswith("| ")]
    assert rows[3] == "|  | all |  | +0.11 |  |  |  |  |"
    assert rows[1] == "| 1 | change 1 | 0.9 | +0.1 | 91 % | 5.0× | `c1` | tuner |"
    assert rows[2] == "| 4 | change 4 | 0.89 | +0.01 | 9 % | 0.5× | `c4` | claude |"


def test_failures_and_losses_are_told(night):
    """What crashed with its sentence, and what lost most."""
    text = report([*night, build(5, "discard", 1.0, parent="c4")])
    assert r"| 3 | crashed | change 3 | out \| of \`memory\` |" in section(text, "Failures")
    assert "| 5 | large loss | change 5 | It lost 0.11, 5.5 times the noise" in section(text, "Failures that teach")


def test_the_use_of_time_is_a_table_when_it_is_known(night):
    """Per slot, in hours and percent."""
    timed = [build(0, "keep", 1.0, start=1000.0, wall=3600.0, summary={"training_seconds": 1800.0})]
    assert "| gpu0 | 0.50 h (50 %) |" in section(report(timed), "How the time was spent")
    assert "How the time was spent" not in report(night)


def test_imported_campaigns_promise_no_commits(real_log):
    """Nobody can merge or look up what was only ever a line in a file."""
    experiments = real_log.experiments("night")
    text = render(experiments, summarise(experiments, real_log.metric), CONTEXT)
    assert "git merge" not in text and "refs/autoresearch" not in text and "imported from a results file" in text


def test_the_program_cannot_leave_its_fence(night):
    """The fence is longer than any in the text."""
    text = report(night)
    assert "````text\nLower it.\n```\nrm\n```\n````" in text


def test_an_empty_campaign_has_a_report():
    """It says that there is nothing."""
    text = report([])
    assert "None: no change was good enough." in text and "0 experiments" in text


@pytest.mark.parametrize(
    "attack",
    ["a | b", "`code`", "<img src=x onerror=alert(1)>", "![x](http://evil/x.png)", "[click](javascript:x)",
     "line\nbreak",
     "# heading", "$x$", "@team", "https://evil.example", "www.evil.example", "&lt;b&gt;", "\u202egnp.exe", "~~no~~"],
)  # fmt: skip
def test_agents_words_are_only_words(attack):
    """No pipe, link, picture, HTML, formula, mention or direction mark of theirs survives unescaped."""
    safe = escape(attack)
    bare = re.sub(r"\\.|&[#\w]+;", "", safe)
    assert not re.search(r"[|`<>!\[\]()#$@~*\n\u202e]|://|www\.", bare)


@given(st.text(), st.text())
def test_no_text_breaks_a_table(hypothesis_text, detail):
    """Each row of each table has as many cells as its head, whatever the agents wrote."""
    night = [
        build(0, "keep", 1.0),
        build(1, "keep", 0.9, hypothesis=hypothesis_text, researcher=detail),
        build(2, "crash", None, hypothesis=hypothesis_text, detail=detail, researcher="b"),
        build(3, "discard", 1.2, hypothesis=hypothesis_text),
    ]
    table: list[int] = []
    for line in report(night, Context(program=detail)).split("````")[0].split("## The program")[0].splitlines():
        table = [*table, len(re.findall(r"(?<!\\)\|", line))] if line.startswith("|") else []
        assert len(set(table)) <= 1


BELIEF = {"gain": 0.1, "expected_gain": 0.06, "expected_gain_sd": 0.04, "believed": 0.94, "believed_sd": 0.03}


def test_measured_and_believed_gains_stand_side_by_side(night):
    """For each keep, for all together, with how many keeps are expected to be none."""
    second = {"gain": 0.01, "expected_gain": 0.002, "expected_gain_sd": 0.04, "believed": 0.938}
    believed = [night[0], replace(night[1], evidence=BELIEF), *night[2:4], replace(night[4], evidence=second)]
    text = report(believed, Context(policy="belief"))
    assert "| 1 | change 1 | 0.9 | +0.1 | +0.06 ± 0.04 | 93 % | 91 % | 5.0× | `c1` | tuner |" in text
    assert "|  | all |  | +0.11 | +0.062 |  |  |  |  |  |" in text
    assert "a gain of +0.11; the judge believes in +0.062," in text
    assert "Of the 2 kept, about 0.5 is expected to be no better" in text


def test_only_a_confirmed_gain_is_set_in_large_type(night):
    """Until then the report says in plain type that the number flatters."""
    plain = report(night)
    assert [line for line in plain.splitlines() if line.startswith("# ")] == ["# pretrain / night"]
    assert "This is not confirmed" in plain
    pairs = [Pair(seed, 1.0 + seed / 1000, 0.9 + seed / 2000) for seed in range(5)]
    text = render(night, summarise(night, METRIC, confirmation=confirm(pairs, METRIC)), CONTEXT)
    large = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(large) == 2 and large[1].startswith(r"# val\_bpb 0.1 better \(95 % sure: \+0.1 to \+0.1")
    assert "confirmed on 5 pairs of fresh runs" in large[1] and "not confirmed" not in text
    assert "rests on a single run" in plain and "rests on a single run" not in text


def test_phases_say_where_the_gain_came_from(real_log):
    """One sentence at the top, a table with what each phase was made by."""
    text = render(real_log.experiments("night"), summarise(real_log.experiments("night"), real_log.metric), CONTEXT)
    assert re.search(r"\d\d % of the gain came from #\d+(–#\d+)?: (one change|\d+ changes), \d+ experiments?\.", text)
    assert "| main |" in section(text, "Phases")


def test_predictions_are_held_against_what_came(tmp_path, night):
    """A line for each researcher, and a picture as soon as there are five predictions."""
    foreseen = [replace(e, proposal=replace(e.proposal, expected_effect=0.05)) for e in night]
    assert "| tuner | 1 | 100 % | 2.00 | -0.05 |" in section(report(foreseen), "Predictions")
    assert "calibration.png" not in report(foreseen)
    more = foreseen + [
        replace(build(n, "discard", 0.95, parent="c1"), proposal=foreseen[2].proposal) for n in range(5, 9)
    ]
    path = write_report(tmp_path, more, METRIC, CONTEXT)
    assert "calibration.png" in path.read_text(encoding="utf-8") and (tmp_path / "calibration.png").stat().st_size > 0


def test_measurements_and_early_stops_are_counted_apart(night):
    """What was run beside the verdicts is no experiment's run, and what was ended early saved time."""
    beside = replace(night[1].runs[0], request=replace(night[1].runs[0].request, purpose=Purpose.NOISE, ordinal=1))
    stopped = build(5, "discard", None, parent="c4", wall=40.0)
    result = replace(stopped.runs[0].result, outcome=Outcome.STOPPED_EARLY)
    stopped = replace(stopped, runs=(replace(stopped.runs[0], result=result),))
    text = report([night[0], replace(night[1], runs=(*night[1].runs, beside)), *night[2:], stopped])
    assert (
        "| runs beside them | 1 noise |" in text
        and r"| runs for verdicts | 1 crashed, 6 finished, 1 stopped\_early |" in text
    )
    assert "1 run that could hardly win any more ended early and saved" in text


def test_what_parts_are_worth_is_told_when_something_was_taken_away(tmp_path, night):
    """A line for each part and a picture; without ablations neither."""
    assert "What each part is worth" not in report(night)
    removal = build(5, "discard", 0.99, 0.99, parent="c4")
    removal = replace(removal, proposal=replace(removal.proposal, kind=Kind.ABLATION, of=1))
    path = write_report(tmp_path, [*night, removal], METRIC, CONTEXT)
    text = path.read_text(encoding="utf-8")
    assert "| \\#1 change 1 |" in section(text, "What each part is worth")
    assert (tmp_path / "contributions.png").stat().st_size > 0
