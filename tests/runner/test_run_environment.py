"""The world of a run."""

import sys
from pathlib import Path

from autoresearch.domain.run import RunRequest
from autoresearch.runner.environment import inherited_environment, resolve_program, run_environment
from autoresearch.runner.protocol import Slot

CPU = Slot("cpu0")
REQUEST = RunRequest("c", 1, 0, "abc", seed=7, budget_seconds=300.0, timeout_seconds=600)


def environment(slot: Slot = CPU, **options) -> dict[str, str]:
    """The environment of a run with two threads."""
    options = {"extra": {}, "source": {"PATH": "/bin"}} | options
    return run_environment(
        REQUEST, slot, threads=2, run_directory=Path("/run"), cache_directory=Path("/cache"), budget_clock="cpu",
        **options,
    )  # fmt: skip


def test_secrets_are_not_inherited():
    """An allowlist, and a second net below it for names that give themselves away."""
    source = {"HOME": "/h", "LC_ALL": "C", "OPENAI_API_KEY": "x", "HF_TOKEN": "x", "LC_PASSWORD": "x", "FOO": "x"}
    assert inherited_environment(source) == {"HOME": "/h", "LC_ALL": "C"}


def test_a_run_is_told_everything_about_itself():
    """Seed, budget, clock, device, threads and where to write."""
    told = {name: value for name, value in environment().items() if name.startswith("AUTORESEARCH_")}
    assert told == {
        "AUTORESEARCH_SEED": "7", "AUTORESEARCH_BUDGET_SECONDS": "300", "AUTORESEARCH_BUDGET_CLOCK": "cpu",
        "AUTORESEARCH_RUN_DIR": str(Path("/run")), "AUTORESEARCH_DEVICE": "cpu", "AUTORESEARCH_THREADS": "2",
        "AUTORESEARCH_EVAL_SPLIT": "val",
    }  # fmt: skip


def test_a_run_sees_its_gpu_and_no_other():
    """A GPU slot shows one GPU, a CPU slot none."""
    assert environment(Slot("gpu1", "cuda", "GPU-b"))["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    assert environment()["CUDA_VISIBLE_DEVICES"] == ""


def test_the_lab_may_change_what_is_not_ours():
    """The lab's variables win over limits, ours win over the lab's."""
    env = environment(extra={"OMP_NUM_THREADS": "1", "AUTORESEARCH_SEED": "0"})
    assert (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"], env["AUTORESEARCH_SEED"]) == ("1", "2", "7")


def test_caches_of_compilers_outlive_the_run():
    """They lie beside the runs unless the user has put them elsewhere."""
    assert environment()["TRITON_CACHE_DIR"] == str(Path("/cache/triton"))
    assert environment(source={"TRITON_CACHE_DIR": "/mine"})["TRITON_CACHE_DIR"] == "/mine"


def test_python_is_our_interpreter():
    """The lab's program finds the packages that are installed beside us; other commands are left alone."""
    assert resolve_program(["python", "train.py"]) == [sys.executable, "train.py"]
    assert resolve_program(["./train"]) == ["./train"]
