"""Slots from what the lab wants and what the machine has: no two of them ever share a GPU or a core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from autoresearch.errors import UserError
from autoresearch.host.hardware import Gpu, Hardware
from autoresearch.runner.protocol import Slot

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "AUTORESEARCH_THREADS",
)
"""What the usual libraries read to know how many threads they may start."""


def make_slots(
    hardware: Hardware,
    *,
    gpus: Literal["auto", "none"] | Sequence[str | int] = "auto",
    cpu_slots: int = 1,
    cores_per_slot: int | Literal["auto"] = "auto",
) -> tuple[Slot, ...]:
    """Divide the machine into slots: one for each GPU, or shares of the cores where there is none.

    GPU slots are not pinned: which cores are near which GPU differs by machine, and a wrong guess costs more than none.

    Args:
        hardware: The machine.
        gpus: `auto` takes every visible GPU, `none` the CPU, a list those with these indexes or UUIDs.
        cpu_slots: How many runs share the CPU; without meaning when GPUs are used.
        cores_per_slot: Cores of each CPU slot; `auto` divides all of them evenly.

    Raises:
        UserError: A GPU that does not exist, or more cores than there are.
    """
    if gpus != "none":
        chosen = _chosen_gpus(hardware, gpus)
        if chosen:
            return tuple(Slot(name=f"gpu{gpu.index}", device="cuda", gpu=gpu.uuid) for gpu in chosen)
        if hardware.has_mps:
            return (Slot(name="mps0", device="mps"),)
    return _cpu_slots(hardware, cpu_slots, cores_per_slot)


def thread_count(slot: Slot, slots: Sequence[Slot], hardware: Hardware) -> int:
    """How many threads a run on `slot` should start: its own cores, or an even share when it is not pinned."""
    return len(slot.cores) or max(1, len(granted_cores(hardware)) // max(1, len(slots)))


def slot_kind(slots: Sequence[Slot], hardware: Hardware) -> str:
    """What a slot is, in words, so that unlike slots are told apart: a run on half the cores is another experiment."""
    names = {gpu.uuid: gpu.name for gpu in hardware.gpus}
    cpu = hardware.cpu or "CPU"
    kinds = {
        names.get(slot.gpu or "", slot.device)
        if slot.device != "cpu"
        else f"{cpu}, {thread_count(slot, slots, hardware)} of its cores"
        for slot in slots
    }
    return "; ".join(sorted(kinds))


def thread_limits(threads: int) -> dict[str, str]:
    """The environment variables that keep libraries to `threads` threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def granted_cores(hardware: Hardware) -> tuple[int, ...]:
    """The cores worth using: a container with a quota of two cores' time gains nothing from sixty-four."""
    if hardware.cpu_quota is None:
        return hardware.cores
    return hardware.cores[: max(1, int(hardware.cpu_quota))]


def _chosen_gpus(hardware: Hardware, wanted: str | Sequence[str | int]) -> tuple[Gpu, ...]:
    if isinstance(wanted, str):
        if wanted == "auto":
            return hardware.gpus
        raise UserError(f'gpus = "{wanted}" is not understood. Write "auto", "none" or a list of indexes or UUIDs.')
    chosen: list[Gpu] = []
    for name in wanted:
        gpu = next((gpu for gpu in hardware.gpus if str(name) in (str(gpu.index), gpu.uuid)), None)
        if gpu is None:
            known = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in hardware.gpus) or "none"
            raise UserError(f"GPU {name} does not exist here. This machine has: {known}. Correct gpus in the lab file.")
        if gpu in chosen:
            raise UserError(f"GPU {name} is listed twice. List every GPU once in gpus: it is one slot.")
        chosen.append(gpu)
    if not chosen:
        raise UserError('gpus = [] names no GPU. Write "none" to run on the CPU.')
    return tuple(chosen)


def _cpu_slots(hardware: Hardware, count: int, cores_per_slot: int | str) -> tuple[Slot, ...]:
    cores = granted_cores(hardware)
    if count < 1:
        raise UserError(f"{count} CPU slots cannot run anything. Ask for 1 or more.")
    if isinstance(cores_per_slot, str):
        if cores_per_slot != "auto":
            raise UserError(f'cores_per_slot = "{cores_per_slot}" is not understood. Write "auto" or a number.')
        share = len(cores) // count
    else:
        share = cores_per_slot
        if share < 1:
            raise UserError(f"cores_per_slot = {share} is not possible. Write 1 or more, or auto.")
    if share < 1 or share * count > len(cores):
        asked = f"{count} slots of {max(1, share)} cores"
        raise UserError(f"{asked} need more than the {len(cores)} cores here. Ask for fewer slots or cores per slot.")
    return tuple(
        Slot(name=f"cpu{number}", device="cpu", cores=cores[number * share : (number + 1) * share])
        for number in range(count)
    )
