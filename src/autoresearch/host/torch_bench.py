"""Measure what PyTorch can do on this machine: a script in a process of its own, since it may hang, crash or be absent.

    python -m autoresearch.host.torch_bench [--threads N]

Prints JSON objects, one a line: `{"stages": N}`, then for each stage `{"stage": "…"}` and afterwards its figures,
`{"name": value}`; last `{"done": true}`. A figure that cannot be had is `{"failure": ["name", "one sentence"]}`. What
was printed before a crash stands. `host.figures` reads it.

Products are of random numbers: zeros draw less power and read faster than training ever is. Times on CUDA and ROCm are
taken between device events.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

WINDOW = 256
"""Tokens that windowed attention sees."""

MEASURE_SECONDS = 0.4
"""Spent on each rate, at most about twice that."""

_MATMUL_SIDES = {"cuda": 8192, "mps": 4096, "cpu": 1536}
_COPY_BYTES = {"cuda": 1 << 30, "mps": 1 << 28, "cpu": 1 << 27}
_ATTENTION_SHAPES = {"cuda": (32, 2048, 6, 128), "mps": (4, 2048, 4, 128), "cpu": (8, 256, 2, 64)}
"""Rows, tokens, heads, channels of a head, in memory as a projection leaves them; large enough to hide launches."""

Figure = dict[str, object]


def main(argv: list[str] | None = None) -> int:
    """Measure everything, in an order that gives the most useful figures first."""
    parser = argparse.ArgumentParser(description="Measure what PyTorch can do here; for `autoresearch doctor`.")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads that a run may use")
    threads = parser.parse_args(argv).threads
    bench = Bench(importlib.import_module("torch"), threads)
    stages = bench.stages()
    emit({"stages": len(stages)})
    for name, stage in stages:
        emit({"stage": name})
        try:
            emit(stage())
        except Exception as error:  # whatever a back end throws, the others still count
            emit({"failure": [name, sentence_of(error)]})
    emit({"done": True})
    return 0


def emit(content: Figure) -> None:
    """Write one line at once, so that it is there whatever happens next."""
    print(json.dumps(content), flush=True)


def heads_first(*tensors: Any) -> list[Any]:
    """Views of tensors as most back ends take them: (rows, heads, tokens, channels)."""
    return [tensor.transpose(1, 2) for tensor in tensors]


def sentence_of(error: Exception) -> str:
    """What went wrong in one line a person can read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:200]


