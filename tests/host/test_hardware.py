"""The description of this machine."""

import json
import os

from autoresearch.host.hardware import describe_hardware


def test_this_machine_is_described_in_plain_values():
    """Every number makes sense, and the description survives JSON."""
    hardware = describe_hardware()
    assert hardware.cpu
    assert 1 <= hardware.physical_cores <= hardware.logical_cores
    assert hardware.memory_bytes > 1 << 26
    assert set(json.loads(json.dumps(hardware.to_dict()))) == set(hardware.to_dict())


def test_cores_are_those_of_the_affinity_mask():
    """A confined process does not count cores that it may not use."""
    if hasattr(os, "sched_getaffinity"):
        assert set(describe_hardware().cores) == os.sched_getaffinity(0)


def test_hidden_gpus_are_not_there(monkeypatch):
    """CUDA_VISIBLE_DEVICES of this process is obeyed."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert describe_hardware().gpus == ()
