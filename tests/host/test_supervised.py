"""Foreign commands under supervision, tried with the foreign commands that do harm."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from autoresearch.host import process
from autoresearch.host.files import sha256_of
from autoresearch.host.process import Answer, Command, SupervisorDied, attach, end, kill_strays, run_supervised, start

HANG_SECONDS = 60
"""No test may come near; it only guards against waiting for ever."""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and sessions")

DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
print("done")
"""


def python(code: str, *arguments: object, name: str = "run", cwd: Path | None = None, seconds: float = HANG_SECONDS):
    """A command that is a small Python program."""
    argv = [sys.executable, "-I", "-S", "-c", textwrap.dedent(code), *map(str, arguments)]
    return Command(name, argv, cwd or Path.cwd(), seconds)


def supervise(directory: Path, *commands: Command, **options) -> Answer:
    """Run with a small environment and a short grace."""
    options = {"env": {"PATH": os.environ.get("PATH", "")}, "grace_seconds": 0.3} | options
    return run_supervised(directory, commands, **options)


def log_of(directory: Path, name: str = "run") -> str:
    """What a command printed."""
    return (directory / f"{name}.log").read_text()


def wait_for(path: Path) -> str:
    """The content of a file that a process is about to write."""
    until = time.monotonic() + HANG_SECONDS
    while time.monotonic() < until:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def is_gone(pid: int) -> bool:
    """Whether no process of this number is alive."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_success_is_reported_with_log_and_usage(tmp_path):
    """A command that ends well is a success, with its words and what it used."""
    answer = supervise(tmp_path / "x", python("print('hello'); sum(range(10**6))"))
    assert answer.succeeded
    assert log_of(tmp_path / "x") == "hello\n"
    assert answer.commands[0].cpu_seconds > 0
    assert answer.commands[0].max_rss_bytes > 1_000_000
    assert 0 < answer.commands[0].seconds <= answer.seconds


def test_exit_code_is_kept_and_ends_the_sequence(tmp_path):
    """After a failure nothing else runs."""
    answer = supervise(tmp_path / "x", python("raise SystemExit(3)", name="a"), python("", name="b"))
    assert [(command.name, command.exit_code) for command in answer.commands] == [("a", 3)]
    assert not answer.succeeded


def test_commands_run_in_order_with_a_log_each(tmp_path):
    """Each command has its own log, so none can speak for another."""
    answer = supervise(tmp_path / "x", python("print('A')", name="a"), python("print('B')", name="b"))
    assert answer.succeeded
    assert (log_of(tmp_path / "x", "a"), log_of(tmp_path / "x", "b")) == ("A\n", "B\n")


def test_environment_is_complete_and_not_inherited(tmp_path, monkeypatch):
    """A command sees the given variables and the marker, and nothing of ours."""
    monkeypatch.setenv("OUR_SECRET", "x")
    code = "import os, json; print(json.dumps(sorted(os.environ)))"
    supervise(tmp_path / "x", python(code), env={"GIVEN": "1"})
    seen = set(json.loads(log_of(tmp_path / "x"))) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING", "SYSTEMROOT"}
    assert seen == {"AUTORESEARCH_RUN", "GIVEN"}


def test_environment_is_never_written_to_disk(tmp_path):
    """A secret that a coding agent needs does not end in a file."""
    supervise(tmp_path / "x", python(""), env={"AGENT_API_KEY": "hunter2"})
    assert not any(b"hunter2" in path.read_bytes() for path in (tmp_path / "x").iterdir())


def test_a_missing_command_is_a_sentence(tmp_path):
    """A command that does not exist is an answer and not an exception."""
    answer = supervise(tmp_path / "x", Command("run", ["no-such-program-here"], tmp_path, 5))
    assert answer.commands[0].error == "the command 'no-such-program-here' was not found"


def test_a_missing_directory_is_a_sentence(tmp_path):
    """A missing working directory is told apart from a missing command."""
    answer = supervise(tmp_path / "x", python("", cwd=tmp_path / "nowhere"))
    assert answer.commands[0].error == "its working directory does not exist"


def test_a_hanging_command_times_out(tmp_path):
    """A command that never ends is ended, and what it printed is kept."""
    answer = supervise(tmp_path / "x", python("print('in', flush=True)\nwhile True: pass", seconds=0.5))
    assert answer.commands[0].timed_out
    assert not answer.succeeded
    assert log_of(tmp_path / "x") == "in\n"


@posix_only
def test_a_polite_command_may_tidy_up_when_its_time_is_over(tmp_path):
    """SIGTERM comes first; a program that then exits with 0 has still timed out."""
    code = "import signal, sys, time; signal.signal(15, lambda *_: (print('bye'), sys.exit(0))); time.sleep(1000)"
    answer = supervise(tmp_path / "x", python(code, seconds=0.5), grace_seconds=HANG_SECONDS)
    assert (answer.commands[0].timed_out, answer.commands[0].exit_code) == (True, 0)
    assert log_of(tmp_path / "x") == "bye\n"
    assert not answer.succeeded


@posix_only
def test_ignoring_sigterm_does_not_help(tmp_path):
    """After the grace comes SIGKILL."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
    answer = supervise(tmp_path / "x", python(code, seconds=0.5))
    assert (answer.commands[0].timed_out, answer.commands[0].signal) == (True, signal.SIGKILL)


