"""The process that stands between us and somebody else's commands, from their start to their proved end.

It is a process of its own so that it outlives us: when the campaign is killed, a five-minute run is not lost, and
whoever comes next reads the answer. It needs the standard library alone and is started with `-I -S`, so neither the
lab's packages nor its Python variables reach it.

    DIRECTORY/request.json      in: commands, limits, protected files
    DIRECTORY/supervisor.json   out: pid and identity, so that a later process can find this one
    DIRECTORY/<command>.log     out: stdout and stderr of one command, head and tail, never more than the limit
    DIRECTORY/answer.json       out: last, atomically; whoever sees it sees the whole truth

The commands run one after another; the first that fails is the last. Their environment is the environment of this
process, so nothing secret is ever written to the request.

Covered: time-outs, programs that ignore SIGTERM, children left behind, daemons that double-forked, floods of output,
a full disk, a missing command, protected files that change.
Not covered: a command that kills this process, being of the same user (`family.end_strays` cleans up after that);
without Linux, a daemon that cleared its own environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from autoresearch.host.family import adopt_orphans, identity_of
from autoresearch.host.files import reserve, sha256_of, write_json
from autoresearch.host.stream import BoundedLog
from autoresearch.host.watch import Interruption, Watch

REQUEST, IDENTITY, ANSWER = "request.json", "supervisor.json", "answer.json"

ANSWER_RESERVE_BYTES = 1 << 14
"""Disk space set aside at the start for the answer."""


def main() -> None:
    """Read the request in the directory that is the first argument, execute it, write the answer."""
    directory = Path(sys.argv[1])
    interruption = Interruption(directory)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interruption.ask)
    adopt_orphans()
    pid = os.getpid()
    write_json(directory / IDENTITY, {"pid": pid, "identity": identity_of(pid)}, durable=False)
    reserve(directory / ANSWER, ANSWER_RESERVE_BYTES)
    request = json.loads((directory / REQUEST).read_bytes())
    write_json(directory / ANSWER, supervise(directory, request, interruption))
    os._exit(0)  # nothing is left to tidy, and whoever waits for the answer waits for our end


def supervise(directory: Path, request: dict[str, Any], interruption: Interruption) -> dict[str, Any]:
    """Execute the commands in order until one fails or spoils a protected file; the answer for a later reader."""
    answer: dict[str, Any] = {
        "started_at": time.time(), "commands": [], "changed": [], "changed_after": "", "error": "",
        "interrupted": False,
    }  # fmt: skip
    begin = time.monotonic()
    try:
        _execute(directory, request, interruption, answer)
    except Exception as error:  # whatever happens, an answer is owed
        answer["error"] = f"the supervisor failed: {type(error).__name__}: {error}"
    answer["seconds"] = time.monotonic() - begin
    return answer


def _execute(directory: Path, request: dict[str, Any], interruption: Interruption, answer: dict[str, Any]) -> None:
    root, protected = Path(request["root"]), request["protected"]
    answer["changed"] = changed_files(root, protected)
    for command in request["commands"]:
        if answer["changed"]:
            return
        if interruption:
            answer["interrupted"] = True
            return
        name = command["name"]
        log = BoundedLog(directory / f"{name}.log", request["log_limit_bytes"])
        record = Watch(command, request["cores"], request["grace_seconds"], log, interruption).run()
        answer["commands"].append(record)
        answer["interrupted"] = record.pop("interrupted")
        answer["changed"] = changed_files(root, protected)
        answer["changed_after"] = name if answer["changed"] else ""
        if log.error:
            answer["error"] = f"the log of '{name}' could not be written: {log.error}"
        if record["exit_code"] != 0 or record["timed_out"] or answer["interrupted"] or answer["error"]:
            return


def changed_files(root: Path, protected: dict[str, str]) -> list[str]:
    """The protected files below `root` that are gone, replaced by a link, or not what they were."""
    changed = []
    for name, expected in protected.items():
        path = root / name
        try:
            same = not path.is_symlink() and sha256_of(path) == expected
        except OSError:
            same = False
        if not same:
            changed.append(name)
    return changed
