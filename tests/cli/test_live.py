"""The live view: right at any size, whatever programs and agents say, on a real terminal and when that goes away."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from autoresearch.campaign.board import Board
from autoresearch.campaign.derive import Requested, map_wishes
from autoresearch.campaign.disturbance import Disturbances
from autoresearch.campaign.reviews import ReviewTask
from autoresearch.campaign.scheduler import ProposalTask, RunTask
from autoresearch.campaign.session import Home
from autoresearch.campaign.verdicts import Notice
from autoresearch.cli.live import PlainScreen, live_panel
from autoresearch.domain.budget import Limits
from autoresearch.domain.disturbance import Tolerance
from autoresearch.domain.experiment import Experiment, Run, Stage
from autoresearch.domain.metric import Metric
from autoresearch.domain.proposal import Kind, Proposal
from autoresearch.domain.run import Outcome, RunRequest, RunResult
from autoresearch.domain.verdict import Verdict
from autoresearch.runner.protocol import Slot
from tests.cli.toylab import AGENT, GUARD_SECONDS, Lab, MakeLab

EVIL = "[red]evil[/red] [/] \x1b[2J\x1b]0;title\x07 \x07\x08 \u202e\u200b größe 実験の改善 " * 3


def experiment(number: int, score: float | None = None, verdict: Verdict | None = None) -> Experiment:
    """One of a campaign; with a score it has one finished run."""
    request = RunRequest("night", number, 0, f"c{number}", 1, 10.0, 60.0)
    result = None if score is None else RunResult(Outcome.FINISHED, score, wall_seconds=10.0)
    return Experiment(
        "night", number, "tuner", "c0", Stage.SETTLED if verdict else Stage.PROPOSED, f"c{number}",
        Proposal("baseline", Kind.BASELINE) if number == 0 else Proposal(EVIL), verdict=verdict,
        decided_at=number + 1.0 if verdict else None, runs=(Run(request, "gpu0", result),),
    )  # fmt: skip


def session(folder: Path, num_slots: int, *experiments: Experiment, **limits: Any) -> Any:
    """What the view looks at, with every second slot at work on the newest experiment."""
    slots = [Slot(f"gpu{i}", "cuda") for i in range(num_slots)]
    board = Board(experiments)
    running = {}
    if experiments:
        request = experiments[-1].runs[0].request
        running = {slot.name: RunTask(slot, request) for slot in slots[1::2]}
        (folder / ".autoresearch" / "runs" / request.key).mkdir(parents=True)
        (folder / ".autoresearch" / "runs" / request.key / "request.json").touch()
        (folder / ".autoresearch" / "runs" / request.key / "run.log").write_text(f"{EVIL}\rstep 3 [bold]of[/bold] 9")
    scheduler = SimpleNamespace(
        board=board, running=running, proposing={"agent": ProposalTask("agent", 7)}, limits=Limits(**limits),
        began_at=time.time() - 100, devotion=None, disturbances=Disturbances(Tolerance(), num_slots, 300),
        admission=SimpleNamespace(under_way={}), reviews=SimpleNamespace(under_way=None),
    )  # fmt: skip
    campaign = SimpleNamespace(name="night", metric=Metric("loss"))
    return SimpleNamespace(slots=slots, scheduler=scheduler, campaign=campaign, home=Home(folder))


def drawn(view: Any, width: int = 80, height: int = 24, note: str = "") -> list[str]:
    """The lines of the view on a terminal of a size."""
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False)
    console.print(live_panel(view, width, height, note))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_resting_slot_says_why(tmp_path: Path) -> None:
    """Somebody who sees an empty slot at night wants to know what it waits for."""
    view = session(tmp_path, 1)
    spoilt = RunResult(Outcome.DISTURBED, telemetry={"disturbed_by_others": 1.0})
    for _ in range(3):
        view.scheduler.disturbances.take("gpu0", spoilt, time.time())

    assert any("rests: somebody else is at work there" in line for line in drawn(view))


def test_who_looks_back_is_said(tmp_path: Path) -> None:
    """Somebody who sees no new proposal wants to know why."""
    view = session(tmp_path, 1)
    view.scheduler.reviews.under_way = ReviewTask("claude", 2)

    assert any("agent writes #7, claude looks back" in line for line in drawn(view))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("num_slots", [1, 8, 256])
def test_view_fits_any_terminal(tmp_path: Path, width: int, num_slots: int) -> None:
    """No line is wider and no view is higher than the terminal, and slots that do not fit are counted."""
    view = session(tmp_path, num_slots, experiment(0, 1.5, Verdict.KEEP), experiment(1), experiments=9)
    lines = drawn(view, width)
    assert max(map(cell_len, lines)) <= width and len(lines) <= 22
    assert ("slots more" in "".join(lines)) == (num_slots > 16) or width == 20
    assert not set("".join(lines)) & set("\x1b\x07\x08\r\u202e\u200b")


def test_view_says_how_it_stands(tmp_path: Path) -> None:
    """Best, gain, progress, when it will end, who does what: each in its place."""
    view = session(
        tmp_path, 2, experiment(0, 1.5, Verdict.KEEP), experiment(1, 1.2, Verdict.KEEP), experiment(2), experiments=9
    )
    said = "\n".join(drawn(view, 140, note="finishing 1 run"))
    assert "best loss 1.2 (#1, +0.3 over the baseline)" in said
    assert "1 of 9 experiments done in 0:01:40, about 0:00:40 left" in said
    assert "#2 [red]evil[/red] [/]" in said and "step 3 [bold]of[/bold] 9" in said
    assert "gpu0" in said and "idle" in said and "agent writes #7" in said and "finishing 1 run" in said


def test_view_of_what_a_person_asked_for_counts_down(tmp_path: Path) -> None:
    """Two removals are asked for and none is made, so two are to go; no limit of the campaign plays a part."""
    view = session(tmp_path, 1, experiment(0, 1.5, Verdict.KEEP), experiment(1, 1.2, Verdict.KEEP), experiments=9)
    switches = {"USE_SMEAR": False}
    view.scheduler.devotion = Requested(lambda board: map_wishes(board, switches, None, 1), "ablate")
    said = "\n".join(drawn(view, 140))
    assert "2 to go, about 0:00:" in said and "of 9 experiments" not in said


def test_view_before_anything_is_known(tmp_path: Path) -> None:
    """Without experiments and limits the view says so."""
    said = "\n".join(drawn(session(tmp_path, 1)))
    assert "the baseline is not measured yet" in said and "0 experiments done in 0:01:40" in said and "left" not in said


def test_repeated_failure_is_told_once() -> None:
    """The same failure of a researcher ten times is one line and a count; a different one is told again."""
    console = Console(file=io.StringIO(), width=200, highlight=False)
    screen = PlainScreen(console)
    failed = Experiment("night", 1, "agent", "c0", verdict=Verdict.CRASH)
    for reason in ("no credit left", "no credit left", "no credit left", "another reason", "no credit left"):
        screen.notice(Notice("crash", failed, reason))
    screen.end()
    assert isinstance(console.file, io.StringIO)
    lines = [line.split(" ", 1)[1] for line in console.file.getvalue().splitlines()]
    first, rest, other, again = lines
    assert first == again == "#1 crash   no credit left"
    assert (rest, other) == ("(the same 2 more times)", "#1 crash   another reason")


class Terminal:
    """A real terminal with a command in it, and everything that was ever written to it."""

    def __init__(self, lab: Lab, columns: int, *arguments: str) -> None:
        self._end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {k: v for k, v in lab.environment.items() if k != "COLUMNS"} | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autoresearch", *arguments], cwd=lab.root, env=environment,
            stdin=inner, stdout=inner, stderr=inner, preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here
        )  # fmt: skip
        os.close(inner)
        self.text = ""

    def read_until(self, text: str | None) -> str:
        """Everything up to now, once `text` (None: the end) was written."""
        end = time.monotonic() + GUARD_SECONDS
        while text is None or text not in self.text:
            assert time.monotonic() < end, self.text
            try:
                data = os.read(self._end, 65536)
            except OSError:  # how Linux says that the last process of a terminal has left
                data = b""
            if not data:
                assert text is None, self.text
                break
            self.text += data.decode(errors="replace")
        return self.text

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self._end, keys)

    def close_window(self) -> None:
        """What happens when a person closes it: nobody takes the output any more, and SIGHUP is sent."""
        os.close(self._end)

    def close(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(GUARD_SECONDS)
        os.close(self._end)
        return code


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


SLOW = "import time\nX = 1.0\nfor i in range(6):\n    print(f'[red]step {i}', flush=True)\n    time.sleep(0.1)\n"


@pytest.mark.parametrize("columns", [40, 80])
def test_campaign_on_a_terminal(make_lab: MakeLab, columns: int) -> None:
    """The view opens, shows the run's last words as they are, is cleared, and leaves the verdicts and the end."""
    lab = make_lab(train=SLOW + "print(f'METRIC loss={X}')\n")
    terminal = Terminal(lab, columns, "run", "--experiments", "1")
    said = terminal.read_until(None)
    assert terminal.close() == 0, said
    assert "Traceback" not in said and "╭─" in said
    assert "step" in said or columns == 40
    after = said[said.rindex("╰") :]
    assert "the one experiment is done" in after and "report: " in after and "╭" not in after
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h"), "the cursor is shown again"


