"""`try`, `note` and `brief` on a real lab: with and without a session, waiting and not, killed and gone on with."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from autoresearch.testing.audit import audit
from tests.cli.toylab import TRAIN, Lab, MakeLab, processes_below, wait_until

SLOW = "import time\n" + TRAIN + "time.sleep(float(open('PLACE').read()))\n"
"""A run that takes as long as a file outside the lab says."""


def edit(lab: Lab, x: float, path: str = "train.py") -> None:
    """Set X in the working tree, as a person does."""
    text = (lab.root / path).read_text().splitlines()
    lab.write(path, "\n".join(f"X = {x}" if line.startswith("X =") else line for line in text) + "\n")


def files_of(lab: Lab) -> dict[str, str]:
    """Everything that is the user's."""
    return lab.fingerprint()


@pytest.fixture
def slow(make_lab: MakeLab, tmp_path: Path) -> Lab:
    """A lab whose runs take no time until `seconds` says so."""
    place = tmp_path / "seconds"
    place.write_text("0")
    return make_lab(train=SLOW.replace("PLACE", str(place)), budget="timeout_seconds = 60")


def seconds(lab: Lab, value: float) -> None:
    """How long runs take from now on."""
    (lab.root.parent / "seconds").write_text(str(value))


def end_attendants(lab: Lab) -> None:
    """End background processes of a lab without a word."""
    for process in processes_below(lab.root):
        with contextlib.suppress(psutil.Error):
            if "--waiting" in process.cmdline():
                process.kill()
                process.wait(10)


def submitted(lab: Lab) -> list[dict]:
    """Experiments that were handed in."""
    return [e for e in lab.log() if e["proposal"]["submitted"]]


