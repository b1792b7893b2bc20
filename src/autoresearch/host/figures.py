"""What this machine was measured to do: once for each machine, kept in the user's cache.

A rate from a data sheet is what a chip does in a laboratory. What it does here, with this driver, this power limit and
this PyTorch, takes half a minute to find out, and three things rest on it: how large a start `init` makes, which
attention runs use, and what a run's use of the machine is compared with. `host.torch_bench` measures; this module
starts it, ends it when it hangs, and keeps what it printed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autoresearch.errors import AutoResearchError, UserError
from autoresearch.host import files
from autoresearch.host.clock import Clock, SystemClock
from autoresearch.host.hardware import Hardware

FORMAT = 1
"""Raised when figures change meaning: older ones are then measured again."""

TIMEOUT_SECONDS = 240.0
"""A measurement takes 10 to 30 s; what takes this long hangs, in a compiler as a rule."""

_DISK_BYTES = 64 << 20
_BUSY = 0.25
_BUSY_SECONDS = 0.5

Report = Callable[[str, int, int], None]
"""Told of progress: what is being measured, how many stages are done, how many there are."""


@dataclass(frozen=True)
class Figures:
    """What was measured; whatever could not be is absent, and `failures` says why."""

    fingerprint: str = ""
    """Of the machine that it holds for."""
    measured_at: float = 0.0
    """Unix time."""
    kind: str = "cpu"
    """`cuda`, `mps` or `cpu`, as PyTorch calls the device."""
    backend: str = "cpu"
    """`rocm` where PyTorch says `cuda` and means an AMD GPU; else as `kind`."""
    device: str = ""
    torch: str = ""
    threads: int = 1
    """CPU threads of the figures that do not say `one_thread`."""
    matmul_flops: Mapping[str, float] = field(default_factory=dict)
    """FLOP/s of large products by type: `bf16`, `fp16`, `fp32` (TF32 where there is TF32)."""
    one_thread_flops: Mapping[str, float] = field(default_factory=dict)
    """The same with one thread, on a machine without a GPU."""
    copy_bytes_per_second: float | None = None
    """Read and written together, within the device's memory."""
    one_thread_copy_bytes_per_second: float | None = None
    memory_bytes: float | None = None
    """Of the device."""
    free_memory_bytes: float | None = None
    """As the driver says, while nothing of ours was on the device."""
    attention_seconds: Mapping[str, float] = field(default_factory=dict)
    """One forward and backward pass by back end; `flex`, `varlen` and `dense` see 256 tokens, `sdpa` the whole row."""
    disk_read_bytes_per_second: float | None = None
    busy_share: float | None = None
    """Of all cores, what other programs used just before, 0 to 1."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """What could not be measured to the reason in one sentence."""

    def peak_flops(self, threads: int | None = None) -> float | None:
        """FLOP/s of the type that trains fastest, for so many CPU threads; None when no rate was measured."""
        types = ("bf16", "fp32") if self.kind != "mps" else ("bf16", "fp16", "fp32")
        return max((rate for rate in (self._rate(name, threads) for name in types) if rate), default=None)

    def copy_rate(self, threads: int | None = None) -> float | None:
        """Bytes a second, read and written together, for so many CPU threads."""
        alone = self.one_thread_copy_bytes_per_second
        return _for_threads(alone, self.copy_bytes_per_second, threads, self.threads)

    def bf16_pays(self, threads: int | None = None) -> bool | None:
        """Whether bfloat16 multiplies faster than float32 here; None when that was not measured."""
        half, single = self._rate("bf16", threads), self._rate("fp32", threads)
        return None if half is None or single is None else half > 1.1 * single

    @property
    def attention(self) -> str | None:
        """The back end with the shortest time; None when none was measured."""
        return min(self.attention_seconds, key=lambda name: self.attention_seconds[name], default=None)

    @property
    def was_disturbed(self) -> bool:
        """Whether something else was at work: busy cores, cores slower together than one alone, memory taken."""
        alone = self.one_thread_flops
        is_shared = any(rate < 0.9 * alone.get(name, 0.0) for name, rate in self.matmul_flops.items())
        free, whole = self.free_memory_bytes, self.memory_bytes
        is_busy = self.busy_share is not None and self.busy_share > _BUSY
        return is_shared or is_busy or (free is not None and whole is not None and free < 0.9 * whole)

    def to_dict(self) -> dict[str, object]:
        """The same as plain values for JSON."""
        return asdict(self)

    def _rate(self, name: str, threads: int | None) -> float | None:
        return _for_threads(self.one_thread_flops.get(name), self.matmul_flops.get(name), threads, self.threads)


def _for_threads(alone: float | None, together: float | None, threads: int | None, measured: int) -> float | None:
    """A rate for some of the threads: never more than all reach, nor more than each reaches alone, added up."""
    if alone is None or together is None or threads is None or threads >= measured:
        return together if together is not None else alone
    return min(alone * threads, max(alone, together))


def fingerprint_of(hardware: Hardware) -> str:
    """What tells this machine, as far as speed goes, from another: chips, driver, PyTorch and cores."""
    facts = [
        FORMAT,
        [gpu.name for gpu in hardware.gpus],
        hardware.driver,
        hardware.has_mps,
        hardware.torch,
        hardware.cpu,
        len(hardware.cores),
        hardware.cpu_quota,
        hardware.system.split()[0] if hardware.system else "",
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where this user's caches are, by the custom of the system."""
    environment = os.environ if environment is None else environment
    if environment.get("XDG_CACHE_HOME"):
        return Path(environment["XDG_CACHE_HOME"]) / "autoresearch"
    if sys.platform == "win32" and environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"]) / "autoresearch"
    return Path.home() / ".cache" / "autoresearch"


