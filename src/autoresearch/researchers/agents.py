"""The coding agents that AutoResearch knows how to start: their flags, variables and cures, as data.

Each gets tools to read and edit, none for the web and, where it can do without one, no shell; asks nobody; keeps
nothing of the session; reads no settings, servers or memories of its user beyond his login, as far as it has flags for
that. Flags change from month to month: `autoresearch doctor` looks each of `flags` up in the installed version's own
help.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from autoresearch.domain.usage import Price
from autoresearch.researchers.agent_output import (
    Event,
    Said,
    read_claude,
    read_codex,
    read_gemini,
    read_opencode,
)


@dataclass(frozen=True)
class Agent:
    """One coding agent; `{model}` and `{effort}` are filled in, and left out with their flag when nobody sets them."""

    kind: str
    """Its name in the lab file."""
    title: str
    """Its name in sentences."""
    program: str
    version: str
    """The versions that this was tried with."""
    install: str
    arguments: tuple[str, ...]
    read: Callable[[Iterable[Event]], Said]
    login: str
    """What a person does who is logged out."""
    model: tuple[str, ...] = ("--model", "{model}")
    effort: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    """What has to stand behind everything else."""
    forgets: tuple[str, ...] = ()
    """Flags of a session that is not kept."""
    resumes: tuple[str, ...] = ()
    """What goes on with a session that was kept, by its name `{session}`; empty when the agent cannot."""
    counts_session: bool = False
    """Whether the tokens that it tells are those of the whole session, and not of this start."""
    passes: tuple[str, ...] = ()
    """Variables that lead it to its provider."""
    sets: Mapping[str, str] = field(default_factory=dict)
    confines_itself: bool = False
    """It runs commands in a sandbox of its own, which may not be made within ours."""
    keys: tuple[str, ...] = ()
    """Variables any of which replaces a login, so that the user's own folder is not needed at all."""
    folder: str = ""
    """The variable that moves its own folder elsewhere; a fresh one for each session when there is a key."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Files that it needs in a fresh folder, by path."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Variables under which it expects another's content."""
    help: tuple[str, ...] = ("--help",)
    flags: tuple[str, ...] = ()
    """What its help has to name."""
    status: tuple[str, ...] = ()
    """Arguments that say without a model, and without costs, whether it is logged in; exit status 0 means yes."""
    logins: tuple[str, ...] = ()
    """Files below the home folder any of which a login leaves."""
    cause: str = ""
    """A pattern whose group is the cause of a failure, in the lines of its log; empty where its complaint says it."""
    models: str = "set `model` of this researcher to another"
    """What a person does whose model is not there."""

    def command(
        self,
        program: Iterable[str],
        model: str,
        effort: str,
        more: Iterable[str],
        *,
        keeps: bool = False,
        session: str = "",
    ) -> list[str]:
        """The whole command line; the prompt goes to its standard input.

        Args:
            program: How it is started, when not by its own name.
            model: The model; the agent's own choice if empty.
            effort: How hard it is to think; the agent's own choice if empty.
            more: Further arguments.
            keeps: Whether it may be gone on with.
            session: What to go on with; a new session if empty.
        """
        chosen = [part.format(model=model) for part in self.model] if model else []
        chosen += [part.format(effort=effort) for part in self.effort] if effort else []
        forgets = () if keeps else self.forgets
        resumed = [part.format(session=session) for part in self.resumes] if session else []
        return [*(tuple(program) or (self.program,)), *self.arguments, *forgets, *chosen, *more, *resumed, *self.last]