class TestAlone:
    """Nobody runs the lab."""

    def test_a_keep_and_a_discard_leave_the_checkout_alone(self, lab: Lab) -> None:
        """Both are experiments like any other, and every file, the index and the branches stay as they were."""
        edit(lab, 0.4)
        lab.write("notes.txt", "mine\n")
        before = files_of(lab)

        done = lab.cli("try", "-m", "X nearer to 0.3", "--kind", "tune", "--touches", "X")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "left out, since they are untracked and not editable: notes.txt" in done.stdout
        assert "#1 keep:" in done.stdout and "git restore --source autoresearch/" in done.stdout
        assert files_of(lab) == before

        edit(lab, 0.9)
        before = files_of(lab)
        found = lab.json("try", "-m", "X further away")
        assert (found["experiment"], found["verdict"]) == (2, "discard")
        assert files_of(lab) == before
        campaign = found["campaign"]
        assert lab.git("show", f"autoresearch/{campaign}:train.py").splitlines()[1] == "X = 0.4"
        assert lab.git("show", f"{found['commit']}:train.py").splitlines()[1] == "X = 0.9"
        assert [(e["researcher"], e["plan_drift"]) for e in submitted(lab)] == [("you", "")] * 2
        assert audit(lab.root, campaign) == []

    def test_going_on_from_the_best_program_as_it_says(self, lab: Lab) -> None:
        """The command that it prints brings the best program; the same again is no change, more is one."""
        edit(lab, 0.6)
        said = lab.cli("try", "-m", "X = 0.6").stdout
        [restore] = [line.partition(": ")[2] for line in said.splitlines() if line.startswith("to go on")]
        edit(lab, 5.0)
        lab.git(*restore.split()[1:])
        assert lab.refused("try", "-m", "the same").startswith("no change: autoresearch/")

        edit(lab, 0.35)
        found = lab.json("try", "-m", "nearer still")
        assert (found["verdict"], submitted(lab)[-1]["lines_added"]) == ("keep", 1)

    def test_what_the_guard_refuses_is_one_sentence_and_no_record(self, lab: Lab) -> None:
        """No change, a protected file, the lab file, another file, a deleted one: nothing is recorded."""
        assert lab.refused("try", "-m", "x").startswith("no change: the files are as they are in ")
        edit(lab, 0.4)
        assert lab.refused("try").startswith("say what you are trying and why")
        assert lab.refused("try", "-m", " ").startswith("say what you are trying and why")
        lab.write("README", "x\n")
        lab.git("add", "README")
        lab.git("commit", "-qm", "x", "README")
        for path, why in (("judge.py", "protected"), ("autoresearch.toml", "protected"), ("README", "outside")):
            with (lab.root / path).open("a") as file:
                file.write("# mine\n")
            assert lab.refused("try", "-m", "x").startswith(why), path
            lab.git("checkout", "-q", path)
        (lab.root / "train.py").unlink()
        assert lab.refused("try", "-m", "x").startswith("deleted: train.py")
        lab.git("checkout", "-q", "train.py")
        assert not (lab.root / ".autoresearch/submitted").exists()

    def test_a_conflict_with_what_was_kept_since_is_a_verdict(self, make_lab: MakeLab) -> None:
        """Two people changed one line; the later change is discarded with the reason, and both can be had again."""
        lab = make_lab(train=TRAIN.replace("X = 1.0\n", "X = 1.0\nprint('one')\n"))
        lab.write(
            "train.py", (lab.root / "train.py").read_text().replace("X = 1.0\nprint('one')", "X = 0.4\nprint('two')")
        )
        assert lab.json("try", "-m", "two")["verdict"] == "keep"
        lab.write("train.py", (lab.root / "train.py").read_text().replace("X = 0.4\nprint('two')", "X = 0.2\nprint(3)"))
        found = lab.json("try", "-m", "three")
        assert found["verdict"] == "discard"
        assert "cannot be carried over" in found["reason"]

    def test_a_snapshot_that_got_lost_stops_nobody(self, lab: Lab) -> None:
        """Its commit is gone from the repository: discarded with the reason, and the next one is taken."""
        lab.run("--experiments", 1)
        edit(lab, 0.4)
        folder = lab.root / ".autoresearch/submitted"
        folder.mkdir()
        gone = "0123456789" * 4
        plan = {"hypothesis": "lost", "kind": "other", "touches": [], "submitted": gone}
        record = {"format": 1, "commit": gone, "researcher": "you", "proposal": plan, "at": 1.0}
        (folder / f"{gone}.json").write_text(json.dumps(record))

        assert lab.json("try", "-m", "X nearer")["verdict"] == "keep"
        lost = next(e for e in submitted(lab) if e["proposal"]["submitted"] == gone)
        assert (lost["verdict"], "not in this repository any more" in lost["reason"]) == ("discard", True)

    def test_an_agent_that_is_not_installed_is_no_obstacle(self, make_lab: MakeLab) -> None:
        """`run` needs its researchers and says how to get them; what a person tries asks nobody."""
        lab = make_lab(rest='[[researcher]]\nkind = "opencode"\n')
        assert "is not installed" in lab.cli("run", "--experiments", "1", PATH="/usr/bin:/bin").stderr
        edit(lab, 0.4)
        done = lab.cli("try", "-m", "X nearer to 0.3", PATH="/usr/bin:/bin")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def test_an_endless_agent_is_held_up(self, lab: Lab) -> None:
        """Beyond fifty changes without a verdict, the next one is refused."""
        folder = lab.root / ".autoresearch/submitted"
        folder.mkdir(parents=True)
        for number in range(50):
            commit = f"{number:040x}"
            plan = {"hypothesis": "x", "kind": "other", "touches": [], "submitted": commit}
            record = {"format": 1, "commit": commit, "researcher": "bot", "proposal": plan, "at": 1.0}
            (folder / f"{commit}.json").write_text(json.dumps(record))
        edit(lab, 0.4)
        assert lab.refused("try", "-m", "one more").startswith("50 changes that were handed in have no verdict yet")

    def test_work_in_a_linked_worktree_belongs_to_the_same_lab(self, lab: Lab) -> None:
        """From within it, or named with --worktree; and committed work with --since."""
        edit(lab, 0.4)
        lab.json("try", "-m", "here")
        other = lab.root.parent / "other"
        lab.git("worktree", "add", "-q", "-b", "mine", str(other))
        edit(lab, 0.35, str(other / "train.py"))

        done = lab.cli("try", "-m", "there", "--json", cwd=other)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["experiment"] == 2
        assert not (other / ".autoresearch").exists()

        lab.git("-C", str(other), "commit", "-qam", "mine")
        edit(lab, 0.31, str(other / "train.py"))
        lab.git("-C", str(other), "commit", "-qam", "more")
        assert lab.refused("try", "-m", "x", "--worktree", other).startswith("no change: the files are as they are in")
        found = lab.json("try", "-m", "committed", "--worktree", other, "--since", "main")
        assert found["experiment"] == 3
        assert lab.refused("try", "-m", "x", "--worktree", lab.root.parent).startswith(
            f"{lab.root.parent} is no checkout"
        )


