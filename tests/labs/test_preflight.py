"""A preflight of the pretraining lab: the real program for a few steps, examined, and never scored."""

from __future__ import annotations

import math

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
pytest.importorskip("rustbpe")
pytest.importorskip("tiktoken")


def test_a_preflight_is_examined_on_training_rows(converse, harness, prepare, monkeypatch):
    """Neither validation nor sealed rows are opened, so there is nothing that could be learnt from one."""
    talk = converse(max_steps=1, preflight=True)
    harness._request({"do": "hello", "device": "cpu"})
    data = harness.load()
    next(iter(data.make_loader(4, harness.Runtime(max_steps=1, budget_seconds=60.0))))
    monkeypatch.setattr(prepare.PreparedData, "eval_rows", lambda *_: pytest.fail("evaluation rows were read"))

    class Uniform(torch.nn.Module):
        """Every token is as likely as every other."""

        def forward(self, inputs, targets=None, reduction="mean"):
            """Constant logits, or their losses."""
            if targets is None:
                return torch.zeros(*inputs.shape, data.vocab_size)
            return torch.full(targets.shape, math.log(data.vocab_size))

    data.evaluate_bpb(Uniform(), 4, harness.Runtime())

    assert talk.score is not None and talk.score.numbers.tolist() == [0, 1, 2, 3]


def test_a_preflight_leaves_no_score(evaluate, converse, conversation, tmp_path, capsys):
    """No metrics.json, and no number on the screen that could be taken for one."""
    talk = converse(max_steps=1, preflight=True, run_dir=tmp_path)
    talk.score = conversation.Score(1.25, np.arange(2), np.ones(2), np.ones(2), 0.1, {})

    assert evaluate.conclude(talk) == 0
    said = capsys.readouterr().out
    assert "came through" in said and "1.25" not in said and "---" not in said
    assert not (tmp_path / "metrics.json").exists()


def test_a_preflight_that_diverges_fails(evaluate, converse, conversation, harness, tmp_path, capsys):
    """Not a number after three steps is a mistake of the program."""
    talk = converse(max_steps=1, preflight=True, run_dir=tmp_path)
    harness._request({"do": "hello", "device": "cpu"})
    harness.load()
    talk.score = conversation.Score(math.nan, np.arange(2), np.ones(2), np.ones(2), 0.1, {})

    assert evaluate.conclude(talk) == 1
    assert "FAIL: val_bpb is nan" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