NETWORK = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""Variables that lead through a proxy."""

CLAUDE = Agent(
    kind="claude",
    title="Claude Code",
    program="claude",
    version="2.1",
    install="npm install -g @anthropic-ai/claude-code",
    # No shell among the tools: then it needs no permission, works as root, and cannot train on its own.
    arguments=(
        "-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "acceptEdits",
        "--tools", "Read,Edit,Write,Grep,Glob", "--max-turns", "60", "--strict-mcp-config", "--setting-sources", "",
    ),
    forgets=("--no-session-persistence",),
    resumes=("--resume", "{session}"),
    effort=("--effort", "{effort}"),
    read=read_claude,
    login="start `claude` once and log in, or set ANTHROPIC_API_KEY",
    passes=(
        "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL", "CLAUDE_CONFIG_DIR",
        "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "AWS_REGION", "AWS_PROFILE",
        "AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_VERTEX_PROJECT_ID", "CLOUD_ML_REGION", *NETWORK,
    ),
    sets={
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_MAX_RETRIES": "3",
    },
    keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    folder="CLAUDE_CONFIG_DIR",
    flags=(
        "--output-format", "--verbose", "--permission-mode", "--tools", "--strict-mcp-config", "--setting-sources",
        "--no-session-persistence", "--resume", "--model", "--effort",
    ),
    status=("auth", "status"),
    logins=(".claude/.credentials.json",),
)  # fmt: skip

CODEX = Agent(
    kind="codex",
    title="Codex",
    program="codex",
    version="0.169",
    install="npm install -g @openai/codex",
    # Its way to read and edit is a shell, so it works in its own sandbox: it may write in the worktree and in its own
    # temporary folder only (not in /tmp, where somebody's lab may lie), and reach no network.
    arguments=(
        "exec", "--json", "--ignore-user-config", "--skip-git-repo-check", "--sandbox",
        "workspace-write", "-c", 'approval_policy="never"',
        "-c", "sandbox_workspace_write.exclude_slash_tmp=true", "-c", "check_for_update_on_startup=false",
        "-c", 'web_search="disabled"',
    ),
    effort=("-c", 'model_reasoning_effort="{effort}"'),
    last=("-",),
    forgets=("--ephemeral",),
    resumes=("resume", "{session}"),
    counts_session=True,
    read=read_codex,
    login="start `codex login` once, or set CODEX_API_KEY",
    passes=("CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME", *NETWORK),
    confines_itself=True,
    keys=("CODEX_API_KEY", "OPENAI_API_KEY"),
    folder="CODEX_HOME",
    renamed={"CODEX_API_KEY": "OPENAI_API_KEY"},
    help=("exec", "--help"),
    flags=("--json", "--ephemeral", "--ignore-user-config", "--skip-git-repo-check", "--sandbox", "--model"),
    status=("login", "status"),
    logins=(".codex/auth.json",),
)  # fmt: skip

GEMINI = Agent(
    kind="gemini",
    title="Gemini CLI",
    program="gemini",
    version="0.61",
    install="npm install -g @google/gemini-cli",
    arguments=("--output-format", "stream-json", "--approval-mode", "auto_edit", "--skip-trust"),
    resumes=("--resume", "{session}"),
    read=read_gemini,
    login="start `gemini` once and log in, or set GEMINI_API_KEY",
    passes=(
        "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_USE_VERTEXAI",
        "GOOGLE_GENAI_USE_GCA", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_APPLICATION_CREDENTIALS",
        "GEMINI_CLI_HOME", *NETWORK,
    ),
    sets={"GEMINI_TELEMETRY_ENABLED": "false"},
    keys=("GEMINI_API_KEY",),
    folder="GEMINI_CLI_HOME",
    settings={".gemini/settings.json": json.dumps({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True},
        "tools": {"exclude": ["web_fetch", "google_web_search", "invoke_agent"]},
    })},
    flags=("--output-format", "--approval-mode", "--skip-trust", "--resume", "--model"),
    logins=(".gemini/oauth_creds.json", ".gemini/gemini-credentials.json"),
)  # fmt: skip

_OPENCODE_KEYS = (
    "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "OPENCODE_API_KEY",
)  # fmt: skip

OPENCODE = Agent(
    kind="opencode",
    title="opencode",
    program="opencode",
    version="1.18",
    install="npm install -g opencode-ai",
    # What it says of a model that it does not have is "server error", and only its log says more.
    arguments=("run", "--format", "json", "--print-logs", "--log-level", "ERROR"),
    resumes=("--session", "{session}"),
    effort=("--variant", "{effort}"),
    read=read_opencode,
    login="start `opencode auth login` once, or set your provider's key",
    passes=(*_OPENCODE_KEYS, "OPENCODE_AUTH_CONTENT", "OPENCODE_CONFIG", *NETWORK),
    keys=_OPENCODE_KEYS,
    sets={
        "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_SHARE": "1",
        # It allows everything that is not denied.
        "OPENCODE_PERMISSION": json.dumps({
            "edit": "allow", "read": "allow", "glob": "allow", "grep": "allow", "list": "allow", "bash": "deny",
            "task": "deny", "webfetch": "deny", "websearch": "deny", "external_directory": "deny",
        }),
    },
    help=("run", "--help"),
    flags=("--format", "--session", "--model", "--variant", "--print-logs", "--log-level"),
    logins=(".local/share/opencode/auth.json",),
    cause=r'message=failed ref=\S+ error="((?:[^"\\]|\\.)*)"',
    models="name one of those that `opencode models` lists once you are logged in",
)  # fmt: skip

AGENTS: Mapping[str, Agent] = {agent.kind: agent for agent in (CLAUDE, CODEX, GEMINI, OPENCODE)}
"""By kind."""

PRICES_OF = "2026-06"
PRICES: Mapping[str, Price] = {
    "gpt-5": Price(1.25, 0.125, 10.0),
    "gpt-5-codex": Price(1.25, 0.125, 10.0),
    "gpt-5-mini": Price(0.25, 0.025, 2.0),
    "gpt-5.1": Price(1.25, 0.125, 10.0),
    "gpt-5.1-codex": Price(1.25, 0.125, 10.0),
    "gpt-5.2": Price(1.75, 0.175, 14.0),
    "gpt-5.2-codex": Price(1.75, 0.175, 14.0),
    "gpt-5.3-codex": Price(1.75, 0.175, 14.0),
    "gpt-5.4": Price(2.5, 0.25, 15.0),
    "gpt-5.4-mini": Price(0.75, 0.075, 4.5),
    "gpt-5.5": Price(5.0, 0.5, 30.0),
    "gemini-2.5-pro": Price(1.25, 0.125, 10.0),
    "gemini-2.5-flash": Price(0.3, 0.03, 2.5),
}
"""List prices of prompts below 200,000 tokens, of `PRICES_OF`, for agents that name no figure of their own: those of
OpenAI as in `data/tables/copilot/models-and-pricing.yml` of github.com/github/docs, those of Google as in its own list.
A price in the lab file goes before; a model that is in neither costs "unknown"."""


def price_of(model: str) -> Price | None:
    """The list price of a model, with or without its provider's name; None when it is not in the table."""
    return PRICES.get(model.rsplit("/", 1)[-1].lower())