class TestBesideASession:
    """A campaign runs in the lab."""

    def test_the_session_takes_it_in(self, slow: Lab) -> None:
        """It is run before what is queued, under the same campaign; the one who waits is told step by step."""
        seconds(slow, 0.5)
        night = slow.start("run", "--experiments", 6, "--campaign", "night")
        night.wait_for("#1 ")
        edit(slow, 0.31)
        done = slow.cli("try", "-m", "X nearly right")

        assert (done.returncode, done.stderr) == (0, "")
        assert " runs on cpu" in done.stdout and "keep" in done.stdout
        night.signal(signal.SIGINT)
        assert night.finish().returncode == 0
        assert [(e["campaign"], e["verdict"]) for e in submitted(slow)] == [("night", "keep")]
        assert audit(slow.root, "night") == []

    def test_ctrl_c_while_waiting_leaves_it_on_its_way(self, slow: Lab) -> None:
        """The one who waits goes; the session goes on with the change all the same."""
        slow.run("--experiments", 1, "--campaign", "night")
        seconds(slow, 2)
        night = slow.start("run", "--experiments", 6)  # not over before the one who waits, or he would go on by himself
        night.wait_for("#2 ")
        seconds(slow, 8)  # no verdict before the signal, however busy the machine
        edit(slow, 0.31)
        waiter = slow.start("try", "-m", "X nearly right")
        waiter.wait_for("will take it in", "waits for a slot", "runs on")
        waiter.signal(signal.SIGINT)
        ended = waiter.finish()

        assert ended.returncode == 2 and "it goes on without you" in ended.stderr
        seconds(slow, 0)
        night.finish()
        wait_until(lambda: bool(submitted(slow)) and submitted(slow)[0]["verdict"] is not None, "it is judged")

    def test_a_session_that_is_killed_hands_over(self, slow: Lab) -> None:
        """It dies with the change under way; the one who waits carries it out himself, with the run that goes on."""
        slow.run("--experiments", 1, "--campaign", "night")
        seconds(slow, 2)
        night = slow.start("run", "--experiments", 9)
        night.wait_for("#2 ")
        edit(slow, 0.31)
        waiter = slow.start("try", "-m", "X nearly right", "--json")
        wait_until(lambda: any(e["runs"] for e in submitted(slow)), "it runs")
        night.kill()
        seconds(slow, 0)
        ended = waiter.finish()

        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["verdict"] == "keep"
        assert len(submitted(slow)) == 1
        assert audit(slow.root, "night") == []