def test_ctrl_c_on_a_terminal(make_lab: MakeLab) -> None:
    """Ctrl-C typed into the terminal reaches us and not the run; the view says what it waits for."""
    lab = make_lab(train=SLOW + "print(f'METRIC loss={X}')\n")
    terminal = Terminal(lab, 80, "run", "--experiments", "5")
    terminal.read_until("#0 baseline")
    terminal.press(b"\x03")
    said = terminal.read_until(None)
    assert terminal.close() == 0, said
    assert "finishing 1 run" in said and "stopped by Ctrl-C" in said
    assert lab.outcome_of(0)[0] == "finished"


def test_ctrl_c_at_a_bad_moment(make_lab: MakeLab) -> None:
    """Ctrl-C typed while git works for us ends no git: the campaign ends as it was asked to, and goes on later."""
    lab = make_lab(agent=AGENT)
    for number in range(2, 5):
        terminal = Terminal(lab, 80, "run", "--experiments", "40", "--plain")
        terminal.read_until(f"#{number} ")
        terminal.press(b"\x03")
        said = terminal.read_until(None)
        assert terminal.close() == 0, said
    assert all(run["result"] for e in lab.log() for run in e["runs"])


def test_dumb_terminal_and_plain(lab: Lab) -> None:
    """`--plain` on a terminal gives lines without one control sequence."""
    terminal = Terminal(lab, 80, "run", "--experiments", "1", "--plain")
    said = terminal.read_until(None)
    assert terminal.close() == 0, said
    assert "\x1b" not in said and "#0 keep" in said


