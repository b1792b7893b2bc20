"""A small lab in a real repository, with a name and files that trip careless code."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from autoresearch.lab.workspace import GitWorkspace

TRAIN = "DEPTH = 4\nWIDTH = 64\n\n\ndef main():\n    print(DEPTH * WIDTH)\n\n\nRATE = 0.1\n"


class Repository:
    """A git repository for a test, driven by the real git."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        """What a git command prints."""
        command = ["git", "-c", "user.name=A Person", "-c", "user.email=person@example.org", *arguments]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file, uncommitted."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def commit(self, **files: str) -> str:
        """Write files and commit everything; the commit."""
        for name, content in files.items():
            self.write(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "by a person")
        return self.git("rev-parse", "HEAD")

    def workspace(self, campaign: str = "night", base: str = "HEAD", **keywords: object) -> GitWorkspace:
        """A campaign's view of this lab."""
        given = {"editable": ["train.py", "src/**"], "protected": ["prepare.py", "src/locked/**"], **keywords}
        return GitWorkspace(self.root, campaign, base, **given)

    def fingerprint(self) -> dict[str, str]:
        """Everything that belongs to the user: files, index, HEAD, and branches that are not ours."""
        found = {"branches": self.git("for-each-ref", "refs/heads", "--format=%(refname) %(objectname)")}
        found["branches"] = "\n".join(line for line in found["branches"].splitlines() if "/autoresearch/" not in line)
        files = [self.root / ".git" / name for name in ("index", "HEAD", "config")]
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in (".git", ".autoresearch")]
            files += [Path(folder) / name for name in names]
        return found | {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the person who runs the tests reach git."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def lab(tmp_path: Path) -> Repository:
    """A lab with one commit, in a folder with a space and an umlaut."""
    repository = Repository(tmp_path / "mein Labör")
    repository.write("src/größe b.py", "SIZE = 1\n")
    repository.write("src/locked/table.py", "TABLE = 1\n")
    repository.commit(**{"train.py": TRAIN, "prepare.py": "DATA = 1\n", "program.md": "Lower it.\n"})
    return repository


@pytest.fixture
def empty_repository(tmp_path: Path) -> Repository:
    """A repository without a commit."""
    return Repository(tmp_path / "empty")
