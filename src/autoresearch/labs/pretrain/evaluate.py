"""Run `train.py` as a child and score it: the owner of the data, the clock and the number.

    python evaluate.py              # what the lab runs: train.py under the budget, then its score
    python evaluate.py other.py     # another script instead

    evaluate.py ── starts ──► train.py (confined, see sandbox.py)
        │  ▲                      │
        │  └─── one socket ───────┘     the conversation stands in harness.py
        ├── training rows, one batch for each request, from the start of the clock to its end
        ├── questions about evaluation rows, and whether the answers can be believed (checks.py)
        └── metrics.json, eval_rows.npz, evaluation.json, written when the child and all it started are dead

The child holds no data but the batches it was served, no path to data or results, and no say in the score: what it
prints or writes is never read. It can end in three ways. With a score: exit code 0, and the summary after a line
`---`. With an answer that cannot be believed: exit code 1, and a last line `INVALID: <why>`, which the harness records
as the outcome `invalid`. With a failure of its own: the same exit code as the child.

Needs numpy and the standard library only, so it is ready long before the child has imported torch.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import prepare
import sandbox
from checks import Invalid
from conversation import Conversation, Score, Settings, choice, remove, write_file, write_json
from harness import CHANNEL_VARIABLE, Channel

EVALUATION_SHARE = 0.1
"""An evaluation that takes a larger share of the training time earns a remark. It is not made smaller by itself: runs
of one campaign must be scored on the same rows, however fast each of them happens to be."""

FAREWELL_SECONDS = 10.0
"""How long a program that has hung up may take to end by itself. One that has said goodbye is not waited for: giving
back a GPU takes a second."""

RESULTS = ("metrics.json", "evaluation.json", "eval_rows.npz", "config.json", "progress.jsonl")


def launch(script: str, channel: socket.socket, settings: Settings) -> subprocess.Popen[bytes]:
    """Start the program as a child, confined if this machine can do that; say loudly when it cannot."""
    environment = {name: value for name, value in os.environ.items() if name not in sandbox.SECRET_VARIABLES}
    environment[CHANNEL_VARIABLE] = str(channel.fileno())
    argv = [sys.executable, script]
    if choice("AUTORESEARCH_SANDBOX", "auto", "off") == "auto":
        hidden = [prepare.default_data_dir(), prepare.hub_directory()]
        hidden += [Path(os.environ[n]) for n in ("AUTORESEARCH_SEALED_DIR",) if os.environ.get(n)]
        hidden += [settings.run_dir] if settings.run_dir else []
        confined = sandbox.confine(argv, Path.cwd(), hidden, environment)
        if not confined:
            prepare.say(
                "NO SANDBOX: bubblewrap is missing or not allowed here, so the program can read every file of this user"
            )
        argv = confined or argv
    return subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, pass_fds=[channel.fileno()])


def run(script: str) -> int:
    """Run a script as a child and score it. Returns the exit code."""
    settings = Settings.from_environment()
    _clear(settings.run_dir)
    sandbox.adopt_orphans()
    ours, theirs = socket.socketpair()
    child = launch(script, theirs, settings)
    theirs.close()
    try:
        talk = Conversation(Channel(ours), settings, _opened_ahead(), _meter(settings, os.getpid()))
        talk.serve()
        try:
            code = 0 if talk.finished else child.wait(FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            code = 1
    finally:
        sandbox.end_family(child)
    if code:
        return code if code > 0 else 128 - code
    return conclude(talk)


def _opened_ahead() -> Callable[[], prepare.PreparedData]:
    """Open and check the data while the program imports torch; what is wrong with them is told when it asks."""
    try:
        data = prepare.load()
    except prepare.DataError as error:
        problem = error

        def fail() -> prepare.PreparedData:
            raise problem

        return fail
    return lambda: data


def serve(descriptor: int) -> int:
    """Score the process that started this one, for a person at a terminal. Returns the exit code."""
    prepare.say("started by hand: nothing keeps train.py from the data here, so its score is for orientation only")
    settings = Settings.from_environment()
    _clear(settings.run_dir)
    channel = Channel(socket.socket(fileno=descriptor))
    talk = Conversation(channel, settings, prepare.load, _meter(settings, os.getppid()))
    talk.serve()
    return conclude(talk) if talk.score else 1


def _clear(run_dir: Path | None) -> None:
    """Remove what an earlier run left: it must not be taken for this one's."""
    for name in RESULTS:
        if run_dir:
            remove(run_dir / name)


