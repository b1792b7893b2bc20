"""The real coding agents, against a model on this machine that plays a script: whole campaigns, and every way to fail.

They are taken from the folder that `scripts/install_agents.sh` fills, or from PATH. Each gets a home of its own, a
dummy key and a dead proxy, so nobody's account is touched and nothing is reached but the stub.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from autoresearch.researchers.agents import AGENTS
from tests.cli.toylab import PYTHON, Lab, MakeLab, processes_below
from tests.researchers.stub_model import Edit, Fail, Read, Say, Step, StubModel, Write, plan

FOLDER = Path(os.environ.get("AUTORESEARCH_AGENTS") or "~/.cache/autoresearch-agents").expanduser()
PLACES = os.pathsep.join([str(FOLDER / "node_modules" / ".bin"), os.environ.get("PATH", "")])

MODELS = {"claude": "sonnet", "codex": "gpt-5.1-codex", "gemini": "gemini-2.5-pro", "opencode": "stub/stub-model"}


def needs(*kinds: str) -> None:
    """Skip, with a reason, where an agent is not installed."""
    for kind in kinds:
        if shutil.which(kind, path=PLACES) is None:
            pytest.skip(f"{AGENTS[kind].title} is not installed: sh scripts/install_agents.sh {kind}")


def halfway(place: str) -> list[Step]:
    """A script for the worktree at `place`: move X towards 0.3, by more than the noise, and say so."""
    number = int(place.rsplit("-", 1)[-1])
    old = re.search(r"^X = .*$", (Path(place) / "train.py").read_text(), re.MULTILINE)
    assert old is not None
    new = f"X = {0.9 - 0.1 * number:.1f}"
    declared = plan(hypothesis=f"{new} is nearer", kind="tune", touches=["X"], cost_usd=99)
    return [Read("train.py"), Edit("train.py", old[0], new), declared, Say("X is nearer now")]


def table(kind: str, stub: StubModel, **keys: object) -> str:
    """The lab file's table of an agent whose provider is the stub."""
    arguments: list[str] = []
    if kind == "codex":  # its own provider would be tried over a web socket first, for some seconds
        provider = f'{{name="stub",base_url="{stub.url}/v1",wire_api="responses",env_key="CODEX_API_KEY"}}'
        arguments = ["-c", "model_provider=stub", "-c", f"model_providers.stub={provider}"]
    fields = {"kind": kind, "model": MODELS[kind], "arguments": arguments, **keys}
    if kind == "opencode":
        fields["pass_environment"] = ["OPENCODE_CONFIG_CONTENT", "OPENCODE_DISABLE_MODELS_FETCH"]
    return "[[researcher]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


def variables(stub: StubModel) -> dict[str, str]:
    """Dummy keys, the stub as everybody's provider, and a proxy that leads nowhere for all else."""
    options = {"baseURL": f"{stub.url}/v1", "apiKey": "dummy"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"stub-model": {"name": "stub"}}}
    return {
        "PATH": PLACES,
        "ANTHROPIC_API_KEY": "dummy",
        "ANTHROPIC_BASE_URL": stub.url,
        "CODEX_API_KEY": "dummy",
        "GEMINI_API_KEY": "dummy",
        "GOOGLE_GEMINI_BASE_URL": stub.url,
        "OPENCODE_CONFIG_CONTENT": json.dumps({"provider": {"stub": provider}}),
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }


def fields_of(lab: Lab, number: int) -> dict[str, Any]:
    """An experiment as the ledger has it."""
    return next(e for e in lab.log() if e["number"] == number)