@posix_only
def test_children_that_hold_the_output_open_do_not_delay_the_end(tmp_path):
    """A program ends when it ends, not when the last child lets go of its output."""
    code = "import os, sys, time\nif os.fork() == 0: time.sleep(1000)\nprint('done')"
    answer = supervise(tmp_path / "x", python(code))
    assert answer.succeeded
    assert answer.commands[0].survivors_killed == 1
    assert answer.seconds < HANG_SECONDS / 2


@posix_only
def test_a_daemon_does_not_survive(tmp_path):
    """Neither setsid nor a double fork escapes; the daemon is killed and counted."""
    answer = supervise(tmp_path / "x", python(DAEMON, tmp_path / "pid"))
    assert answer.succeeded
    assert answer.commands[0].survivors_killed == 1
    assert is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a subreaper")
def test_a_daemon_without_environment_does_not_survive(tmp_path):
    """Even a daemon that cleared its environment and closed its files is found: the kernel gave it to us."""
    code = """
    import os, sys
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
    os.wait()
    """
    answer = supervise(tmp_path / "x", python(code))
    assert answer.commands[0].survivors_killed == 1


@posix_only
def test_a_forking_family_is_killed_to_the_last(tmp_path):
    """Processes that keep forking are frozen before they are killed."""
    code = """
    import os, time
    until = time.monotonic() + 1000
    for _ in range(4):
        os.fork()
    while time.monotonic() < until:
        if os.fork() == 0:
            time.sleep(0.02)
            if os.fork():
                os._exit(0)
        time.sleep(0.05)
    """
    answer = supervise(tmp_path / "x", python(code, seconds=0.6), grace_seconds=0.05)
    assert answer.commands[0].timed_out
    assert answer.commands[0].error == ""
    assert kill_strays(process.marker_of(tmp_path / "x")) == 0


@posix_only
def test_a_child_that_is_about_to_end_is_not_a_survivor(tmp_path):
    """A child that ends by itself a moment after its parent is left alone."""
    code = "import os, time\nif os.fork() == 0: time.sleep(0.05)"
    assert supervise(tmp_path / "x", python(code)).commands[0].survivors_killed == 0


def test_a_flood_is_cut_in_the_middle(tmp_path):
    """300 MB of output neither block nor fill anything, and the last line survives."""
    code = "import sys\nprint('first')\nfor i in range(3000): sys.stdout.write('y' * 99_999 + '\\n')\nprint('val: 1')"
    answer = supervise(tmp_path / "x", python(code), log_limit_bytes=1 << 20)
    lines = log_of(tmp_path / "x").split("\n")
    command = answer.commands[0]
    assert answer.succeeded
    assert (lines[0], lines[-2]) == ("first", "val: 1")
    assert command.log_bytes > 300_000_000
    assert (tmp_path / "x" / "run.log").stat().st_size < (1 << 20) + 200
    assert f"{command.log_dropped_bytes} bytes of log were dropped here" in log_of(tmp_path / "x")


