"""A model on this machine that real coding agents can talk to: it plays a script, and costs nothing.

It speaks the four dialects of the agents' providers (Anthropic messages, OpenAI responses, chat completions, Gemini),
each as a stream, and answers nobody but 127.0.0.1. A script is a list of steps; which one is next follows from the
conversation that each request carries, so the stub has no memory and any number of agents may talk at once:

    with StubModel([Read("train.py"), Edit("train.py", "X = 1.0", "X = 0.5"), Plan({"hypothesis": "smaller"})]) as stub:
        stub.url, stub.requests
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

INPUT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS = 1000, 600, 50
"""What the stub says of every answer, the cached tokens being some of the input's."""


@dataclass(frozen=True)
class Read:
    """Look at a file, as some agents have to before they may edit it."""

    path: str


@dataclass(frozen=True)
class Edit:
    """Replace one text in a file by another."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Write:
    """Write a whole new file."""

    path: str
    text: str


@dataclass(frozen=True)
class Say:
    """Say something and end."""

    text: str


@dataclass(frozen=True)
class Fail:
    """Answer with an error of the provider."""

    status: int
    kind: str
    message: str
    times: int = 10**9
    """Requests that fail before all goes well."""


@dataclass(frozen=True)
class Call:
    """Call a tool by its name, as a server of the agent's own configuration calls it; Claude Code only."""

    tool: str
    arguments: dict[str, Any]


Step = Read | Edit | Write | Say | Call


def plan(**fields: object) -> Write:
    """Hand in a plan."""
    return Write("proposal.json", json.dumps(fields))


@dataclass
class StubModel:
    """The server; a context manager."""

    steps: Sequence[Step] | Callable[[str], Sequence[Step]]
    """A script, or one for each worktree, made from its path."""
    fail: Fail | None = None
    hang: bool = False
    """Take requests and never answer."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and body of each that was asked for an answer."""

    def __enter__(self) -> StubModel:
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(200, b"", "text/plain")

            def do_GET(self) -> None:
                self.answer(200, b'{"object": "list", "data": [], "models": []}', "application/json")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                dialect = next((d for part, d in _DIALECTS.items() if part in self.path), None)
                if dialect is None:
                    self.answer(200, b'{"input_tokens": 1, "totalTokens": 1}', "application/json")
                    return
                stub.requests.append((self.path, body))
                if stub.hang:
                    stub._over.wait()
                    return
                if stub.fail and len(stub.requests) <= stub.fail.times:
                    error = {"type": stub.fail.kind, "code": stub.fail.kind, "message": stub.fail.message}
                    whole = {"type": "error", "error": error}
                    self.answer(stub.fail.status, json.dumps(whole).encode(), "application/json")
                    return
                events = dialect(body, stub.script(json.dumps(body)))
                self.answer(200, b"".join(_sse(*event) for event in events), "text/event-stream")

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # an agent that is ended hangs up
                    super().handle()

            def answer(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def script(self, told: str) -> tuple[str, Sequence[Step]]:
        """The worktree that a conversation is about, and the script for it."""
        found = re.search(r"/[^\s\"'\\<>`]*?/worktrees/[\w.-]+", told)
        if not found:
            return "", ()
        place = found[0].rstrip(".")
        return place, self.steps(place) if callable(self.steps) else self.steps


def _sse(name: str, content: dict[str, Any] | str) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


Script = tuple[str, Sequence[Step]]
Events = list[tuple[str, dict[str, Any] | str]]


def _next(script: Script, done: int, has_tools: bool) -> Step:
    """The step after `done` tool calls; side questions (a title for the conversation) get a word."""
    _, steps = script
    return steps[done] if has_tools and done < len(steps) else Say("done")


def _path(script: Script, path: str) -> str:
    return str(Path(script[0]) / path)


def _anthropic(body: dict[str, Any], script: Script) -> Events:
    turns = [m for m in body["messages"] if m["role"] == "assistant"]
    done = sum(part["type"] == "tool_use" for m in turns if isinstance(m["content"], list) for part in m["content"])
    step = _next(script, done, any(tool.get("name") == "Edit" for tool in body.get("tools", [])))
    usage = {
        "input_tokens": INPUT_TOKENS - CACHED_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED_TOKENS,
        "output_tokens": 1,
    }
    match step:
        case Read(path):
            call = ("Read", {"file_path": _path(script, path)})
        case Edit(path, old, new):
            call = ("Edit", {"file_path": _path(script, path), "old_string": old, "new_string": new})
        case Write(path, text):
            call = ("Write", {"file_path": _path(script, path), "content": text})
        case Call(tool, arguments):
            call = (tool, arguments)
        case Say():
            call = None
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": []}
    start = {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}}
    if call:
        block: dict[str, Any] = {"type": "tool_use", "id": f"toolu_{done}", "name": call[0], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": step.text}  # type: ignore[union-attr]
    stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
    return [
        ("message_start", start),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": stop, "usage": {**usage, "output_tokens": OUTPUT_TOKENS}}),
        ("message_stop", {"type": "message_stop"}),
    ]


def _patch(script: Script, step: Edit | Write) -> str:
    """What Codex calls a patch."""
    if isinstance(step, Write):
        lines = "".join(f"+{line}\n" for line in step.text.splitlines())
        return f"*** Begin Patch\n*** Add File: {step.path}\n{lines}*** End Patch\n"
    change = "".join(f"-{line}\n" for line in step.old.splitlines())
    change += "".join(f"+{line}\n" for line in step.new.splitlines())
    return f"*** Begin Patch\n*** Update File: {step.path}\n@@\n{change}*** End Patch\n"


def _responses(body: dict[str, Any], script: Script) -> Events:
    done = sum(item.get("type") in ("function_call", "custom_tool_call") for item in body["input"])
    tools = {tool.get("name", tool["type"]): tool for tool in body.get("tools", [])}
    step = _next(script, done, bool(tools))
    item: dict[str, Any]
    match step:
        case Say(text):
            item = {
                "type": "message",
                "role": "assistant",
                "id": "m",
                "content": [{"type": "output_text", "text": text}],
            }
        case Read(path):
            item = _shell(tools, f"cat {path}", done)
        case Edit() | Write():
            patch = _patch(script, step)
            if "apply_patch" in tools and tools["apply_patch"]["type"] == "custom":
                item = {"type": "custom_tool_call", "call_id": f"c{done}", "name": "apply_patch", "input": patch}
            else:
                item = _shell(tools, f"apply_patch <<'END_OF_PATCH'\n{patch}\nEND_OF_PATCH", done)
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    return [
        ("response.created", {"type": "response.created", "response": {"id": "r"}}),
        ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}),
        (
            "response.completed",
            {"type": "response.completed", "response": {"id": "r", "output": [item], "usage": usage}},
        ),
    ]


