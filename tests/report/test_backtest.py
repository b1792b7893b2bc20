"""`bench/judge/backtest.py`: a published log before the judge."""

import importlib.util
import sys
from pathlib import Path

import pytest

from autoresearch.domain.verdict import Action, Decision
from autoresearch.judge.policy import policy_named
from autoresearch.ledger import results_tsv

SCRIPT = Path(__file__).parents[2] / "bench" / "judge" / "backtest.py"
LOG = Path(__file__).parent / "data" / "karpathy-h100-mar8.tsv"
NOISE = 0.0007


@pytest.fixture
def script(monkeypatch):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_backtest", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_backtest", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Witness:
    """A policy that writes down what it is shown, and believes in half of every gain."""

    name = "witness"

    def __init__(self):
        self.cases, self.learnt = [], []

    def decide(self, case):
        """Half the gain, and one more run."""
        self.cases.append(case)
        gain = case.metric.gain(case.candidate.mean, case.incumbent.mean)
        evidence = {"expected_gain": gain / 2, "expected_gain_sd": case.noise, "believed": case.candidate.mean}
        return Decision(Action.RUN_CANDIDATE if gain > 0 else Action.DISCARD, "", evidence)

    def learn(self, experiment):
        """Keep it."""
        self.learnt.append(experiment)


def test_the_judge_sees_the_log_as_it_was(script):
    """Every scored row once, against the keep before it, and learns each row with the log's own verdict."""
    log = results_tsv.read(LOG)
    witness = Witness()
    found = script.backtest(log.experiments("mar8"), log.metric, NOISE, witness)
    assert (
        len(witness.learnt) == len(log.rows)
        and len(witness.cases) == sum(e.score is not None for e in witness.learnt) - 1
    )
    assert [e.verdict for e in witness.learnt] == [row.verdict for row in log.rows]
    assert all(case.noise == NOISE and case.incumbent.count == 1 for case in witness.cases)
    assert [case.parent for case in witness.cases[:4]] == [0, 1, 2, 2]
    assert len(found) == 22 and found[0].gain == pytest.approx(0.011859)


def test_most_published_gains_are_within_luck(script):
    """14 of the 22 keeps gained less than the log's own seed test moved; the sentences say so."""
    log = results_tsv.read(LOG)
    experiments = log.experiments("mar8")
    found = script.backtest(experiments, log.metric, NOISE, Witness())
    text = script.table(found, NOISE, script.whole_gain(experiments, log.metric, found))
    assert "14 of 22 kept changes gained less than that" in text and "run 22 again" in text
    assert text.count("\n| ") == 22 and "+0.0282, of which the judge believes +0.0282" in text


def test_the_picture_and_the_tables_are_made_by_one_command(script, tmp_path, monkeypatch, capsys):
    """As docs name it; a rule without beliefs gives the gains alone."""
    picture = tmp_path / "judge.png"
    arguments = ["backtest.py", str(LOG), "--noise", "0.0007", "--noise", "0.0015", "--policy", "greedy"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--figure", str(picture)])
    assert script.main() == 0
    said = capsys.readouterr().out
    assert "### Noise 0.0007" in said and "### Noise 0.0015" in said and "19 of 22" in said
    assert picture.read_bytes().startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [picture]


def test_what_is_drawn_lies_in_the_picture(script):
    """The limits hold every interval but the leaps, which are told in words."""
    log = results_tsv.read(LOG)
    witness = Witness()
    found = script.backtest(log.experiments("mar8"), log.metric, NOISE, witness)
    assert witness.learnt[0].sample.deviation == pytest.approx(NOISE)
    low, high = script._limits(found, NOISE)
    assert low < -NOISE and NOISE < high < found[0].gain


def test_the_published_logs_can_all_be_judged(script, real_log):
    """Logs without a baseline row, with crashes, with columns of their own."""
    found = script.backtest(
        real_log.experiments("night"), real_log.metric, 0.001, policy_named("greedy", real_log.metric)
    )
    assert all(one.action in (Action.KEEP, Action.DISCARD) for one in found)
