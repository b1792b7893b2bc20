"""What `train.py` sees of the harness: its settings, its data, and whoever scores it in the end.

    import harness
    runtime = harness.Runtime.from_environment()        # seed, device, threads, budget
    data = harness.load()                               # vocab_size, sequence_length, num_train_tokens, ...
    loader = data.make_loader(rows_per_step, runtime)
    inputs, targets = loader.warmup_batch()             # random tokens; the clock is not running yet
    for inputs, targets in loader:                      # real data; the clock runs from the first batch
        loader.report(loss)                             # loader.progress goes from 0 to 1
    val_bpb = data.evaluate_bpb(model, rows_per_batch, runtime)
    runtime.finish({"depth": 8})                        # figures of your own, beside those that the harness knows

Nothing is decided here. The data, the clock and the score belong to another process, `evaluate.py`, at the other end
of a socket; this module only asks, and may be patched without any gain. The conversation, `>` from this side:

    > {"do": "hello", "device": "cuda"}       < the settings of the run
    > {"do": "load"}                          < what is known of the data
    > {"do": "start", "rows": 64}             < {}
    > {"do": "next"}                          < {"seconds": ..., "epochs": ...} and a batch; no batch: time is over
    > {"do": "report", ...}                     (no answer; so with "describe")
    > {"do": "evaluate", "rows": 16}          now the other end asks, and this one answers, in order:
        < {"ask": "nats"} and rows                        > the loss of each target
        < {"ask": "logits", "positions": ...} and rows    > the logits at these positions
        < {"ask": "nothing", "bpb": 0.98}                 that was all
    > {"do": "finish", "figures": {...}}      < {}

An answer `{"error": "..."}` is a sentence for a person, raised here as `DataError`. Each message is a line of JSON and
bytes, in a frame (`Channel`). Rows are uint16, (rows, sequence_length + 1); losses and logits are float32.

Started by hand, `python train.py` has nobody at the other end; then this module starts `evaluate.py` itself.
"""

# ruff: noqa: PLC0415 (torch is imported late: evaluate.py uses the channel and must start without it)
from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    Batch = tuple[torch.Tensor, torch.Tensor]

CHANNEL_VARIABLE = "AUTORESEARCH_CHANNEL"
"""The file descriptor of this process's end of the socket; whoever started `train.py` has the other."""

HEADER_BYTES_MAX = 1 << 20
"""Longest JSON of a message."""


class DataError(Exception):
    """Something a person can fix: the data, the settings, the batch size. The message is one sentence and its cure."""


class ChannelClosed(Exception):
    """The process at the other end is gone."""


