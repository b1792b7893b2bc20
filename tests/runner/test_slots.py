"""Slots from wishes and hardware."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.errors import UserError
from autoresearch.host.hardware import Gpu, Hardware
from autoresearch.runner.protocol import Slot
from autoresearch.runner.slots import make_slots, slot_kind, thread_count, thread_limits

GPUS = (Gpu(0, "H200", "GPU-a", 1), Gpu(1, "H200", "GPU-b", 1))


def machine(cores: int = 8, gpus: tuple[Gpu, ...] = (), quota: float | None = None, has_mps: bool = False) -> Hardware:
    """A machine that we do not own."""
    return Hardware("x", cores, cores, tuple(range(cores)), 1 << 33, quota, "Linux", "3.11", gpus, has_mps=has_mps)


def test_every_gpu_is_a_slot():
    """`auto` takes all GPUs, each by its UUID."""
    assert [(slot.name, slot.device, slot.gpu) for slot in make_slots(machine(gpus=GPUS))] == [
        ("gpu0", "cuda", "GPU-a"), ("gpu1", "cuda", "GPU-b"),
    ]  # fmt: skip


@pytest.mark.parametrize("wish", [[1], ["1"], ["GPU-b"]])
def test_gpus_are_chosen_by_index_or_uuid(wish):
    """A list names the GPUs to use."""
    assert [slot.gpu for slot in make_slots(machine(gpus=GPUS), gpus=wish)] == ["GPU-b"]


def test_without_gpus_there_is_one_cpu_slot_with_all_cores():
    """The default on a plain machine."""
    assert make_slots(machine(4)) == (Slot("cpu0", "cpu", cores=(0, 1, 2, 3)),)


def test_an_apple_gpu_is_one_slot():
    """There is only one, and it cannot be divided."""
    assert [slot.device for slot in make_slots(machine(has_mps=True))] == ["mps"]
    assert [slot.device for slot in make_slots(machine(has_mps=True), gpus="none")] == ["cpu"]


@given(cores=st.integers(1, 64), count=st.integers(1, 64), share=st.none() | st.integers(1, 64))
def test_no_core_is_in_two_slots(cores, count, share):
    """Either the slots are disjoint and equal, or the wish is refused."""
    try:
        slots = make_slots(machine(cores), gpus="none", cpu_slots=count, cores_per_slot=share or "auto")
    except UserError:
        assert count * (share or 1) > cores
        return
    used = [core for slot in slots for core in slot.cores]
    assert len(slots) == count
    assert len(set(used)) == len(used)
    assert len({len(slot.cores) for slot in slots}) == 1


def test_a_container_s_quota_limits_the_cores():
    """Two cores' worth of time on a machine of eight are two cores."""
    assert make_slots(machine(8, quota=2.5))[0].cores == (0, 1)
    assert make_slots(machine(8, quota=0.5))[0].cores == (0,)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"cpu_slots": 3, "cores_per_slot": 3}, "3 slots of 3 cores need more than the 8 cores here"),
        ({"cpu_slots": 9}, "9 slots"),
        ({"cpu_slots": 0}, "Ask for 1 or more"),
        ({"cores_per_slot": 0}, "Write 1 or more"),
        ({"cores_per_slot": "all"}, "auto"),
        ({"gpus": [7]}, "GPU 7 does not exist here. This machine has: none"),
        ({"gpus": "some"}, "not understood"),
        ({"gpus": []}, "names no GPU"),
    ],
)
def test_impossible_wishes_are_refused_with_a_cure(wish, words):
    """The message says what is wrong and what to do."""
    with pytest.raises(UserError, match=words):
        make_slots(machine(8), **wish)


def test_a_gpu_listed_twice_is_refused():
    """One GPU is one slot, also when it is named in two ways."""
    with pytest.raises(UserError, match="twice"):
        make_slots(machine(gpus=GPUS), gpus=[0, "GPU-a"])


def test_threads_follow_the_cores():
    """A pinned slot uses its cores, an unpinned one an even share."""
    cpu = make_slots(machine(8), cpu_slots=4)
    gpu = make_slots(machine(8, GPUS))
    assert thread_count(cpu[0], cpu, machine(8)) == 2
    assert thread_count(gpu[0], gpu, machine(8, GPUS)) == 4
    assert set(thread_limits(2).values()) == {"2"}


def test_slots_that_give_a_run_less_are_of_another_kind():
    """More slots of the same share are the same kind; the same machine cut finer is not."""
    whole, halves = machine(4), machine(4)
    one = slot_kind(make_slots(whole, cpu_slots=1, cores_per_slot=2), whole)

    assert one == slot_kind(make_slots(halves, cpu_slots=2, cores_per_slot=2), halves)
    assert one != slot_kind(make_slots(halves, cpu_slots=2, cores_per_slot=1), halves)