def test_output_that_goes_away(lab: Lab) -> None:
    """A campaign whose output nobody takes (closed, `| head -1`, a full disk) goes on to its end."""
    python = f"{shlex.quote(sys.executable)} -m autoresearch run --experiments"
    for count, script in enumerate((f"{python} 1 >&-", f"{python} 2 | head -1", f"{python} 3 > /dev/full"), start=1):
        done = subprocess.run(
            ["bash", "-c", script], cwd=lab.root, env=lab.environment, capture_output=True, text=True, check=False,
            timeout=GUARD_SECONDS,
        )  # fmt: skip
        assert "Traceback" not in done.stderr and "error of our own" not in done.stderr, done.stderr
        assert len([e for e in lab.log() if e["runs"]]) == count + 1, script


def test_terminal_that_is_closed(make_lab: MakeLab) -> None:
    """Closing the window ends the view, not the campaign's records: the next start goes on."""
    lab = make_lab(train=SLOW + "print(f'METRIC loss={X}')\n")
    terminal = Terminal(lab, 80, "run", "--experiments", "2")
    terminal.read_until("#0 baseline")
    terminal.close_window()
    terminal.process.wait(GUARD_SECONDS)
    lab.run("--experiments", 2)
    assert len([e for e in lab.log() if e["runs"]]) == 3
    assert all(run["result"] for e in lab.log() for run in e["runs"])