class Bench:
    """What is measured, on the fastest device that PyTorch finds."""

    def __init__(self, torch: Any, threads: int) -> None:
        self.torch = torch
        self.threads = threads
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")  # as training does: TF32 where there is TF32
        torch.set_num_threads(threads)
        self.kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    def stages(self) -> list[tuple[str, Callable[[], Figure]]]:
        """Name and measurement of each stage."""
        torch = self.torch
        types = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        if self.kind == "cpu":
            del types["fp16"]  # no training uses it there, and most processors only emulate it
        stages: list[tuple[str, Callable[[], Figure]]] = [("device", self.describe)]
        for name, dtype in types.items():
            stages.append((f"matmul {name}", partial(self.rate, "matmul_flops", name, partial(self.matmul, dtype))))
        stages.append(("copy", lambda: {"copy_bytes_per_second": self.copy()}))
        if self.kind == "cpu" and self.threads > 1:
            for name, dtype in types.items():
                alone = partial(self.alone, partial(self.matmul, dtype))
                stages.append((f"matmul {name}, one thread", partial(self.rate, "one_thread_flops", name, alone)))
            stages.append(("copy, one thread", lambda: {"one_thread_copy_bytes_per_second": self.alone(self.copy)}))
        for name, attend in self.attentions().items():
            seconds = partial(self.attention, attend)
            stages.append((f"attention {name}", partial(self.rate, "attention_seconds", name, seconds)))
        return stages

    def rate(self, figure: str, name: str, measure: Callable[[], float]) -> Figure:
        """One entry of a figure that has several."""
        return {figure: {name: measure()}}

    def describe(self) -> Figure:
        """What the device is, and how much of its memory the driver says is free."""
        torch = self.torch
        facts: Figure = {"kind": self.kind, "threads": self.threads, "torch": torch.__version__, "backend": self.kind}
        if self.kind == "cuda":
            free, total = torch.cuda.mem_get_info()
            backend = "rocm" if torch.version.hip else "cuda"
            facts |= {"backend": backend, "device": torch.cuda.get_device_name()}
            facts |= {"memory_bytes": total, "free_memory_bytes": free}
        elif self.kind == "mps":
            total = torch.mps.recommended_max_memory()
            facts |= {"memory_bytes": total, "free_memory_bytes": total - torch.mps.driver_allocated_memory()}
        return facts

    def matmul(self, dtype: Any) -> float:
        """FLOP/s of a large square product; smaller where a large one would take long."""
        torch, side = self.torch, 256
        while side < _MATMUL_SIDES[self.kind]:
            a, b = self._square(side, dtype), self._square(side, dtype)
            a @ b
            if self._once(partial(torch.matmul, a, b)) > 0.02:
                break  # the next size takes eight times as long
            side *= 2
        a, b = self._square(side, dtype), self._square(side, dtype)
        return 2 * side**3 / self._typical(partial(torch.matmul, a, b))

    def copy(self) -> float:
        """Bytes a second that a copy within the device's memory reads and writes together."""
        size = _COPY_BYTES[self.kind]
        source = self.torch.randint(0, 255, (size,), dtype=self.torch.uint8, device=self.kind)
        target = self.torch.empty_like(source)
        return 2 * size / self._typical(lambda: target.copy_(source))

    def alone(self, measure: Callable[[], float]) -> float:
        """Measure with one thread: what a run on a slot of one core gets."""
        self.torch.set_num_threads(1)
        try:
            return measure()
        finally:
            self.torch.set_num_threads(self.threads)

    def attentions(self) -> dict[str, Callable[[Any, Any, Any], Any]]:
        """The back ends: functions of queries, keys and values, each (rows, tokens, heads, channels)."""
        torch = self.torch
        functional = torch.nn.functional
        tokens = _ATTENTION_SHAPES[self.kind][1]
        window = min(WINDOW, tokens // 2)

        def sdpa(q: Any, k: Any, v: Any) -> Any:
            return functional.scaled_dot_product_attention(*heads_first(q, k, v), is_causal=True)

        place = torch.arange(tokens, device=self.kind)
        distance = place[:, None] - place[None, :]
        mask = (distance >= 0) & (distance < window)

        def dense(q: Any, k: Any, v: Any) -> Any:
            return functional.scaled_dot_product_attention(*heads_first(q, k, v), attn_mask=mask)

        kernels: dict[str, Any] = {}  # built within the stage, so that a failure is its own

        def flex(q: Any, k: Any, v: Any) -> Any:
            if "flex" not in kernels:
                module = importlib.import_module("torch.nn.attention.flex_attention")

                def near(_b: Any, _h: Any, query: Any, key: Any) -> Any:
                    return (query >= key) & (query - key < window)

                blocks = module.create_block_mask(near, None, None, tokens, tokens, device=self.kind)
                compiled = torch.compile(module.flex_attention, dynamic=False)
                kernels["flex"] = lambda q, k, v: compiled(q, k, v, block_mask=blocks)
            return kernels["flex"](*heads_first(q, k, v))

        def varlen(q: Any, k: Any, v: Any) -> Any:
            module = importlib.import_module("torch.nn.attention.varlen")  # since torch 2.10, windows since 2.11
            rows = q.shape[0]
            starts = torch.arange(0, rows * tokens + 1, tokens, device=q.device, dtype=torch.int32)
            flat = [x.flatten(0, 1) for x in (q, k, v)]
            return module.varlen_attn(*flat, starts, starts, tokens, tokens, window_size=(window - 1, 0))

        return {"sdpa": sdpa, "dense": dense, "varlen": varlen, "flex": flex}

    def attention(self, attend: Callable[[Any, Any, Any], Any]) -> float:
        """Seconds of one forward and backward pass."""
        dtype = self.torch.float32 if self.kind == "cpu" else self.torch.bfloat16
        shape = _ATTENTION_SHAPES[self.kind]
        q, k, v = (self.torch.randn(shape, device=self.kind, dtype=dtype, requires_grad=True) for _ in range(3))
        upstream = self.torch.randn_like(attend(q, k, v))

        def both() -> None:
            attend(q, k, v).backward(upstream)
            q.grad = k.grad = v.grad = None

        return self._typical(both)

    def _square(self, side: int, dtype: Any) -> Any:
        return self.torch.randn(side, side, device=self.kind).to(dtype)

    def _typical(self, act: Callable[[], object]) -> float:
        """Seconds of an act, after it has warmed the device and its caches: the median; on a processor the shortest.

        A GPU is ours alone or not at all, but cores are shared, and what others take is no property of the processor.
        """
        until = time.perf_counter() + MEASURE_SECONDS / 2
        while self._once(act) and time.perf_counter() < until:
            pass
        seconds: list[float] = []
        until = time.perf_counter() + MEASURE_SECONDS
        while len(seconds) < 5 or (time.perf_counter() < until and len(seconds) < 200):
            seconds.append(self._once(act))
            if len(seconds) >= 3 and sum(seconds) > 4 * MEASURE_SECONDS:
                break
        return min(seconds) if self.kind == "cpu" else statistics.median(seconds)

    def _once(self, act: Callable[[], object]) -> float:
        torch = self.torch
        if self.kind == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            act()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000 or 1e-9
        began = time.perf_counter()
        act()
        if self.kind == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
