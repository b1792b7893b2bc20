"""A toy lab in a real repository and the command line as its own process, as a person meets both.

Each command is a process of its own, but its imports are done once: it is forked from one that has them. That saves a
second for each of some hundred commands. `Lab.cold` starts Python afresh, for what depends on that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from autoresearch.cli.main import main

GUARD_SECONDS = 60
"""Nothing here takes a tenth of it; a test that does hangs."""

TRAIN = """\
import os, random
X = 1.0
noise = random.Random(os.environ["AUTORESEARCH_SEED"]).gauss(0, 0.001)
print(f"METRIC loss={(X - 0.3) ** 2 + noise}")
"""

AGENT = """\
import json, os, pathlib, random
brief = json.load(open(os.environ["AUTORESEARCH_BRIEF"]))
x = round(random.Random(brief["number"]).uniform(0, 1), 3)
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text("\\n".join(f"X = {x}" if l.startswith("X =") else l for l in text.split("\\n")))
json.dump({"hypothesis": f"X = {x} is nearer", "kind": "tune", "touches": ["X"]},
          open(os.environ["AUTORESEARCH_PROPOSAL"], "w"))
"""

LAB_FILE = """\
[lab]
run = {run}
editable = ["train.py"]
protected = ["judge.py"]
{lab}
[metric]
name = "loss"
direction = "min"
source = "metric"

[budget]
seconds = 2
{budget}
[slots]
gpus = "none"