def figures_path(hardware: Hardware, folder: Path | None = None) -> Path:
    """The file with the figures of this machine."""
    return (folder or cache_folder()) / "machines" / f"{fingerprint_of(hardware)}.json"


def read_figures(hardware: Hardware, folder: Path | None = None) -> Figures | None:
    """What was measured of this machine before; None when nothing was, or it cannot be read."""
    content = files.read_json(figures_path(hardware, folder))
    if content is None or content.get("fingerprint") != fingerprint_of(hardware):
        return None
    return figures_from(content)


def write_figures(figures: Figures, hardware: Hardware, folder: Path | None = None) -> None:
    """Keep figures for later sessions, whole or not at all.

    Raises:
        UserError: The cache cannot be written.
    """
    path = figures_path(hardware, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, figures.to_dict())
    except OSError as error:
        raise UserError(
            f"the figures of this machine cannot be kept in {path.parent} ({error.strerror}): make it writable, or set "
            "XDG_CACHE_HOME to a folder that is"
        ) from error


def figures_from(content: Mapping[str, Any]) -> Figures:
    """Figures from JSON that may be older, newer or spoilt: what does not fit is left out."""
    empty = Figures()
    known: dict[str, Any] = {}
    for name, default in empty.to_dict().items():
        value = content.get(name)
        if isinstance(default, dict):
            wanted = str if name == "failures" else (int, float)
            value = value if isinstance(value, Mapping) else {}
            known[name] = {str(key): each for key, each in value.items() if isinstance(each, wanted)}
        elif isinstance(default, str):
            known[name] = value if isinstance(value, str) else default
        elif isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            known[name] = int(value) if name == "threads" else value
    return replace(empty, **known)


def measure(
    hardware: Hardware,
    *,
    threads: int,
    report: Report = lambda *_: None,
    command: tuple[str, ...] = (sys.executable, "-m", "autoresearch.host.torch_bench"),
    timeout_seconds: float = TIMEOUT_SECONDS,
    folder: Path | None = None,
    clock: Clock | None = None,
) -> Figures:
    """Measure this machine and keep the figures.

    Args:
        hardware: The machine.
        threads: CPU threads to measure with.
        report: Told of progress.
        command: What measures; prints what `host.torch_bench` prints.
        timeout_seconds: After which the measurement is ended; what it had printed stands.
        folder: Of the cache; the user's when None.
        clock: The system's when None.

    Raises:
        UserError: PyTorch is missing, or it could not even multiply, or the cache cannot be written.
    """
    import psutil

    if hardware.torch is None:
        raise UserError(
            "nothing was measured, because PyTorch is not installed: pip install 'autoresearch[pretrain]', then "
            "`autoresearch doctor`"
        )
    busy_share = psutil.cpu_percent(interval=_BUSY_SECONDS) / 100
    content, said = _run([*command, "--threads", str(threads)], report, timeout_seconds)
    content["fingerprint"] = fingerprint_of(hardware)
    content["busy_share"] = busy_share
    content["measured_at"] = (clock or SystemClock()).now()
    figures = figures_from(content)
    if figures.peak_flops() is None:
        raise UserError(
            f"PyTorch could not be measured ({said or 'it said nothing'}): see that `python -c 'import torch'` works"
        )
    with contextlib.suppress(OSError):
        figures = replace(figures, disk_read_bytes_per_second=disk_read_rate(folder or cache_folder()))
    write_figures(figures, hardware, folder)
    return figures


def _run(command: list[str], report: Report, timeout_seconds: float) -> tuple[dict[str, Any], str]:
    """Start the measurement and read what it prints; returns its figures and the last line of its errors."""
    content: dict[str, Any] = {"failures": {}}
    stages, done, is_complete = 1, 0, False
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace", start_new_session=True
            )
        except OSError as error:
            raise AutoResearchError(f"{command[0]} cannot be started ({error.strerror})") from error
        timer = threading.Timer(timeout_seconds, _end, (process,))
        began = time.monotonic()  # before the timer: what it ends has then taken its time
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                seen = _object(line)
                if "stages" in seen:
                    stages = int(seen["stages"])
                elif "stage" in seen:
                    report(str(seen["stage"]), done, stages)
                    done += 1
                elif "failure" in seen:
                    name, reason = seen["failure"]
                    content["failures"][str(name)] = str(reason)
                is_complete = is_complete or "done" in seen
                _merge(content, seen)
            process.wait()
        finally:
            timer.cancel()
            _end(process)
        errors.seek(0)
        lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    if not is_complete:
        is_late = time.monotonic() - began >= timeout_seconds
        why = f"it took more than {timeout_seconds:g} s" if is_late else f"it ended with {process.returncode}"
        content["failures"]["measurement"] = f"{why}; what it had found by then stands"
    report("done", stages, stages)
    return content, lines[-1][:200] if lines else ""


def _object(line: str) -> dict[str, Any]:
    """A line as JSON object; empty when it is something else, such as a warning."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _merge(content: dict[str, Any], seen: Mapping[str, Any]) -> None:
    for name, value in seen.items():
        if isinstance(value, dict) and isinstance(content.get(name), dict):
            content[name].update(value)
        elif name not in ("stages", "stage", "failure", "done", "failures"):
            content[name] = value


def _end(process: subprocess.Popen[str]) -> None:
    """End the measurement and the compilers that it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def disk_read_rate(folder: Path) -> float:
    """Bytes a second at which a new file is read back, past the cache of the system where it lets us.

    Raises:
        OSError: There is no room, or no permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(_DISK_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        began = time.perf_counter()
        while file.read(1 << 22):
            pass
        return _DISK_BYTES / max(time.perf_counter() - began, 1e-6)