def _meter(settings: Settings, pid: int) -> Callable[[], float]:
    if settings.budget_clock == "wall":
        return lambda: 0.0
    try:
        return sandbox.ProcessorTime(pid)
    except OSError as error:
        raise prepare.DataError(
            "the cpu clock needs Linux or psutil; install psutil, or set the clock to wall"
        ) from error


def publish(talk: Conversation, score: Score, directory: Path, summary: Mapping[str, object]) -> None:
    """Write the score into the run directory, in place of whatever lies there."""
    data = talk.opened()
    rows = io.BytesIO()
    np.savez(rows, row=score.numbers, nats=score.row_nats, bytes=score.row_bytes)
    write_file(directory, "eval_rows.npz", rows.getvalue())
    file = data.manifest["splits"][talk.settings.split]["files"][0]
    evaluation = {
        "bpb": score.bpb if math.isfinite(score.bpb) else None,
        "split": talk.settings.split,
        "rotation": talk.settings.rotation,
        "rows": len(score.numbers),
        "bytes": int(score.row_bytes.sum()),
        "dataset": data.manifest["dataset"],
        "sha256": data.manifest["files"][file]["sha256"],
        "seconds": score.seconds,
        "agreement": score.agreement,
    }
    write_json(directory, "evaluation.json", evaluation)
    if math.isfinite(score.bpb):
        write_json(directory, "metrics.json", summary)


def conclude(talk: Conversation) -> int:
    """Write and print the result of a run that has ended. Returns the exit code."""
    if talk.score is None:
        print("FAIL: the program ended without asking for its evaluation", flush=True)
        return 1
    if talk.settings.preflight and math.isfinite(talk.score.bpb):
        print(f"preflight: {talk.steps} steps and the questions of an evaluation, on training rows, came through")
        return 0
    summary = talk.summary()
    if talk.settings.run_dir and not talk.settings.preflight:
        publish(talk, talk.score, talk.settings.run_dir, summary)
    if not math.isfinite(talk.score.bpb):
        print(f"FAIL: val_bpb is nan after {talk.steps} steps", flush=True)
        return 1
    share = talk.score.seconds / max(talk.seconds, 1e-9)
    if share > EVALUATION_SHARE:
        prepare.say(
            f"evaluation took {talk.score.seconds:.1f} s, {share:.0%} of the training time; a smaller one, equal "
            "for all runs that are compared, leaves time for more of them: prepare with fewer --eval-tokens, or set "
            f"AUTORESEARCH_EVAL_FRACTION={talk.settings.fraction * EVALUATION_SHARE / share:.2g} in lab.environment"
        )
    print("---")
    for name, value in summary.items():
        print(f"{name + ':':<18}{json.dumps(value)}", flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run from the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Run a training script under the budget and score it.")
    parser.add_argument("script", nargs="?", default="train.py", help="what to run (default: train.py)")
    parser.add_argument("--serve", type=int, metavar="FD", help="score whoever holds the other end of this socket")
    arguments = parser.parse_args(argv)
    try:
        return run(arguments.script) if arguments.serve is None else serve(arguments.serve)
    except prepare.DataError as error:
        print(f"FAIL: {error}", flush=True)
    except Invalid as reason:
        print(f"INVALID: {reason}", flush=True)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
