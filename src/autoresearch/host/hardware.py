"""What this machine is: one description, made in milliseconds, recorded beside every number that depends on it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """One accelerator as its driver names it."""

    index: int
    name: str
    uuid: str
    memory_bytes: int
    power_limit_watts: float | None = None
    """As set, not as built; None when the driver does not say."""


@dataclass(frozen=True)
class Hardware:
    """The machine under every run."""

    cpu: str
    physical_cores: int
    logical_cores: int
    cores: tuple[int, ...]
    """Cores that this process may use; those that share a physical core stand side by side."""
    memory_bytes: int
    """What a process may use at most: the machine's memory, or the container's limit when that is smaller."""
    cpu_quota: float | None
    """Cores' worth of time that the container grants; None without a limit."""
    system: str
    python: str
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    """Of the NVIDIA GPUs."""
    has_mps: bool = False
    """Whether this is an Apple GPU, which PyTorch calls `mps`."""
    torch: str | None = None
    """Installed version of PyTorch."""

    def to_dict(self) -> dict[str, object]:
        """The same as plain values for JSON."""
        return asdict(self)


def describe_hardware() -> Hardware:
    """Describe this machine; what cannot be found out is absent, never an error."""
    import psutil

    gpus, driver = _nvidia_gpus()
    logical = os.cpu_count() or 1
    memory_bytes = int(psutil.virtual_memory().total)
    limit = _cgroup_number("memory.max")
    return Hardware(
        cpu=_cpu_model(),
        physical_cores=psutil.cpu_count(logical=False) or logical,
        logical_cores=logical,
        cores=_usable_cores(logical),
        memory_bytes=min(memory_bytes, int(limit)) if limit else memory_bytes,
        cpu_quota=_cpu_quota(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        gpus=gpus,
        driver=driver,
        has_mps=sys.platform == "darwin" and platform.machine() == "arm64",
        torch=_installed_version("torch"),
    )


def _cpu_model() -> str:
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _usable_cores(logical: int) -> tuple[int, ...]:
    """Sorted so that a slot of neighbouring cores shares as few physical cores as possible with the next slot."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(logical))
    return tuple(sorted(cores, key=lambda core: (_first_sibling(core), core)))


def _first_sibling(core: int) -> int:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii").replace("-", ",").split(",")[0])
    return core


def _cgroup_directory() -> Path:
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::"):
                return root / line[3:].strip("/")
    return root


def _cgroup_number(name: str) -> float | None:
    """The smallest value of a cgroup v2 limit on the way from our group to the root; None without a limit."""
    limits = []
    directory = _cgroup_directory()
    while directory.is_relative_to("/sys/fs/cgroup"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (directory / name).read_text(encoding="ascii").split()
            limits.append(float(fields[0]) / (float(fields[1]) if len(fields) > 1 else 1.0))
        directory = directory.parent
    return min(limits, default=None)


def _cpu_quota() -> float | None:
    quota = _cgroup_number("cpu.max")
    if quota is not None:
        return quota
    with contextlib.suppress(OSError, ValueError):  # cgroup v1
        directory = Path("/sys/fs/cgroup/cpu")
        micros = float((directory / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = float((directory / "cpu.cfs_period_us").read_text(encoding="ascii"))
        return micros / period if micros > 0 else None
    return None


def _nvidia_gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs that this process may use, in the order of their index; none without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # a broken driver is the same as none here
        return (), None
    try:
        found = tuple(_describe_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
        return _visible(found), _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return (), None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def used_gpu_bytes(uuid: str) -> float | None:
    """Memory in use on an NVIDIA GPU, by whomever, as its driver says; None where it does not."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # as in `_nvidia_gpus`
        return None
    try:
        return float(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).used)
    except pynvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _describe_gpu(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory_bytes, watts = 0, None
    with contextlib.suppress(pynvml.NVMLError):  # unified memory (GB10) has no number of its own
        memory_bytes = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    with contextlib.suppress(pynvml.NVMLError):
        watts = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
    name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
    return Gpu(index, name, uuid, memory_bytes, watts)


def _visible(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES of this process leaves us."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return gpus
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return tuple(gpu for name in names for gpu in gpus if name == str(gpu.index) or gpu.uuid.startswith(name))


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _installed_version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None
