"""An OpenAI-compatible endpoint on this machine whose answers are listed beforehand, in any state of health.

    with ChatStub(says("…"), Reply(503, {"error": "overloaded"}, {"retry-after": "0"})) as stub:
        stub.url, stub.requests

Each request gets the next answer, and the last one is repeated. An answer may be a function of the request.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

INPUT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS = 3000, 600, 50


@dataclass(frozen=True)
class Reply:
    """One answer, sent as it is."""

    status: int
    content: Any
    """Bytes, or what is sent as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    """Nothing is sent until the stub ends."""


Answer = Reply | Callable[[dict[str, Any]], Reply]


def says(text: str, finish: str = "stop", **usage: int) -> Reply:
    """A model's answer, with the tokens that it took."""
    counted = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, **usage}
    counted["prompt_tokens_details"] = {"cached_tokens": CACHED_TOKENS}  # type: ignore[assignment]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Reply(200, {"id": "1", "model": "stub-1", "choices": [choice], "usage": counted})


class ChatStub:
    """Serves while the block lasts."""

    def __init__(self, *answers: Answer, models: tuple[str, ...] | None = ("stub-1",)) -> None:
        self._answers = list(answers)
        self._models = models
        self._ending = threading.Event()
        self.requests: list[dict[str, Any]] = []
        """Bodies of what was asked, in order."""
        self.keys: list[str] = []
        """The key that came with each, as sent."""

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ChatStub:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.keys.append(self.headers.get("authorization", ""))
                listed = {"data": [{"id": name} for name in stub._models or ()]}
                self._send(Reply(404, {}) if stub._models is None else Reply(200, listed))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                answer = stub._answers[min(len(stub.requests), len(stub._answers) - 1)]
                stub.keys.append(self.headers.get("authorization", ""))
                stub.requests.append(body)
                self._send(answer if isinstance(answer, Reply) else answer(body))

            def _send(self, reply: Reply) -> None:
                if reply.hangs:
                    stub._ending.wait()
                    return
                data = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
                with contextlib.suppress(OSError):
                    self.send_response(reply.status)
                    for name, value in {"content-length": str(len(data)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
