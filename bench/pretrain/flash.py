"""A stand-in for FlashAttention 3 as `kernels` would fetch it: the same call, served by PyTorch's own attention.

A module of its own, because TorchDynamo looks functions up by the name of their module, and `__main__` is the rival.
"""

from __future__ import annotations

import json
import os
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


def swap(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file beside its place and move it there: runs on other GPUs may be reading it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    make(beside)
    beside.replace(path)


class Attention:
    """What `flash_attn_func` is served by: for each window, one kernel, chosen before the model is compiled."""

    def __init__(self, device: str, choice: str, home: Path) -> None:
        self.device = device
        self.choice = choice
        self.kept = home / "attention.json"
        self.kernels: dict[int, Callable[..., Any]] = {}

    def kernel_of(self, name: str, left: int, length: int) -> Callable[..., Any]:
        """Return a function of q, k, v (B, T, H, D) that sees `left` tokens back: `sdpa`, `dense`, `flex`, `varlen`."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention as sdpa

        if name == "sdpa":
            if left < length - 1:
                raise ValueError("SDPA has no window")
            return lambda q, k, v: heads_first(sdpa, q, k, v, is_causal=True)
        if name == "dense":
            back = torch.arange(length)[:, None] - torch.arange(length)
            mask = ((back >= 0) & (back <= left)).to(self.device)
            return lambda q, k, v: heads_first(sdpa, q, k, v, attn_mask=mask)
        if name == "flex":
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention

            def near(_batch, _head, query, key):
                return (query >= key) & (query - key <= left)

            blocks = create_block_mask(near, None, None, length, length, device=self.device)
            return lambda q, k, v: heads_first(flex_attention, q, k, v, block_mask=blocks)
        from torch.nn.attention.varlen import varlen_attn

        window = (min(left, length - 1), 0)

        def varlen(q, k, v):
            rows = q.size(0)
            ends = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=q.device)
            flat = [x.reshape(rows * length, *x.shape[2:]) for x in (q, k, v)]
            return varlen_attn(*flat, ends, ends, length, length, window_size=window).view(q.shape)

        return varlen

    def get_ready(self, windows: list[tuple[int, int]], length: int, heads: int, head_dim: int) -> None:
        """Choose and build a kernel for each window of a model."""
        started = time.perf_counter()
        chosen = {}
        for left in sorted({self._clipped(left, length) for left, _ in windows}):
            if self.device == "cpu":
                name = "sdpa" if left >= length - 1 else "dense"
            elif self.choice != "auto":
                name = "dense" if self.choice == "sdpa" and left < length - 1 else self.choice
            else:
                name = self._fastest(left, length, heads, head_dim)
            chosen[left] = name
            self.kernels[left] = self.kernel_of(name, left, length)
        print("race: attention " + ", ".join(f"{left + 1} tokens: {name}" for left, name in chosen.items()))
        print(f"attention_seconds: {time.perf_counter() - started:.2f}", flush=True)

    @staticmethod
    def _clipped(left: int, length: int) -> int:
        return length - 1 if left < 0 or left >= length - 1 else left

    def _fastest(self, left: int, length: int, heads: int, head_dim: int) -> str:
        """Measure forward and backward of every back end once per machine and shape; one that fails is out."""
        import torch

        key = f"{torch.cuda.get_device_name()} {torch.__version__} {left} {length} {heads}x{head_dim}"
        known = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        if key not in known:
            times = {}
            for name in ("sdpa", "varlen", "flex"):
                try:
                    times[name] = self._milliseconds(name, left, length, heads, head_dim)
                except Exception as error:  # whatever keeps a back end from working here
                    print(f"race: no {name} for {left + 1} tokens: {str(error).splitlines()[:1]}", flush=True)
            if not times:
                raise SystemExit("no attention back end works here; try --attention sdpa")
            print(f"race: {left + 1} of {length} tokens, forward and backward in ms: {times}", flush=True)
            known[key] = min(times, key=lambda name: times[name])
            swap(self.kept, lambda path: path.write_text(json.dumps(known, indent=1)))
        return str(known[key])

    def _milliseconds(self, name: str, left: int, length: int, heads: int, head_dim: int) -> float:
        import torch

        kernel = torch.compile(self.kernel_of(name, left, length), dynamic=False)
        shape = (16, length, heads, head_dim)
        q, k, v = (torch.randn(shape, device=self.device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))

        def once() -> None:
            kernel(q, k, v).backward(q.detach())

        for _ in range(3):
            once()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(10):
            once()
        ended.record()
        torch.cuda.synchronize()
        return round(float(began.elapsed_time(ended)) / 10, 3)

    def module(self) -> types.ModuleType:
        """Return the module that `get_kernel(...)` hands out as `flash_attn_interface`."""
        kernels, clipped = self.kernels, self._clipped

        def flash_attn_func(q, k, v, causal=False, window_size=(-1, -1), **_):
            assert causal, "only causal attention is stood in for"
            left = clipped(window_size[0], q.size(1))
            return kernels[left](q.to(v.dtype), k.to(v.dtype), v)

        module = types.ModuleType("flash_attn_interface")
        module.flash_attn_func = flash_attn_func
        return module


def heads_first(attend: Callable[..., Any], q: Any, k: Any, v: Any, **arguments: Any) -> Any:
    """Call attention that wants (B, H, T, D) with tensors of shape (B, T, H, D); keys may have fewer heads."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return attend(q, k, v, enable_gqa=q.size(1) != k.size(1), **arguments).transpose(1, 2)