class Channel:
    """Messages over a connected stream socket: the length of the JSON, the length of the bytes, JSON, bytes."""

    _FRAME = struct.Struct("<IQ")

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, header: Mapping[str, object], payload: Any = b"") -> None:
        """Send one message; `payload` is anything with a buffer, such as a C-contiguous array."""
        text, data = json.dumps(header).encode(), memoryview(payload).cast("B")
        try:
            self._connection.sendall(self._FRAME.pack(len(text), data.nbytes) + text)
            if data.nbytes:
                self._connection.sendall(data)
        except OSError as error:
            raise ChannelClosed from error

    def receive(self, payload_bytes_max: int = 1 << 40) -> tuple[dict[str, Any], bytearray]:
        """Wait for the next message.

        Raises:
            ChannelClosed: There will be none.
            ValueError: What came is no message, or longer than allowed.
        """
        header_bytes, payload_bytes = self._FRAME.unpack(self._read(self._FRAME.size))
        if header_bytes > HEADER_BYTES_MAX or payload_bytes > payload_bytes_max:
            raise ValueError(f"a message of {header_bytes} + {payload_bytes} bytes is longer than expected")
        header = json.loads(self._read(header_bytes))
        if not isinstance(header, dict):
            raise ValueError("a message is not a JSON object")  # noqa: TRY004 - all bad messages are one error
        return header, self._read(payload_bytes)

    def has_mail(self) -> bool:
        """Whether a message has begun to arrive."""
        return bool(select.select([self._connection], [], [], 0)[0])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _read(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            try:
                received = self._connection.recv_into(view)
            except OSError as error:
                raise ChannelClosed from error
            if not received:
                raise ChannelClosed
            view = view[received:]
        return data


# ---------------------------------------------------------------------------------------------------------------------
# The connection of this process

_channel: Channel | None = None
_server: subprocess.Popen[bytes] | None = None
"""The harness that this process started for itself, if any."""


def connect() -> Channel:
    """Return the channel to the harness; without a harness, start one for a person at a terminal."""
    global _channel, _server  # noqa: PLW0603 - there is one harness for one process
    if _channel is None:
        if CHANNEL_VARIABLE in os.environ:
            _channel = Channel(socket.socket(fileno=int(os.environ.pop(CHANNEL_VARIABLE))))
        else:
            ours, theirs = socket.socketpair()
            server = [sys.executable, str(Path(__file__).with_name("evaluate.py")), "--serve", str(theirs.fileno())]
            _server = subprocess.Popen(server, pass_fds=[theirs.fileno()])
            theirs.close()
            _channel = Channel(ours)
    return _channel


@contextlib.contextmanager
def _until_hung_up() -> Iterator[None]:
    """End this process when the other end is gone: there is nothing left to do."""
    try:
        yield
    except ChannelClosed:
        sys.exit("FAIL: the harness has hung up; what it printed says why")


def _request(header: Mapping[str, object]) -> tuple[dict[str, Any], bytearray]:
    """Send a message and wait for its answer.

    Raises:
        DataError: The answer is an error that a person can cure.
    """
    with _until_hung_up():
        connect().send(header)
        answer, payload = connect().receive()
    if "error" in answer:
        raise DataError(answer["error"])
    return answer, payload


@dataclass(frozen=True)
class Runtime:
    """What the harness decides for a run."""

    device: str = "cpu"
    """`cuda`, `mps` or `cpu`."""
    seed: int = 0
    """Decides the order of the data (served accordingly) and the initial weights in train.py."""
    threads: int = 1
    """CPU threads of torch; also the divisor of the `cpu` clock."""
    budget_seconds: float = 20.0
    budget_clock: str = "wall"
    """`wall`, or `cpu`: processor seconds divided by threads, repeatable on a machine that does other work too."""
    max_steps: int = 0
    """Stop after this many steps even if time is left (0: no limit). For preflight and tests."""

    @classmethod
    def from_environment(cls) -> Runtime:
        """Ask for the settings, and set torch's threads accordingly.

        Raises:
            DataError: A variable AUTORESEARCH_* has a value that cannot be used.
        """
        import torch

        available = [
            d
            for d, ok in (
                ("cuda", torch.cuda.is_available()),
                ("mps", torch.backends.mps.is_available()),
                ("cpu", True),
            )
            if ok
        ]
        device = os.environ.get("AUTORESEARCH_DEVICE") or available[0]
        if device not in available:
            raise DataError(f"AUTORESEARCH_DEVICE is '{device}'; this machine has {', '.join(available)}")
        settings, _ = _request({"do": "hello", "device": device})
        if device == "cpu" or "AUTORESEARCH_THREADS" in os.environ:
            torch.set_num_threads(settings["threads"])
        if device == "cpu":
            keep_freed_memory()
        return cls(device=device, **settings)

    def describe(self, config: Mapping[str, object]) -> None:
        """Hand over the effective configuration, which is kept with the run as `config.json`."""
        with _until_hung_up():
            connect().send({"do": "describe", "config": config})

    def finish(self, figures: Mapping[str, float | str]) -> None:
        """Hand over figures for the summary and end the conversation: the last thing that a run does, or can do."""
        global _channel  # noqa: PLW0603
        sys.stdout.flush()
        sys.stderr.flush()
        _request({"do": "finish", "figures": figures})
        connect().close()
        _channel = None
        if _server is not None:
            _server.wait()  # it is about to print the summary


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks of up to 32 MiB: it would hand them back and fault every page in anew each step.

    Measured on one core with the shipped model: 28 % more tokens a second. Does nothing with another C library.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its largest allowed value
            libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


# ---------------------------------------------------------------------------------------------------------------------
# Data while the clock runs


class Loader:
    """Iterate over training batches for exactly one budget.

    A batch is a whole optimiser step: (inputs, targets), each int64 of shape (rows, sequence_length) on the device;
    split it yourself if it is too large for one forward pass. Rows are shuffled anew each epoch; the order depends on
    the seed and on nothing else. The time to fetch a batch counts, as any other work does; on a GPU it passes while
    earlier steps are still being computed.
    """

    def __init__(self, data: TrainingData, rows_per_step: int, runtime: Runtime) -> None:
        """Use `TrainingData.make_loader`."""
        self.steps = 0
        """Batches handed out so far."""
        self.seconds = 0.0
        """Budget seconds used, as of the last batch handed out; after the end, of the whole training."""
        self.epochs = 0.0
        """Passes over the training rows so far; above 1 the model sees rows again."""
        self._data = data
        self._rows_per_step = rows_per_step
        self._runtime = runtime
        self._reported = -1.0
        self._fences: list[Any] = []
        _request({"do": "start", "rows": rows_per_step})

    @property
    def progress(self) -> float:
        """Fraction of the budget used when the current batch was handed out, from 0 to 1."""
        used = self.seconds / self._runtime.budget_seconds
        if self._runtime.max_steps:
            used = max(used, (self.steps - 1) / self._runtime.max_steps)
        return min(1.0, max(0.0, used))

    def report(self, loss: float) -> None:
        """Tell the harness how the run comes on: once for each percent of the budget, ten times a second at most.

        A run whose loss is not a number, or hopelessly behind those of finished runs, is ended early. Report the plain
        loss in nats per token, without penalties and other terms, or it is compared with what it cannot be compared
        with. `loss` is a number that is known anyway: fetching one for this would make a GPU wait.
        """
        step = max(0.01, 0.1 / self._runtime.budget_seconds)
        if self.progress >= self._reported + step:
            self._reported = self.progress
            line = {"fraction": round(self.progress, 4), "steps": self.steps, "value": round(loss, 5)}
            with _until_hung_up():
                connect().send({"do": "report", "line": line})

    def warmup_batch(self) -> Batch:
        """Return random tokens in the shape of a real batch, for compilation and warm-up; does not start the clock."""
        shape = (self._rows_per_step, self._data.sequence_length + 1)
        draw = np.random.default_rng(self._runtime.seed)
        return to_device(draw.integers(self._data.vocab_size, size=shape, dtype=np.uint16), self._runtime.device)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches until the budget is spent. The first one starts the clock."""
        self._synchronise()
        while True:
            self._fence()
            answer, payload = _request({"do": "next"})
            if not payload:
                break
            self.seconds, self.epochs = answer["seconds"], answer["epochs"]
            self.steps += 1
            yield to_device(self._data.rows_of(payload), self._runtime.device)
        self._synchronise()
        self.seconds = _request({"do": "next"})[0]["seconds"]

    def _fence(self) -> None:
        """Keep the CPU at most two steps ahead of a GPU, or the clock would read long before the work is done."""
        if self._runtime.device == "cuda":
            import torch

            event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._fences.append(event)
            if len(self._fences) > 2:
                self._fences.pop(0).synchronize()
        elif self._runtime.device == "mps":
            self._synchronise()

    def _synchronise(self) -> None:
        import torch

        if self._runtime.device == "cuda":
            torch.cuda.synchronize()
        elif self._runtime.device == "mps":
            torch.mps.synchronize()


def to_device(rows: np.ndarray, device: str) -> Batch:
    """Copy rows (n, T + 1) of uint16 to the device and return inputs and targets, each (n, T) of int64.

    The copy to a GPU is of two bytes a token, from pinned memory, and does not wait; the GPU widens it.
    """
    import torch

    narrow = torch.from_numpy(rows.view(np.int16))  # few operations know uint16
    if device == "cuda":
        narrow = narrow.pin_memory()
    wide = narrow.to(device, non_blocking=True).long() & 0xFFFF
    return wide[:, :-1].contiguous(), wide[:, 1:].contiguous()


@dataclass(frozen=True)
class TrainingData:
    """What the harness tells of the prepared data. The data themselves come in batches, while the clock runs."""

    dataset: str
    vocab_size: int
    """Number of token ids, BOS included."""
    sequence_length: int
    """Tokens a model sees in one row."""
    bos_id: int
    """The token that starts every document."""
    num_train_rows: int
    """Packed rows in the training split."""
    num_train_tokens: int
    """Tokens of text in the training split, BOS not counted: whoever reads more reads some of them again."""

    def make_loader(self, rows_per_step: int, runtime: Runtime) -> Loader:
        """Return the loader for this run, of `rows_per_step` rows a step.

        Raises:
            DataError: The rows do not fit, or the run could not be evaluated in the end: better said before than after.
        """
        return Loader(self, rows_per_step, runtime)

    def rows_of(self, payload: bytearray) -> np.ndarray:
        """Return rows (n, sequence_length + 1) of uint16 from the bytes of a message."""
        return np.frombuffer(payload, dtype="<u2").reshape(-1, self.sequence_length + 1)

    def evaluate_bpb(self, model: torch.nn.Module, rows_per_batch: int, runtime: Runtime) -> float:
        """Have the model scored, and return its bits per byte, as the harness says. Lower is better.

        Any model will do for which `model(inputs, targets, reduction="none")` returns the loss in nats of each target
        token (int64 inputs and targets of shape (rows_per_batch, sequence_length); a loss for each, in any shape with
        that many elements), and `model(inputs)` the logits, (rows, sequence_length, vocab_size). All calls of the first
        kind have the same shape, so a compiled model compiles once; the few calls of the second go to the model that
        was compiled, not to the compiled one. A loss may depend on its own row up to its own token and on nothing else.
        """
        import torch

        was_training = model.training
        model.eval()
        with torch.no_grad(), _until_hung_up():
            connect().send({"do": "evaluate", "rows": rows_per_batch})
            bpb = self._answer_questions(model, runtime.device)
        model.train(was_training)
        return bpb

    def _answer_questions(self, model: torch.nn.Module, device: str) -> float:
        """Answer in order, one forward pass ahead of the answers, so that a GPU never waits for the questions."""
        channel = connect()
        waiting: deque[Callable[[], np.ndarray]] = deque()
        while True:
            while waiting and (len(waiting) > 1 or not channel.has_mail()):
                channel.send({}, waiting.popleft()())
            question, payload = channel.receive()
            if question["ask"] == "nothing":
                return math.nan if question["bpb"] is None else float(question["bpb"])
            rows = self.rows_of(payload)
            if question["ask"] == "nats":
                waiting.append(_on_its_way(model, rows, device))
            else:
                waiting.append(lambda rows=rows, at=question["positions"]: _logits_at(model, rows, at, device))


def _on_its_way(model: torch.nn.Module, rows: np.ndarray, device: str) -> Callable[[], np.ndarray]:
    """Start a forward pass; what is returned waits for its losses, (rows, T) of float32."""
    import torch

    inputs, targets = to_device(rows, device)
    nats = model(inputs, targets, reduction="none").detach().float().reshape(targets.shape)
    if device != "cuda":
        return lambda: nats.cpu().numpy()
    copy = nats.to("cpu", non_blocking=True)
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()

    def fetch() -> np.ndarray:
        event.synchronize()
        return copy.numpy()

    return fetch


def _logits_at(model: torch.nn.Module, rows: np.ndarray, positions: list[list[int]], device: str) -> np.ndarray:
    """Return logits at some positions of each row, (rows, positions, V) of float32, two rows at a time."""
    import torch

    raw = getattr(model, "_orig_mod", model)
    parts = []
    for start in range(0, len(rows), 2):  # logits of whole rows are large
        inputs, _ = to_device(rows[start : start + 2], device)
        at = torch.tensor(positions[start : start + 2], device=device)
        logits = raw(inputs).detach()
        parts.append(logits[torch.arange(len(at), device=device)[:, None], at].float())
    return torch.cat(parts).cpu().numpy()


def load() -> TrainingData:
    """Return what is known of the data that this run is about.

    Raises:
        DataError: They are missing or damaged; the message says how to prepare them.
    """
    return TrainingData(**_request({"do": "load"})[0])