@pytest.mark.parametrize("kind", AGENTS)
def test_a_small_campaign(make_lab: MakeLab, kind: str) -> None:
    """Edit, proposal, run, verdict, and the bill of each proposal; nothing of the user's is touched."""
    needs(kind)
    lab = make_lab()
    home = Path(lab.environment["HOME"])
    with StubModel(halfway) as stub:
        lab.configure(rest=table(kind, stub))
        lab.commit()
        before = lab.fingerprint(), {path.name for path in home.iterdir()}
        lab.run("--experiments", 2, **variables(stub))
        tokens = sum(4000 + 200 for _ in range(2))
    first, second = fields_of(lab, 1), fields_of(lab, 2)
    assert [first["verdict"], second["verdict"]] == ["keep", "keep"]
    assert first["proposal"]["hypothesis"] == "X = 0.8 is nearer" and not first["plan_drift"]
    usage = first["proposal"]["usage"]
    assert (usage["input_tokens"], usage["cached_tokens"], usage["output_tokens"]) == (4000, 2400, 200)
    assert usage["turns"] == 4 and usage["seconds"] > 0
    assert (first["proposal"]["cost_usd"] or 0) < 1  # not what the model wrote
    assert f"{kind}: 2 experiments, 2 kept" in lab.cli("status").stdout
    assert f"{tokens:,} tokens" in lab.cli("status").stdout
    assert lab.fingerprint() == before[0]
    if kind != "opencode":  # it has no folder that could be moved
        assert {path.name for path in home.iterdir()} <= before[1] | {".cache", ".config"}
    assert processes_below(lab.root) == []


def looks_back(place: str) -> list[Step]:
    """A script for a proposal, and for a review: what was learnt, written where it is asked for."""
    if not place.endswith("-desk"):
        return halfway(place)
    learnt = {"summary": "X pays all the way down to 0.3, and that is all there is.", "next_bets": ["X = 0.3 at once"]}
    return [Read("train.py"), Write("review.json", json.dumps(learnt)), Say("I have looked back")]


@pytest.mark.parametrize("kind", AGENTS)
def test_it_looks_back(make_lab: MakeLab, kind: str) -> None:
    """The same agent reads what was tried, writes the review, is paid for it, and the next brief has it."""
    needs(kind)
    lab = make_lab()
    with StubModel(looks_back) as stub:
        lab.configure(campaign="review_every = 1\n", rest=table(kind, stub))
        lab.commit()
        lab.run("--experiments", 1, **variables(stub))
    told = lab.json("journal")
    [review] = told["entries"]
    assert (review["by"], review["is_computed"], review["next_bets"]) == (kind, False, ["X = 0.3 at once"])
    assert told["reviews"]["tokens"] == review["usage"]["input_tokens"] + review["usage"]["output_tokens"] == 3150
    assert lab.json("brief")["open_ideas"][0]["idea"] == "X = 0.3 at once"
    assert processes_below(lab.root) == []


def fails_and_mends(place: str) -> list[Step]:
    """A script for one proposal: a name that is not there, and once it came back, one that is."""
    came_back = any(Path(place).parents[1].glob("sessions/*/repair.md"))
    declared = plan(hypothesis="X = 0.8 is nearer", kind="tune", touches=["X"])
    steps = [Read("train.py"), Edit("train.py", "X = 1.0\n", "X = 0.8\nprint(Y)\n"), declared]
    return [*steps, Edit("train.py", "print(Y)\n", "")] if came_back else steps


@pytest.mark.parametrize("kind", AGENTS)
def test_what_fails_its_preflight_goes_back_to_the_same_session(make_lab: MakeLab, kind: str) -> None:
    """The agent still knows what it did, mends it, and is paid for what both parts took."""
    needs(kind)
    lab = make_lab()
    home = Path(lab.environment["HOME"])
    preflight = f"[preflight]\nrun = {json.dumps([*PYTHON, 'train.py'])}\n"
    with StubModel(fails_and_mends) as stub:
        lab.configure(rest=preflight + table(kind, stub))
        lab.commit()
        before = {path.name for path in home.iterdir()}
        lab.run("--experiments", 1, **variables(stub))
        told = [json.dumps(body) for _, body in stub.requests]
    first = fields_of(lab, 1)
    assert [preflight["outcome"] for preflight in first["preflights"]] == ["crashed", "finished"]
    assert first["verdict"] == "keep" and first["proposal"]["hypothesis"] == "X = 0.8 is nearer"
    resumed = [body for body in told if "Your change came back" in body]
    assert resumed and all("X = 0.8 is nearer" in body for body in resumed)  # what it wrote itself before
    usage = first["proposal"]["usage"]
    assert usage["input_tokens"] + usage["output_tokens"] == 1050 * (4 + 2)
    if kind != "opencode":
        assert {path.name for path in home.iterdir()} <= before | {".cache", ".config"}
        assert not list((lab.root / ".autoresearch").rglob("agent-home"))