def _shell(tools: dict[str, Any], command: str, done: int) -> dict[str, Any]:
    """A call of whichever tool runs commands."""
    if "exec_command" in tools:
        name, arguments = "exec_command", {"cmd": command}
    else:
        name = "shell_command" if "shell_command" in tools else "shell"
        arguments = {"command": command if name == "shell_command" else ["bash", "-lc", command]}
    return {"type": "function_call", "call_id": f"c{done}", "name": name, "arguments": json.dumps(arguments)}


def _chat(body: dict[str, Any], script: Script) -> Events:
    done = sum(len(m.get("tool_calls") or []) for m in body["messages"])
    step = _next(script, done, bool(body.get("tools")))
    match step:
        case Read(path):
            call = ("read", {"filePath": _path(script, path)})
        case Edit(path, old, new):
            call = ("edit", {"filePath": _path(script, path), "oldString": old, "newString": new})
        case Write(path, text):
            call = ("write", {"filePath": _path(script, path), "content": text})
        case Say():
            call = None
    delta: dict[str, Any] = {"role": "assistant"}
    if call:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        delta["tool_calls"] = [{"index": 0, "id": f"call_{done}", "type": "function", "function": function}]
    else:
        delta["content"] = step.text  # type: ignore[union-attr]
    base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }
    end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if call else "stop"}
    return [
        ("", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
        ("", {**base, "choices": [end], "usage": usage}),
        ("", "[DONE]"),
    ]


def _gemini(body: dict[str, Any], script: Script) -> Events:
    parts = [part for content in body["contents"] for part in content.get("parts", [])]
    done = sum("functionCall" in part for part in parts)
    step = _next(script, done, bool(body.get("tools")))
    part: dict[str, Any]
    match step:
        case Say(text):
            part = {"text": text}
        case Read(path):
            part = {"functionCall": {"name": "read_file", "args": {"file_path": _path(script, path)}}}
        case Edit(path, old, new):
            args = {"file_path": _path(script, path), "instruction": "edit", "old_string": old, "new_string": new}
            part = {"functionCall": {"name": "replace", "args": args}}
        case Write(path, text):
            part = {"functionCall": {"name": "write_file", "args": {"file_path": _path(script, path), "content": text}}}
    usage = {
        "promptTokenCount": INPUT_TOKENS,
        "cachedContentTokenCount": CACHED_TOKENS,
        "candidatesTokenCount": OUTPUT_TOKENS,
        "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    return [("", {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stub"})]


_DIALECTS: dict[str, Callable[[dict[str, Any], Script], Events]] = {
    "/v1/messages?": _anthropic,
    "/responses": _responses,
    "/chat/completions": _chat,
    ":streamGenerateContent": _gemini,
}
