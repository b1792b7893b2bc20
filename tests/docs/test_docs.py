"""The documents say what is so: generated pages, trees, links, error sentences, and commands that run."""

import ast
import importlib.util
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer.main

from autoresearch.campaign import recovery, session
from autoresearch.cli.main import app
from autoresearch.lab.config import parse_config
from autoresearch.researchers.agents import AGENTS
from autoresearch.researchers.brief import PROPOSAL_SCHEMA, brief_record
from autoresearch.testing.researchers import ResearcherContract

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
AGENT_PAGES = {agent.kind: f"docs/agents/{agent.title.lower().replace(' ', '-')}.md" for agent in AGENTS.values()}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
BIN = str(Path(sys.executable).parent)

CLAUDE = """#!/bin/sh
printf '%s\\n' "$*" > "$HOME/asked" && cat > "$HOME/prompt"
sed -i.bak 's/^X = .*/X = 0.9/' run.py && rm run.py.bak
echo '{"hypothesis": "X nearer to 1", "kind": "tune", "touches": ["X"]}' > proposal.json
echo '{"type": "result", "subtype": "success", "is_error": false, "total_cost_usd": 0.25}'
"""
"""A stand-in for an agent: it edits, plans, and reports what it cost."""


def text_of(name: str) -> str:
    """A page, by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def file_in(page: str, name: str) -> str:
    """A script that a page shows in full."""
    match = re.search(rf"<!-- file: {re.escape(name)} -->\n```\w*\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)
    assert match, f"{page} shows no {name}"
    return match[1]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def strings_in_source() -> tuple[str, ...]:
    """Every piece of text in the package's own code, as the parser joins it."""
    sources = (ROOT / "src/autoresearch").rglob("*.py")
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sources)
    return tuple(
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A newcomer: an empty home, our interpreter first on PATH, an identity for git."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), BIN, os.environ["PATH"]]))
    for name, value in (("NAME", "New"), ("EMAIL", "new@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    return tmp_path


def shell(command: str, cwd: Path) -> str:
    """Run one line as a person would, and return what it printed."""
    done = subprocess.run(["sh", "-ec", command], cwd=cwd, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def lab_with(home: Path, script: str, researcher: str) -> Path:
    """A blank lab with a script from docs/researchers.md and one of the page's tables, committed."""
    shell("autoresearch init lab --lab blank", home)
    lab = home / "lab"
    (lab / script).write_text(file_in("docs/researchers.md", script), encoding="utf-8")
    tables = re.findall(r"^\[\[researcher\]\]\n(?:[^`\n]+\n)+", text_of("docs/researchers.md"), re.MULTILINE)
    [table] = [table for table in tables if f'name = "{researcher}"' in table]
    with (lab / "autoresearch.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n{table}")
    shell("git add -A && git commit -qm 'Add a researcher'", lab)
    return lab


def stand_in(home: Path, name: str) -> None:
    """Put a program that plays an agent first on PATH."""
    agent = home / "bin" / name
    agent.write_text(CLAUDE, encoding="utf-8")
    agent.chmod(agent.stat().st_mode | stat.S_IXUSR)


def attempts(lab: Path) -> list[dict]:
    """The experiments of the newest campaign, the baseline left out."""
    return json.loads(shell("autoresearch log --json", lab))[1:]


class TestReferences:
    """Facts that live in the code once."""

    @pytest.mark.parametrize("name", ["lab-file.md", "cli.md"])
    def test_generated_pages_are_what_the_code_says(self, name):
        """`python scripts/make_docs.py` would change nothing."""
        spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts/make_docs.py")
        make_docs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(make_docs)

        assert make_docs.pages()[name] == text_of(f"docs/{name}")

    def test_every_command_is_documented(self):
        """Each verb of the command line has a section in docs/cli.md."""
        verbs = typer.main.get_command(app).commands

        assert [
            f"autoresearch-{verb}" for verb in verbs if f"autoresearch-{verb}" not in anchors(ROOT / "docs/cli.md")
        ] == []

    def test_the_tree_is_the_disk(self):
        """The README names each folder at the top and each package, and no other."""
        tree = re.search(r"^```text\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)[1]
        named = [
            line.split("  ")[0] if line[0] != " " else f"src/autoresearch/{line.split()[0]}"
            for line in tree.splitlines()
        ]
        tracked = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        folders = {f"{path.split('/')[0]}/" for path in tracked if "/" in path} - {"src/"} | {"src/autoresearch/"}
        packages = {"/".join(path.split("/")[:3]) + "/" for path in tracked if re.match(r"src/autoresearch/\w+/", path)}

        assert sorted(named) == sorted(folders | packages)

    def test_layers_are_those_that_are_checked(self):
        """docs/architecture.md and AGENTS.md list the layers of pyproject.toml, in order."""
        [contract] = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
        layers = contract["layers"]

        assert "\n".join(f"    {layer}" for layer in layers) in text_of("docs/architecture.md")
        assert "\n".join(f"    {layer.replace('autoresearch.', '')}" for layer in layers) in text_of("AGENTS.md")

    @pytest.mark.parametrize("module", [recovery, session])
    def test_architecture_repeats_the_code(self, module):
        """The recovery table and the layout of `.autoresearch/` are those of the docstrings."""
        page = text_of("docs/architecture.md")
        lines = [line for line in module.__doc__.splitlines()[1:] if line.strip() and "`" not in line[:1]]

        assert [line for line in lines if line.strip() not in page] == []

    def test_brief_and_plan_have_the_documented_keys(self, tmp_path):
        """docs/researchers.md names every key of brief.json and of proposal.json."""
        keys = [*brief_record(ResearcherContract().brief(tmp_path)), *PROPOSAL_SCHEMA["properties"]]

        assert [key for key in keys if f"`{key}`" not in text_of("docs/researchers.md")] == []

    def test_troubles_are_those_of_the_code(self):
        """Each heading in docs/troubleshooting.md that quotes a sentence quotes one that is there."""
        headings = re.findall(r"^### (.*)$", text_of("docs/troubleshooting.md"), re.MULTILINE)
        quoted = [title for title in headings if title[0].islower()]
        pieces = [piece.strip(" `") for title in quoted for piece in title.split("…") if len(piece.strip()) > 2]

        assert len(quoted) > 20
        assert [piece for piece in pieces if not any(piece in text for text in strings_in_source())] == []


class TestPages:
    """What holds for every page."""

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_links_resolve(self, page):
        """Every link within the repository leads to a file, and to a heading in it."""
        broken = []
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(target)

        assert broken == []

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_no_page_names_a_developers_machine(self, page):
        """Paths that exist on one machine only, and folders that never ship, stay out."""
        own = re.findall(r"/(?:home|Users|root|tmp|opt)/\S*", page.read_text(encoding="utf-8"))

        assert own == []

    def test_the_readme_is_short(self):
        """Somebody reads all of it."""
        assert len(text_of("README.md").split()) <= 800


class TestExamples:
    """What a page tells people to type works."""

    def test_the_quickstart_runs(self, home):
        """The commands marked as tested lead from an empty folder to a report."""
        blocks = re.findall(
            r"<!-- tested -->\n```console\n(.*?)^```", text_of("docs/quickstart.md"), re.DOTALL | re.MULTILINE
        )
        commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
        folder = home
        printed = ""
        for command in commands:
            if command.startswith("cd "):
                folder /= shlex.split(command)[1]
            else:
                printed = shell(command, folder)

        assert len(commands) >= 6
        assert Path(printed.strip()).read_text(encoding="utf-8").startswith("# my-lab / ")

    def test_trying_by_hand_goes_as_shown(self, home):
        """The commands of docs/inside-an-agent.md do what the page says, each after an edit of the program."""
        page = text_of("docs/inside-an-agent.md")
        blocks = re.findall(r"<!-- tested -->\n```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
        shell("autoresearch init lab --lab blank", home)
        lab = home / "lab"
        program, said = lab / "run.py", []
        for number, command in enumerate(commands):
            if command.startswith("autoresearch try"):
                program.write_text(re.sub(r"X = \S+", f"X = {0.1 + number}", program.read_text()))
            said.append(shell(command, lab))
        shell("autoresearch try --waiting", lab)  # the second one, or whatever of it is left
        deadline = time.monotonic() + 60
        while sum(each["verdict"] is not None for each in attempts(lab)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)

        assert [each["verdict"] for each in attempts(lab)] == ["keep", "discard"]
        assert all(line in said[0] for line in ("to go on from the best program: ", "to have this change again at"))
        assert "Y above 1 is hopeless" in said[-1]

    def test_the_readme_says_the_same(self):
        """The README's commands without make are those that the demo runs."""
        demo = text_of("scripts/demo.sh")

        assert "--lab pretrain" in demo
        assert all(
            f"$ {line}" in text_of("README.md") for line in ("autoresearch init my-lab --lab pretrain", "cd my-lab")
        )

    def test_the_least_agent_researches(self, home):
        """The twenty lines of docs/researchers.md propose, declare their plan, and are measured."""
        lab = lab_with(home, "agent.py", "walker")
        shell("autoresearch run --experiments 3", lab)
        measured = [each for each in attempts(lab) if each["runs"]]

        assert len(file_in("docs/researchers.md", "agent.py").splitlines()) <= 20
        assert len(measured) == 3
        assert {(each["researcher"], each["plan_drift"]) for each in measured} == {("walker", "")}

    def test_claude_code_is_asked_as_shown(self, home):
        """One command, no table: it gets instructions and brief, no shell, and its cost stands in the ledger."""
        stand_in(home, "claude")
        shell("autoresearch init lab --lab blank", home)
        lab = home / "lab"
        assert "$ autoresearch run --researcher claude\n" in text_of(AGENT_PAGES["claude"])
        shell("autoresearch run --researcher claude --experiments 1", lab)
        first = next(each for each in attempts(lab) if each["runs"])

        assert (first["proposal"]["hypothesis"], first["proposal"]["cost_usd"]) == ("X nearer to 1", 0.25)
        assert "--tools Read,Edit,Write,Grep,Glob" in (home / "asked").read_text()
        assert "\n# Experiment " in (home / "prompt").read_text()

    def test_any_other_agent_is_asked_as_shown(self, home):
        """The script of docs/researchers.md hands the brief over, and asks for no permission."""
        stand_in(home, "aider")
        lab = lab_with(home, "aider_researcher.sh", "aider")
        shell("autoresearch run --experiments 1", lab)
        first = next(each for each in attempts(lab) if each["runs"])

        assert first["researcher"] == "aider"
        assert "--yes-always --no-auto-commits" in (home / "asked").read_text()

    @pytest.mark.parametrize(
        ("page", "kinds"),
        [
            ("docs/agents.md", ["claude", "tuner"]),
            (AGENT_PAGES["claude"], ["claude"]),
            (AGENT_PAGES["codex"], ["codex", "codex"]),
            (AGENT_PAGES["gemini"], ["gemini"]),
            (AGENT_PAGES["opencode"], ["opencode"]),
            ("docs/agents/api.md", ["api", "api", "api", "api"]),
        ],
    )
    def test_tables_of_agents_are_valid(self, page, kinds):
        """Each table that a page on agents shows is one that the lab file accepts, and names who it is about."""
        blocks = re.findall(r"^```toml\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
        minimal = {"lab": {"run": "x", "editable": ["x"]}, "metric": {"name": "x", "direction": "min"}}
        found = [
            section.kind
            for block in blocks
            for section in parse_config({**minimal, "budget": {"seconds": 1}, **tomllib.loads(block)}).researcher
        ]

        assert found == kinds

    def test_json_of_agents_is_json(self):
        """A file that a page shows can be copied."""
        blocks = re.findall(r"^```json\n(.*?)^```", text_of(AGENT_PAGES["opencode"]), re.MULTILINE | re.DOTALL)

        assert [list(json.loads(block)) for block in blocks] == [["provider"]]

    @pytest.mark.parametrize("kind", AGENTS)
    def test_agents_are_installed_as_the_code_says(self, kind):
        """Its page and `autoresearch doctor` name the same package, version, login and keys."""
        agent, page = AGENTS[kind], text_of(AGENT_PAGES[kind])
        login = re.match(r"start `([^`]*)`", agent.login)[1]

        assert f"$ {agent.install}\n" in page
        assert f"Tried with {agent.version}.\n" in page
        assert re.search(rf"(\$ |`){re.escape(login)}[`\n]", page)
        assert [key for key in agent.keys if key != "ANTHROPIC_AUTH_TOKEN" and key not in page] == []

    @pytest.mark.parametrize("kind", [*AGENTS, "api"])
    def test_each_agent_has_a_page_of_the_same_shape(self, kind):
        """Install, one command, what it printed with a script for a model, bill, settings, limits and traps."""
        name = AGENT_PAGES.get(kind, "docs/agents/api.md")
        page = text_of(name)
        install, *others = re.findall(r"^## (.*)$", page, re.MULTILINE)
        [command] = re.findall(r"^## One command\n\n```console\n\$ (.*)\n```", page, re.MULTILINE)

        assert install.startswith("Install and ")
        assert others == [
            "One command",
            "What you see",
            "Its session and its bill",
            "Settings",
            "What it can and cannot do",
            "Traps",
        ]
        assert f"({name.removeprefix('docs/')})" in text_of("docs/agents.md")
        assert command.startswith(f"autoresearch run --researcher {'qwen' if kind == 'api' else kind}")
        assert "a script on the same machine" in page
