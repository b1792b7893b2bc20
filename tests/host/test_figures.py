"""Figures of a machine: measured by a process that may do anything, kept whole, never guessed."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import pytest

from autoresearch.errors import UserError
from autoresearch.host import torch_bench
from autoresearch.host.figures import (
    Figures,
    figures_from,
    figures_path,
    fingerprint_of,
    measure,
    read_figures,
    write_figures,
)
from autoresearch.host.hardware import Gpu, Hardware

CPU = Hardware("A CPU", 4, 8, (0, 1, 2, 3), 16 << 30, None, "Linux 6.1 x86_64", "3.11.7", torch="2.13.0")
H200 = dataclasses.replace(CPU, gpus=(Gpu(0, "NVIDIA H200", "GPU-1", 141 << 30),), driver="570.1")

ON_A_GPU = [
    {"stages": 3},
    {"stage": "device"},
    {"kind": "cuda", "backend": "rocm", "device": "AMD Instinct", "memory_bytes": 2e11, "free_memory_bytes": 1.9e11},
    {"stage": "matmul"},
    {"matmul_flops": {"bf16": 6e14}},
    {"matmul_flops": {"fp32": 3e14}},
    {"stage": "attention"},
    {"attention_seconds": {"sdpa": 0.003}},
    {"attention_seconds": {"flex": 0.001}},
    {"failure": ["attention varlen", "NotImplementedError: no kernel for this device"]},
    {"done": True},
]


def printing(tmp_path: Path, lines: list[object], then: str = "") -> tuple[str, ...]:
    """A command that prints these objects, as the measurement does, and then does something."""
    script = tmp_path / "bench.py"
    said = "".join(f"print({json.dumps(line)!r}, flush=True)\n" for line in lines)
    script.write_text(f"import os, time\nprint('a warning of a library')\n{said}{then}\n")
    return (sys.executable, str(script))


def test_what_was_printed_is_kept_for_this_machine(tmp_path: Path) -> None:
    """Figures of a ROCm GPU survive the cache, and another driver has none."""
    made = measure(H200, threads=4, command=printing(tmp_path, ON_A_GPU), folder=tmp_path)
    assert read_figures(H200, tmp_path) == made
    assert (made.backend, made.attention, made.peak_flops(), made.bf16_pays()) == ("rocm", "flex", 6e14, True)
    assert made.disk_read_bytes_per_second
    assert read_figures(dataclasses.replace(H200, driver="571.0"), tmp_path) is None


def test_progress_is_told(tmp_path: Path) -> None:
    """Every stage is told as it begins, with how many there are."""
    told: list[tuple[str, int, int]] = []
    command = printing(tmp_path, ON_A_GPU)
    measure(H200, threads=1, command=command, folder=tmp_path, report=lambda *at: told.append(at))
    assert told == [("device", 0, 3), ("matmul", 1, 3), ("attention", 2, 3), ("done", 3, 3)]


@pytest.mark.parametrize(("then", "reason"), [("os._exit(139)", "ended with 139"), ("time.sleep(60)", "more than 2 s")])
def test_a_crash_or_a_hang_costs_only_what_follows(tmp_path: Path, then: str, reason: str) -> None:
    """A measurement that dies or hangs in a compiler leaves the rates it had found, and says so."""
    began = time.monotonic()
    command = printing(tmp_path, ON_A_GPU[:6], then)
    figures = measure(H200, threads=1, command=command, folder=tmp_path, timeout_seconds=2)
    assert figures.peak_flops() == 6e14 and figures.attention is None
    assert reason in figures.failures["measurement"]
    assert time.monotonic() - began < 30


def test_without_pytorch_it_says_how_to_get_it(tmp_path: Path) -> None:
    """No PyTorch, or one that cannot multiply, is one sentence with the cure, and nothing is kept."""
    with pytest.raises(UserError, match=r"pip install 'autoresearch\[pretrain\]'"):
        measure(dataclasses.replace(CPU, torch=None), threads=1, folder=tmp_path)
    with pytest.raises(UserError, match="libcuda is broken"):
        broken = printing(tmp_path, [], "raise SystemExit('libcuda is broken')")
        measure(CPU, threads=1, command=broken, folder=tmp_path)
    assert read_figures(CPU, tmp_path) is None


def test_spoilt_figures_are_none_or_partial(tmp_path: Path) -> None:
    """A cache file of another machine, of half a write or of strange types never raises."""
    path = figures_path(CPU, tmp_path)
    path.parent.mkdir(parents=True)
    for content in ("{", "[]", json.dumps({"fingerprint": "another"})):
        path.write_text(content)
        assert read_figures(CPU, tmp_path) is None
    path.write_text(json.dumps({"fingerprint": fingerprint_of(CPU), "matmul_flops": {"bf16": "fast", "fp32": 1e11}}))
    known = read_figures(CPU, tmp_path)
    assert known is not None and known.matmul_flops == {"fp32": 1e11}


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file where the cache folder should be is told, with the way out."""
    (tmp_path / "machines").touch()
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        write_figures(Figures(fingerprint=fingerprint_of(CPU)), CPU, tmp_path)


def test_some_threads_reach_no_more_than_all() -> None:
    """A rate for n threads grows with n and never beyond what all of them reach together."""
    figures = figures_from({"threads": 8, "matmul_flops": {"fp32": 5e11}, "one_thread_flops": {"fp32": 1e11}})
    assert [figures.peak_flops(n) for n in (1, 2, 5, 8, None)] == [1e11, 2e11, 5e11, 5e11, 5e11]


def test_disturbed_measurements_are_noticed() -> None:
    """Busy cores, cores that are slower together than one alone, or memory taken mean that something else ran."""
    shared = Figures(matmul_flops={"fp32": 5e10}, one_thread_flops={"fp32": 1e11})
    taken = Figures(memory_bytes=24e9, free_memory_bytes=20e9)
    busy = Figures(busy_share=0.5)
    quiet = Figures(matmul_flops={"fp32": 2e11}, one_thread_flops={"fp32": 1e11}, memory_bytes=24e9, busy_share=0.1)
    assert [each.was_disturbed for each in (shared, taken, busy, quiet)] == [True, True, True, False]


def test_the_real_bench_on_a_processor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU every figure is there or has its reason, and some attention always works."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch_bench, "MEASURE_SECONDS", 0.005)
    monkeypatch.setitem(torch_bench._MATMUL_SIDES, "cpu", 256)
    monkeypatch.setitem(torch_bench._ATTENTION_SHAPES, "cpu", (1, 64, 1, 32))
    monkeypatch.setitem(torch_bench._COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    threads = torch.get_num_threads()
    try:
        assert torch_bench.main(["--threads", "2"]) == 0
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["stages"] == sum("stage" in line for line in lines) and lines[-1] == {"done": True}
    seen = {key for line in lines for key in line}
    assert {"matmul_flops", "one_thread_flops", "copy_bytes_per_second", "attention_seconds"} <= seen
    named = {name for line in lines for name in line.get("attention_seconds", {})}
    failed = {line["failure"][0].removeprefix("attention ") for line in lines if "failure" in line}
    assert named | failed == {"sdpa", "dense", "varlen", "flex"} and "sdpa" in named