def test_a_team_shows_who_contributed(make_lab: MakeLab) -> None:
    """Two of Claude Code, one of Codex and the tuner, named on the command line; the lab file says how."""
    needs("claude", "codex")
    lab = make_lab()
    with StubModel(halfway) as stub:
        lab.configure(rest=table("claude", stub) + table("codex", stub))
        lab.commit()
        team = ("--researcher", "claude:2", "--researcher", "codex", "--researcher", "tuner")
        lab.run("--experiments", 4, *team, **variables(stub))
    whose = {e["researcher"] for e in lab.log() if e["number"]}
    assert whose == {"claude-1", "claude-2", "codex", "tuner"}
    [report] = (lab.root / ".autoresearch").rglob("report.md")
    text = report.read_text().split("## Researchers")[1].split("##")[0]
    for row in (r"claude-1 \|.*\| \$0.01 \| 4,200 \|", r"codex \|.*\| \$0.00 \| 4,200 \|", r"tuner \|.*\|  \|  \|  \|"):
        assert re.search(row, text), text


FAILURES: dict[str, tuple[list[Step], str]] = {
    "protected": ([Read("judge.py"), Edit("judge.py", "JUDGE = 1", "JUDGE = 0")], "protected: judge.py"),
    "nothing": ([Read("train.py"), Say("It is fine as it is.")], "no change"),
    "outside": ([Read("train.py"), Write("../../../outside.txt", "x"), Say("done")], "no change"),
    "refusal": ([Say("I'm sorry, but I can't help with that.")], "no change"),
}


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("claude", "protected"),
        ("claude", "outside"),
        ("claude", "refusal"),
        ("codex", "outside"),
        ("codex", "nothing"),
        ("gemini", "outside"),
        ("opencode", "outside"),
    ],
)
def test_a_session_without_a_usable_edit(make_lab: MakeLab, kind: str, what: str) -> None:
    """It is an experiment with a reason, the agent's last words are kept, and the others go on."""
    needs(kind)
    steps, reason = FAILURES[what]
    lab = make_lab()
    with StubModel(steps) as stub:
        lab.configure(rest=table(kind, stub) + '[[researcher]]\nkind = "tuner"\n')
        lab.commit()
        before = lab.fingerprint()
        lab.run("--experiments", 1, **variables(stub))
    failed = fields_of(lab, 1)
    assert (failed["researcher"], failed["verdict"]) == (kind, "crash") and reason in failed["reason"]
    assert failed["proposal"]["usage"]["output_tokens"] and not failed["runs"]
    assert what != "refusal" or "can't help" in failed["proposal"]["hypothesis"]
    assert lab.fingerprint() == before and not (lab.root / "outside.txt").exists()
    assert not (lab.root / ".autoresearch" / "outside.txt").exists()
    assert any(e["researcher"] == "tuner" and e["runs"] for e in lab.log())


TROUBLES = {
    "credit": (Fail(429, "insufficient_quota", "You exceeded your current quota"), "is out of credit"),
    "model": (Fail(404, "not_found_error", "model: it does not exist"), "cannot use the model"),
    "overload": (Fail(529, "overloaded_error", "Overloaded"), "is overloaded"),
}