@pytest.mark.parametrize(("spoiler", "when"), [("before", ""), ("a", "a"), ("b", "b")])
def test_a_changed_protected_file_is_named(tmp_path, spoiler, when):
    """Protected files are compared before the first command and after each."""
    guarded = tmp_path / "prepare.py"
    guarded.write_text("original")
    protected = {"prepare.py": sha256_of(guarded)}
    if spoiler == "before":
        guarded.write_text("changed")
    spoil = "open('prepare.py', 'w').write('changed')"
    commands = [python(spoil if spoiler == name else "", name=name, cwd=tmp_path) for name in ("a", "b", "c")]
    answer = supervise(tmp_path / "x", *commands, protected=protected)
    assert (answer.changed, answer.changed_after) == (("prepare.py",), when)
    assert "c" not in [command.name for command in answer.commands]
    assert not answer.succeeded


@posix_only
@pytest.mark.parametrize("deed", ["os.unlink('p')", "os.rename('p', 'q'); os.symlink('q', 'p')"])
def test_a_protected_file_may_not_vanish_or_become_a_link(tmp_path, deed):
    """A link to an unchanged copy is a change: it can be pointed elsewhere a moment later."""
    (tmp_path / "p").write_text("original")
    command = python(f"import os; {deed}", cwd=tmp_path)
    answer = supervise(tmp_path / "x", command, protected={"p": sha256_of(tmp_path / "p")})
    assert answer.changed == ("p",)


def test_what_a_command_must_not_find_is_removed(tmp_path):
    """An older output is gone before the command that should write it anew."""
    write = python("open('m', 'w').write('1')", name="a", cwd=tmp_path)
    look = python("import os; print(os.path.exists('m'))", name="b", cwd=tmp_path)
    look = Command(look.name, look.argv, look.cwd, look.timeout_seconds, removes=[tmp_path / "m"])
    assert supervise(tmp_path / "x", write, look).succeeded
    assert log_of(tmp_path / "x", "b") == "False\n"


def test_what_cannot_be_removed_stops_the_command(tmp_path):
    """A folder in the place of the file does not let an older number through."""
    (tmp_path / "m").mkdir()
    command = python("print('ran')")
    command = Command("run", command.argv, command.cwd, 5, removes=[tmp_path / "m"])
    answer = supervise(tmp_path / "x", command)
    assert answer.commands[0].error.endswith("m, left by an earlier command, cannot be removed")


def test_an_answered_execution_is_read_and_not_repeated(tmp_path):
    """The second call with the same directory starts nothing."""
    command = python("open('count', 'a').write('x')", cwd=tmp_path)
    assert supervise(tmp_path / "x", command) == supervise(tmp_path / "x", command)
    assert (tmp_path / "count").read_text() == "x"


def test_stopping_interrupts(tmp_path):
    """A wish to stop ends the command, and the answer says so."""
    stopping = threading.Event()
    command = python("import time; open('on', 'w').write('1'); time.sleep(1000)", cwd=tmp_path)
    threading.Thread(target=lambda: (wait_for(tmp_path / "on"), stopping.set())).start()
    answer = supervise(tmp_path / "x", command, python("", name="later"), stopping=stopping)
    assert answer.interrupted
    assert not answer.commands[0].timed_out
    assert len(answer.commands) == 1


@posix_only
def test_a_killed_coordinator_can_be_replaced(tmp_path):
    """Kill -9 of the process that asked does not stop the command; another one gets the answer."""
    code = f"""
    import sys
    from pathlib import Path
    from autoresearch.host.process import Command, run_supervised
    code = "import os, time; open('on', 'w').write('1')\\nwhile not os.path.exists('go'): time.sleep(0)\\nprint('end')"
    command = Command("run", [sys.executable, "-I", "-S", "-c", code], Path({str(tmp_path)!r}), {HANG_SECONDS})
    run_supervised(Path({str(tmp_path / "x")!r}), [command], env={{}})
    """
    coordinator = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    wait_for(tmp_path / "on")
    coordinator.kill()
    coordinator.wait()
    supervised = attach(tmp_path / "x")
    assert supervised is not None
    (tmp_path / "go").touch()
    assert supervised.wait().succeeded
    assert log_of(tmp_path / "x") == "end\n"
    assert attach(tmp_path / "x") is None


