"""The world of a run: what it may know of ours, and what we tell it. Secrets are in neither."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoresearch.domain.run import RunRequest
from autoresearch.host.figures import Figures
from autoresearch.host.secrets import SECRET
from autoresearch.runner.protocol import Slot
from autoresearch.runner.slots import thread_limits

ALLOWED = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV",
    "CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "XDG_CACHE_HOME",
    "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "CC", "CXX", "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_HOME",
    "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME", "TORCH_CUDA_ARCH_LIST",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERPROFILE", "APPDATA",
    "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS",
))  # fmt: skip
"""Variables of ours that a run inherits; beside them those that begin with `LC_`, and none that names a secret."""


def inherited_environment(source: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that a run may see."""
    return {
        name: value
        for name, value in source.items()
        if (name.upper() in ALLOWED or name.startswith("LC_")) and not SECRET.search(name)
    }


def run_environment(
    request: RunRequest,
    slot: Slot,
    *,
    threads: int,
    run_directory: Path,
    cache_directory: Path,
    budget_clock: str,
    extra: Mapping[str, str],
    source: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The complete environment of a run.

    The lab's own variables win over inherited ones and over thread limits, but never over AUTORESEARCH_*.

    Args:
        request: Seed and budget.
        slot: Device, and which GPU is visible.
        threads: How many threads libraries may start.
        run_directory: Where the run writes its files.
        cache_directory: Where compilers keep their results from run to run.
        budget_clock: What the budget counts, `wall` or `cpu`.
        extra: The lab's own variables.
        source: Our environment; the real one when not given.
    """
    env = inherited_environment(os.environ if source is None else source)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [env.get("PATH", os.defpath)])])
    env.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory / "inductor"))
    env.setdefault("TRITON_CACHE_DIR", str(cache_directory / "triton"))
    env |= {
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": str(request.seed % (1 << 32)),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": slot.gpu or "",
    }
    env |= thread_limits(threads)
    env |= extra
    return env | {
        "AUTORESEARCH_SEED": str(request.seed),
        "AUTORESEARCH_BUDGET_SECONDS": f"{request.budget_seconds:g}",
        "AUTORESEARCH_BUDGET_CLOCK": budget_clock,
        "AUTORESEARCH_RUN_DIR": str(run_directory),
        "AUTORESEARCH_DEVICE": slot.device,
        "AUTORESEARCH_THREADS": str(threads),
        "AUTORESEARCH_EVAL_SPLIT": request.split.value,
    }


def measured_variables(figures: Figures | None, slot: Slot, threads: int) -> dict[str, str]:
    """What a run may know of its machine: the rate to compare its own with, and the attention that was fastest here.

    Empty when the machine was never measured, or when a run on `slot` uses another device than was measured.
    """
    if figures is None or figures.kind != slot.device:
        return {}
    count = threads if slot.device == "cpu" else None
    peak, bf16_pays = figures.peak_flops(count), figures.bf16_pays(count)
    found = {
        "AUTORESEARCH_PEAK_FLOPS": None if peak is None else f"{peak:.4g}",
        "AUTORESEARCH_ATTENTION": figures.attention,
        "AUTORESEARCH_BF16": None if bf16_pays is None else str(int(bf16_pays)),
    }
    return {name: value for name, value in found.items() if value is not None}


def resolve_program(argv: Sequence[str]) -> list[str]:
    """The command with `python` replaced by the interpreter that runs us, so that the lab's packages are ours."""
    return [sys.executable if argv[0] == "python" else argv[0], *argv[1:]]
