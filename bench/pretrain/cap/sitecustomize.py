"""Let every Python process that finds this folder on its path use only so much of a GPU's memory.

Python imports `sitecustomize` at its start, so a training script obeys the cap without knowing of it, and so do the
processes it starts. RACE_MEMORY_GIB is the cap in GiB. What the driver says of free memory is cut to the cap too, for
programs that size themselves by it.
"""

import importlib.abc
import importlib.util
import os
import sys


def cap(gib):
    """Limit this process's share of the GPU; called once CUDA has been initialised."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    most = min(total, int(gib * 2**30))
    torch.cuda.set_per_process_memory_fraction(most / total, 0)
    asked = torch.cuda.mem_get_info

    def mem_get_info(device=None):
        free, _ = asked(device)
        return max(0, min(free, most - torch.cuda.memory_reserved(device))), most

    torch.cuda.mem_get_info = mem_get_info
    print(f"memory capped to {most / 2**30:.1f} of {total / 2**30:.1f} GiB", file=sys.stderr, flush=True)


class AfterTorch(importlib.abc.MetaPathFinder):
    """Waits for the first import of torch: importing it here would slow down processes that never do."""

    def find_spec(self, name, path, target=None):
        """Hand out torch's own spec with a loader that sets the cap afterwards."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.cuda._lazy_call(lambda: cap(float(os.environ["RACE_MEMORY_GIB"])))

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("RACE_MEMORY_GIB"):
    sys.meta_path.insert(0, AfterTorch())