[campaign]
baseline_runs = 1
seed = 7
{campaign}
{rest}
"""

PYTHON = ["python", "-S", "-E"]
"""An interpreter that starts in a few milliseconds."""


class Ended(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Started:
    """A command in the background, forked from a process that has imported everything."""

    def __init__(self, arguments: list[str], cwd: Path, environment: dict[str, str], files: Path) -> None:
        self._files = files
        self._process = _FORKS.Process(target=_become, args=(arguments, str(cwd), environment, str(files)))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, as a terminal does: to the command, since its runs have sessions of their own."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it without a word, if it has not ended."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join(GUARD_SECONDS)

    def finish(self, guard_seconds: float = GUARD_SECONDS) -> Ended:
        """Wait for its end."""
        self._process.join(guard_seconds)
        code = self._process.exitcode
        assert code is not None, f"it hangs, having said: {self.said()}"
        return Ended(code, self.said(), self._files.with_suffix(".err").read_text(encoding="utf-8"))

    def said(self) -> str:
        """Its standard output so far."""
        out = self._files.with_suffix(".out")
        return out.read_text(encoding="utf-8") if out.exists() else ""

    def wait_for(self, *texts: str) -> None:
        """Wait until it has said one of these."""

        def has_said() -> bool:
            return any(text in self.said() for text in texts)

        wait_until(lambda: has_said() or not self._process.is_alive(), f"it says {' or '.join(texts)}")
        assert has_said(), self.finish()


def _become(arguments: list[str], cwd: str, environment: dict[str, str], files: str) -> None:
    """In the forked process: be the command."""
    os.setsid()
    for number, name, mode in ((0, os.devnull, os.O_RDONLY), (1, f"{files}.out", 0), (2, f"{files}.err", 0)):
        file = os.open(name, mode or os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal: a shell's `&` has it ignored
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["autoresearch", *arguments]
    main()


_FORKS = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
if hasattr(_FORKS, "set_forkserver_preload"):
    _FORKS.set_forkserver_preload(
        ["autoresearch.cli.main", "autoresearch.report.figure", "autoresearch.researchers.tuner"]
    )


class Lab:
    """A lab, and the command line pointed at it.

    Its environment has no settings of the person who runs the tests, and a cache for matplotlib's fonts.
    """

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = environment
        root.mkdir(parents=True)
        self._started: list[Started] = []

    # --- the repository ----------------------------------------------------------------------------------------

    def git(self, *arguments: str) -> str:
        """What a git command prints."""
        command = ["git", "-c", "user.name=A Person", "-c", "user.email=person@example.org", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    def write(self, path: str, text: str) -> Path:
        """Write a file, uncommitted."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def commit(self, **files: str) -> str:
        """Write files (`train_py="..."` is train.py) and commit everything; the commit."""
        for name, text in files.items():
            self.write(name.replace("_", "."), text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "by a person")
        return self.git("rev-parse", "HEAD")

    def configure(self, *, run: list[str] | None = None, **parts: str) -> None:
        """Write the lab file: `lab`, `budget` and `campaign` are lines of those tables, `rest` is anything else."""
        text = {"lab": "", "budget": "", "campaign": "", "rest": "", **parts}
        self.write("autoresearch.toml", LAB_FILE.format(run=json.dumps(run or [*PYTHON, "train.py"]), **text))

    def agent(self, script: str = AGENT, **keys: object) -> str:
        """The lab file's table for a coding agent that is a Python script."""
        path = self.root.parent / "agent.py"
        path.write_text(script, encoding="utf-8")
        more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        command = json.dumps([sys.executable, "-S", "-E", str(path)])
        return f'[[researcher]]\nkind = "command"\nname = "agent"\ncommand = {command}\n{more}'

    def fingerprint(self) -> dict[str, str]:
        """Everything that belongs to the user: files, index, HEAD, stash and branches that are not ours."""
        branches = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        found = {"refs": "\n".join(line for line in branches if "/autoresearch/" not in line)}
        files = [self.root / ".git" / name for name in ("index", "HEAD", "config")]
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in (".git", ".autoresearch")]
            files += [Path(folder) / name for name in names]
        return found | {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    # --- the command line --------------------------------------------------------------------------------------

    def cli(self, *arguments: object, cwd: Path | None = None, **variables: str) -> Ended:
        """Run `autoresearch` to its end."""
        return self.start(*arguments, cwd=cwd, **variables).finish()

    def cold(self, *arguments: object, **variables: str) -> Ended:
        """The same with a fresh Python."""
        command = [sys.executable, "-m", "autoresearch", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.root, env={**self.environment, **variables}, capture_output=True, check=False,
            encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL, timeout=GUARD_SECONDS,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def run(self, *arguments: object, **variables: str) -> Ended:
        """`autoresearch run`, which has to end well."""
        done = self.cli("run", *arguments, **variables)
        assert done.returncode == 0, done.stderr + done.stdout
        assert not done.stderr, done.stderr
        return done

    def refused(self, *arguments: object, cwd: Path | None = None, **variables: str) -> str:
        """The one sentence that a command is refused with."""
        done = self.cli(*arguments, cwd=cwd, **variables)
        assert done.returncode == 2, (done.returncode, done.stderr, done.stdout)
        lines = done.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("autoresearch: "), done.stderr
        return lines[0].removeprefix("autoresearch: ")

    def start(self, *arguments: object, cwd: Path | None = None, **variables: str) -> Started:
        """Start `autoresearch` in the background; ended with the test at the latest."""
        files = self.root.parent / f"output-{len(self._started)}"
        environment = {**self.environment, **variables}
        started = Started(list(map(str, arguments)), cwd or self.root, environment, files)
        self._started.append(started)
        return started

    def json(self, *arguments: object) -> Any:
        """What a command prints for programs."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0 and not done.stderr, done.stderr
        return json.loads(done.stdout)

    def log(self, *arguments: object) -> list[dict[str, Any]]:
        """Every experiment as the ledger has it."""
        experiments: list[dict[str, Any]] = self.json("log", *arguments)
        return experiments

    def outcome_of(self, number: int = 0) -> tuple[str, str]:
        """How the newest run of an experiment ended, and what is said of it."""
        experiment = next(e for e in self.log() if e["number"] == number)
        result = experiment["runs"][-1]["result"]
        return result["outcome"], result["detail"]

    def clean_up(self) -> None:
        """End what a failed test left: processes of ours, then every process of a run in this lab."""
        for started in self._started:
            started.kill()
        for process in processes_below(self.root):
            with contextlib.suppress(psutil.Error):
                process.kill()


def processes_below(root: Path) -> list[psutil.Process]:
    """Living processes that work in or for a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [process.cwd(), *process.cmdline()]
            is_ours = any(str(root) in word for word in words) and process.pid != os.getpid()
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Look again and again until something is so."""
    end = time.monotonic() + GUARD_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)


MakeLab = Callable[..., Lab]
"""The fixture `make_lab`."""