@posix_only
def test_a_killed_supervisor_is_noticed_and_its_run_made_anew(tmp_path):
    """Without an answer the strays are killed, the old folder is set aside, and the command runs afresh."""
    code = """
    import os, sys, time
    if not os.path.exists('second'):
        open('second', 'w').write(str(os.getpid()))
        print('stale', flush=True)
        time.sleep(1000)
    print('fresh')
    """
    directory, command = tmp_path / "x", python(code, cwd=tmp_path)
    supervised = start(directory, [command], env={})
    stray = int(wait_for(tmp_path / "second"))
    os.kill(json.loads((directory / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    with pytest.raises(SupervisorDied):
        supervised.wait()
    assert supervise(directory, command).succeeded
    assert is_gone(stray)
    assert log_of(directory) == "fresh\n"
    assert log_of(tmp_path / "x.stale-1") == "stale\n"


def test_a_recycled_pid_is_not_attached_to(tmp_path):
    """A living process with the recorded pid and another identity is somebody else."""
    (tmp_path / "supervisor.json").write_text(json.dumps({"pid": os.getpid(), "identity": "123@other-boot"}))
    assert attach(tmp_path) is None


@posix_only
def test_strays_are_known_by_their_marker(tmp_path):
    """Only processes with this very marker are killed."""
    sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"]
    mine, other = (subprocess.Popen(sleep, env={"AUTORESEARCH_RUN": name}) for name in ("mark-a", "mark-b"))
    try:
        while not psutil.Process(mine.pid).environ():
            time.sleep(0.01)  # between fork and exec
        assert kill_strays("mark-a") == 1
        assert is_gone(mine.pid)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="affinity is set on Linux only")
def test_a_command_is_pinned_to_its_cores(tmp_path):
    """The command, and not its supervisor, is confined."""
    core = sorted(os.sched_getaffinity(0))[-1]
    supervise(tmp_path / "x", python("import os; print(os.sched_getaffinity(0))"), cores=[core])
    assert log_of(tmp_path / "x") == f"{{{core}}}\n"


@posix_only
def test_a_full_disk_is_an_error_of_ours_and_not_of_the_command(tmp_path):
    """When the log cannot be written the command still ends, and the answer is written into reserved space."""
    code = f"""
    import resource, sys
    from pathlib import Path
    from autoresearch.host.process import Command, run_supervised
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # stands for the full disk
    command = Command("run", [sys.executable, "-I", "-S", "-c", "print('y' * 10**7)"], Path("."), {HANG_SECONDS})
    answer = run_supervised(Path({str(tmp_path / "x")!r}), [command], env={{}})
    assert answer.commands[0].exit_code == 0
    print(answer.error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "the log of 'run' could not be written: File too large\n"


def test_the_poll_callback_is_called_while_waiting(tmp_path):
    """Samplers get their turn."""
    calls = []
    supervise(tmp_path / "x", python("import time; time.sleep(0.7)"), poll=lambda: calls.append(1))
    assert len(calls) >= 2


def test_a_folder_with_the_commands_input_is_used_as_it_is(tmp_path):
    """Only an execution that was begun is set aside; what the caller has just written there stays there."""
    directory = tmp_path / "session"
    directory.mkdir()
    (directory / "brief.json").write_text("the brief")
    reader = python("import sys; print(sys.stdin.read())")
    answer = supervise(directory, Command("run", reader.argv, reader.cwd, HANG_SECONDS, stdin=directory / "brief.json"))
    assert answer.succeeded, answer
    assert log_of(directory) == "the brief\n"


@posix_only
@pytest.mark.parametrize("supervisor_lives", [True, False])
def test_an_abandoned_execution_is_ended_wholly(tmp_path, supervisor_lives):
    """With its supervisor or without: afterwards no process of it is left."""
    directory, born = tmp_path / "session", tmp_path / "born"
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(1000)"
    supervised = start(directory, [python(code, born)], env={}, grace_seconds=0.3)
    pid = int(wait_for(born))
    if not supervisor_lives:
        supervised._child.kill()
        supervised._child.wait()
    end(directory)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    end(directory)  # once more is harmless