@pytest.mark.parametrize(("kind", "what"), [("claude", "model"), ("claude", "overload"), ("codex", "credit")])
def test_trouble_with_the_provider(make_lab: MakeLab, kind: str, what: str) -> None:
    """One clear sentence; the agent is asked no more, and the others go on."""
    needs(kind)
    fail, words = TROUBLES[what]
    lab = make_lab()
    with StubModel(halfway, fail=fail) as stub:
        lab.configure(rest=table(kind, stub, timeout_seconds=12) + '[[researcher]]\nkind = "tuner"\n')
        lab.commit()
        said = lab.run("--experiments", 1, **variables(stub)).stdout
    failed = [e for e in lab.log() if e["researcher"] == kind]
    assert len(failed) == 1 and words in failed[0]["reason"] and words in said, failed
    assert any(e["researcher"] == "tuner" and e["runs"] for e in lab.log())


def test_a_provider_that_never_answers(make_lab: MakeLab) -> None:
    """The session is ended with everything that it started."""
    needs("claude")
    lab = make_lab()
    with StubModel(halfway, hang=True) as stub:
        lab.configure(rest=table("claude", stub, timeout_seconds=4) + '[[researcher]]\nkind = "tuner"\n')
        lab.commit()
        lab.run("--experiments", 1, **variables(stub))
        assert "no proposal within 4 s" in fields_of(lab, 1)["reason"]
        assert processes_below(lab.root) == []


def test_doctor_knows_them(make_lab: MakeLab) -> None:
    """Version, flags and login, without asking a model."""
    needs("claude", "codex")
    lab = make_lab()
    with StubModel(halfway) as stub:
        given = {**variables(stub), "CODEX_API_KEY": ""}
        said = lab.cli("doctor", "--no-measure", **given).stdout
        assert stub.requests == []
    assert re.search(r"ok +claude +Claude Code \d+\.\d+\S*, with the key in ANTHROPIC_API_KEY", said), said
    assert re.search(r"ok +codex +Codex \d+\.\d+\S*, not logged in: start `codex login` once", said), said


RATES = ("MATRIX_LR", "EMBEDDING_LR", "UNEMBEDDING_LR")


def slower(place: str) -> list[Step]:
    """A script for the pretraining lab: halve one rate."""
    name = RATES[int(place.rsplit("-", 1)[-1]) % len(RATES)]
    [line] = re.findall(rf"^{name} = .*$", (Path(place) / "train.py").read_text(), re.MULTILINE)
    value = float(line.split()[2])
    declared = plan(hypothesis=f"half the {name}", kind="tune", touches=[name], expected_effect=0.01)
    return [
        Read("train.py"),
        Edit("train.py", line, line.replace(str(value), str(value / 2), 1)),
        declared,
        Say("done"),
    ]


@pytest.mark.slow
def test_a_team_on_the_pretraining_lab(make_lab: MakeLab) -> None:
    """Claude Code, Codex and the tuner on real training runs: the report says who gave what, and what it took."""
    pytest.importorskip("torch")
    needs("claude", "codex")
    home = make_lab()
    with StubModel(slower) as stub:
        given = variables(stub)
        made = home.cli("init", "pretrain", "--lab", "pretrain", "--budget", 2, "--no-measure", "--start", "baseline")
        assert made.returncode == 0, made.stderr
        root = home.root / "pretrain"
        lab_file = (root / "autoresearch.toml").read_text().replace("baseline_runs = 4", "baseline_runs = 1")
        (root / "autoresearch.toml").write_text(lab_file + table("claude", stub) + table("codex", stub))
        home.git("-C", "pretrain", "commit", "-qam", "a team")
        team = ("--researcher", "claude", "--researcher", "codex", "--researcher", "tuner")
        ended = home.start("run", "--experiments", 3, *team, cwd=root, **given).finish(guard_seconds=400)
    assert ended.returncode == 0, ended.stderr
    [report] = (root / ".autoresearch").rglob("report.md")
    text = report.read_text().split("## Researchers")[1].split("##")[0]
    for row in (r"claude \| 1 \|.*\| \$0.01 \| 4,200 \|", r"codex \| 1 \|.*\| \$0.00 \| 4,200 \|", r"tuner \| 1 \|"):
        assert re.search(row, text), text