class TestDetached:
    """Handed in, and nobody waits."""

    def test_a_process_in_the_background_carries_it_out(self, lab: Lab) -> None:
        """It returns at once; `show` finds it by its id; `status` says what waits."""
        edit(lab, 0.4)
        handed_in = lab.json("try", "-m", "X nearer", "--detach")
        assert handed_in["verdict"] is None
        wait_until(lambda: "1 keep" in lab.cli("status").stdout, "it is judged")
        shown = lab.json("show", handed_in["id"])
        assert (shown["number"], shown["verdict"]) == (1, "keep")

    def test_killed_at_any_time_it_is_gone_on_with(self, slow: Lab) -> None:
        """The waiter and the background die while it runs; `try --waiting` finishes with one run and one verdict."""
        slow.run("--experiments", 1, "--campaign", "night")
        seconds(slow, 3)
        edit(slow, 0.31)
        slow.json("try", "-m", "X nearly right", "--detach")
        wait_until(lambda: any(e["runs"] for e in submitted(slow)), "it runs")
        end_attendants(slow)
        assert slow.json("status")["process"] is None
        seconds(slow, 0)

        done = slow.cli("try", "--waiting")
        assert done.returncode == 0, done.stderr
        [found] = submitted(slow)
        assert found["verdict"] == "keep"
        assert len({run["request"]["ordinal"] for run in found["runs"]}) == len(found["runs"])
        assert slow.cli("try", "--waiting").stdout == "nothing that was handed in waits\n"
        assert audit(slow.root, "night") == []

    @pytest.mark.slow
    def test_kills_at_any_moment(self, slow: Lab) -> None:
        """The one who tries dies after ever longer times: what he handed in is judged once, and nothing contradicts."""
        slow.run("--experiments", 1, "--campaign", "night")
        seconds(slow, 0.2)
        handed_in = 0
        for attempt in range(8):
            edit(slow, 0.5 - 0.01 * attempt)
            process = slow.start("try", "-m", f"attempt {attempt}")
            time.sleep(0.08 * (attempt + 1))
            process.kill()
            if "handed in as" in process.said():
                handed_in += 1
            assert slow.cli("try", "--waiting").returncode == 0
        found = submitted(slow)
        assert len({e["proposal"]["submitted"] for e in found}) == len(found) >= handed_in > 0
        assert all(e["verdict"] for e in found)
        assert audit(slow.root, "night") == []

    def test_what_could_not_begin_says_why(self, lab: Lab) -> None:
        """The lab changed under it: it waits, `status` quotes the sentence, and undoing the change is the cure."""
        lab.run("--experiments", 1)
        edit(lab, 0.4)
        text = (lab.root / "autoresearch.toml").read_text()
        lab.write("autoresearch.toml", text.replace("seconds = 2", "seconds = 3"))
        lab.git("commit", "-qm", "another budget", "autoresearch.toml")
        lab.json("try", "-m", "X nearer", "--detach")
        wait_until(lambda: "could not be compared" in lab.cli("status").stdout, "it says why")
        assert len(lab.json("status")["waiting"]) == 1

        lab.write("autoresearch.toml", text)
        lab.git("commit", "-qm", "as it was", "autoresearch.toml")
        assert lab.cli("try", "--waiting").returncode == 0
        assert lab.json("status")["waiting"] == []


class TestJournal:
    """`note` and `brief`."""

    def test_briefs_carry_notes(self, lab: Lab) -> None:
        """As text and as JSON, with who wrote it; a note that is too long or empty is refused."""
        lab.run("--experiments", 1)
        assert lab.cli("note", "X above 0.9 is hopeless", "--by", "Ada").returncode == 0
        brief = lab.json("brief")
        assert brief["journal"] == [{"by": "Ada", "text": "X above 0.9 is hopeless"}]
        assert (brief["number"], brief["history"]["num_attempts"]) == (2, 1)
        page = lab.cli("brief").stdout
        assert "X above 0.9 is hopeless" in page and "# Experiment 2 of campaign" in page
        assert lab.refused("note", "x" * 3000).startswith("the note has 3,000 characters")
        assert lab.refused("note", " ").startswith("the note is empty")

    def test_a_researcher_of_a_running_session_reads_it(self, make_lab: MakeLab) -> None:
        """The next brief that is written has it."""
        agent = (
            "import json, os, pathlib, time\n"
            "brief = json.load(open(os.environ['AUTORESEARCH_BRIEF']))\n"
            "text = ' '.join(entry['text'] for entry in brief['journal']) or 'nothing'\n"
            "time.sleep(0.3)\n"
            "path = pathlib.Path('train.py')\n"
            "path.write_text(path.read_text() + f'# {brief[\"number\"]}\\n')\n"
            "json.dump({'hypothesis': text, 'kind': 'other'}, open(os.environ['AUTORESEARCH_PROPOSAL'], 'w'))\n"
        )
        lab = make_lab(agent=agent)
        night = lab.start("run", "--experiments", 30)
        night.wait_for("#1 ")
        lab.cli("note", "X is all that matters")
        night.wait_for("X is all that matters")
        night.signal(signal.SIGINT)
        assert night.finish().returncode == 0
