"""Files of a hub dataset arrive whole, whatever breaks on the way, and no byte is fetched twice without need."""

import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labs.pretrain_lab import LAB, load_script, parquet, run_script

np = pytest.importorskip("numpy")

REPO = "somebody/stories"


class Hub(ThreadingHTTPServer):
    """A stand-in for the hub on the loopback: HEAD, GET, Range, redirects; it can fail in every way that lines do."""

    def __init__(self, files, **faults):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = files
        self.log = []
        """(name, first byte asked for, bytes sent) of every GET."""
        self.cuts = {name: list(cuts) for name, cuts in faults.get("cuts", {}).items()}
        """Bytes after which an answer breaks off, one for each GET of that file."""
        self.damage = list(faults.get("damage", ()))
        self.stall = faults.get("stall")
        """Send half of each file, set this event's neighbour, and wait."""
        self.has_ranges = faults.get("has_ranges", True)
        self.has_checksums = faults.get("has_checksums", True)
        self.redirects = faults.get("redirects", False)
        self.halfway = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self):
        """Address for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    """Answers for the files of one dataset repository."""

    def log_message(self, *_):
        """Keep test output quiet."""

    def do_HEAD(self):
        """Answer with size and content."""
        self.answer(body=False)

    def do_GET(self):
        """Answer with the file, or the part asked for."""
        self.answer(body=True)

    def answer(self, *, body):
        """Send headers and, for GET, the bytes."""
        hub = self.server
        elsewhere = self.path.startswith("/elsewhere/")
        name = self.path.removeprefix("/elsewhere/") if elsewhere else self.path.split("/resolve/main/")[-1]
        content = hub.files.get(name)
        if content is None:
            self.send_error(404)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        if hub.redirects and not elsewhere:
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{name}")
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{sha256}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0]) if hub.has_ranges else 0
        end = len(content)
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{sha256}"' if hub.has_checksums else f'W/"{len(content):x}-1"')
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        if name in hub.damage:
            hub.damage.remove(name)
            content = content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
        if hub.cuts.get(name):
            end = min(end, start + hub.cuts[name].pop(0))
        if hub.stall:
            end = len(content) // 2
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(content[start:end])
            hub.log.append((name, start, end - start))
            if hub.stall:
                hub.halfway.set()
                hub.stall.wait(60)


@pytest.fixture(scope="module")
def hub():
    """The lab's hub.py as a module."""
    return load_script("hub")


@pytest.fixture
def serve(monkeypatch):
    """Start a hub with files and faults, and point the module at it."""
    started = []

    def start(files, **faults):
        server = Hub(files, **faults)
        started.append(server)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def fetch(hub, folder, names=("a.bin",), **arguments):
    """Fetch into a folder without waiting between attempts; returns the contents and what was said."""
    said = []
    paths = hub.fetch(REPO, names, folder, say=said.append, pause=lambda _: None, **arguments)
    return [path.read_bytes() for path in paths], said


CONTENT = np.random.default_rng(0).bytes(3_000_000)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 70_000), max_size=6))
def test_broken_lines_cost_no_byte(hub, cuts):
    """However often a line breaks, the file arrives whole and every byte was sent once."""
    content = CONTENT[:100_000]
    server = Hub({"a.bin": content}, cuts={"a.bin": cuts})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.endpoint)
        patch.setenv("NO_PROXY", "127.0.0.1")
        assert fetch(hub, Path(folder))[0] == [content]
    server.shutdown()
    server.server_close()
    assert sum(sent for _, _, sent in server.log) == len(content)


def test_a_killed_download_goes_on_where_it_was(hub, serve, tmp_path):
    """After kill -9 in mid-file, another process asks for the rest only."""
    server = serve({"a.bin": CONTENT}, stall=threading.Event())
    code = f"import hub, pathlib; hub.fetch({REPO!r}, ['a.bin'], pathlib.Path({str(tmp_path)!r}), say=print)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=LAB)
    assert server.halfway.wait(30)
    part = wait_for_part(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.stall.set()
    server.stall = None
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    contents, said = fetch(hub, tmp_path)
    assert contents == [CONTENT]
    assert server.log[-1] == ("a.bin", have, len(CONTENT) - have)
    assert "already here" in said[0]


def wait_for_part(folder):
    """Wait until something of a file has been written, and return where."""
    for _ in range(600):
        for part in folder.glob("*.part"):
            if part.stat().st_size:
                return part
        threading.Event().wait(0.05)
    raise AssertionError("nothing arrived")


def test_what_has_arrived_needs_no_network(hub, serve, tmp_path):
    """A whole file is taken as it is, even where the hub is gone."""
    server = serve({"sub/a.bin": CONTENT})
    fetch(hub, tmp_path, ["sub/a.bin"])
    server.files.clear()
    asked = len(server.log)
    assert fetch(hub, tmp_path, ["sub/a.bin"])[0] == [CONTENT]
    assert len(server.log) == asked


def test_a_file_that_changed_at_the_hub_is_not_mixed(hub, serve, tmp_path):
    """Half of an old version is never continued with the new one."""
    server = serve({"a.bin": CONTENT[:90_000]}, cuts={"a.bin": [30_000] + [0] * 9})
    with pytest.raises(hub.HubError, match="what has arrived is kept"):
        fetch(hub, tmp_path)
    server.files["a.bin"], server.cuts = CONTENT[90_000:200_000], {}
    assert fetch(hub, tmp_path)[0] == [CONTENT[90_000:200_000]]
    assert server.log[-1][1] == 0


@pytest.mark.parametrize("redirects", [False, True])
def test_damage_on_the_way_is_noticed_and_cured(hub, serve, tmp_path, redirects):
    """A file whose SHA-256 is not the hub's is fetched once more, whether the hub sends us on or not."""
    server = serve({"a.bin": CONTENT}, damage=["a.bin"], redirects=redirects)
    assert fetch(hub, tmp_path)[0] == [CONTENT]
    assert [start for _, start, _ in server.log] == [0, 0]
    assert hub.known_sha256(tmp_path / "a.bin") == hashlib.sha256(CONTENT).hexdigest()


def test_damage_that_stays_is_one_sentence(hub, serve, tmp_path):
    """Twice damaged is given up, with both hashes and a way out, and nothing damaged is left to be trusted."""
    serve({"a.bin": CONTENT}, damage=["a.bin"] * 2)
    with pytest.raises(hub.HubError, match=r"a\.bin arrived damaged twice .*SHA-256.*run the same command again later"):
        fetch(hub, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_hash_the_caller_checks(hub, serve, tmp_path):
    """A mirror that tells no hash: what the caller cannot read is fetched once more."""
    server = serve({"a.bin": CONTENT}, damage=["a.bin"], has_checksums=False)

    def check(path):
        if path.read_bytes() != CONTENT:
            raise ValueError("not what it should be")

    assert fetch(hub, tmp_path, check=check)[0] == [CONTENT]
    assert len(server.log) == 2


def test_a_server_without_ranges_is_asked_for_the_whole(hub, serve, tmp_path):
    """Where a file cannot be continued, it is fetched from its first byte, not glued together."""
    serve({"a.bin": CONTENT}, cuts={"a.bin": [1_000_000]}, has_ranges=False)
    assert fetch(hub, tmp_path)[0] == [CONTENT]


def test_two_processes_fetch_once(hub, serve, tmp_path):
    """Whoever comes second waits, and finds the file there."""
    server = serve({"a.bin": CONTENT})
    both = [threading.Thread(target=fetch, args=(hub, tmp_path)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert len(server.log) == 1


def test_a_full_disk_is_said_before_anything_is_fetched(hub, serve, tmp_path, monkeypatch):
    """The sizes of all files are known first: nobody waits an hour to hear of a full disk."""
    server = serve({"a.bin": CONTENT, "b.bin": CONTENT})
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 4_000_000, 4_000_000)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(hub.HubError, match=r"0\.0 GB more at .* free some, take fewer --shards"):
        fetch(hub, tmp_path, ["a.bin", "b.bin"])
    assert not server.log


def test_a_file_that_does_not_exist_is_asked_for_once(hub, serve, tmp_path):
    """Not found is an answer: it is told at once, with the file's name."""
    serve({})
    waits = []
    with pytest.raises(hub.HubError, match=r"could not download a\.bin of somebody/stories .*Not Found"):
        hub.fetch(REPO, ["a.bin"], tmp_path, say=print, pause=waits.append)
    assert not waits


# ---------------------------------------------------------------------------------------------------------------------
# prepare.py on a hub


def prepare_from(server, tmp_path, dataset="tinystories", amount=("--shards", 1)):
    """Run prepare.py against a stand-in hub."""
    sizes = ["--vocab-size", 300, "--sequence-length", 32, "--eval-tokens", 512]
    where = ["--dataset", dataset, *amount, "--data-dir", tmp_path / dataset]
    return run_script("prepare.py", *where, *sizes, HF_ENDPOINT=server.endpoint, XDG_CACHE_HOME=tmp_path / "cache")


def test_a_broken_download_is_taken_up_and_kept(serve, tmp_path):
    """TinyStories: the line breaks, preparing succeeds all the same, and another run fetches nothing."""
    prepare = load_script("prepare")
    train, validation = prepare.TINYSTORIES_TRAIN[0], prepare.TINYSTORIES_VALIDATION
    server = serve({train: parquet(1), validation: parquet(2)}, cuts={train: [1000]})
    result = prepare_from(server, tmp_path)
    assert result.returncode == 0, result.stderr
    assert [start for name, start, _ in server.log if name == train] == [0, 1000]
    fetched = len(server.log)
    (tmp_path / "tinystories" / "manifest.json").unlink()
    assert prepare_from(server, tmp_path).returncode == 2  # half a folder: refused, not repaired in silence
    assert len(server.log) == fetched


def test_a_damaged_shard_is_fetched_once_more(serve, tmp_path):
    """A ClimbMix shard that arrives damaged is downloaded again without being asked; splits have pinned shards."""
    names = ["shard_00000.parquet", "shard_06542.parquet", "shard_06541.parquet"]
    server = serve({name: parquet(i) for i, name in enumerate(names)}, damage=[names[0]], has_checksums=False)
    result = prepare_from(server, tmp_path, "climbmix")
    assert result.returncode == 0, result.stderr
    assert sorted(name for name, _, _ in server.log) == sorted([names[0], *names])


def test_a_shard_that_the_disk_damaged_is_named_and_fetched_anew(serve, tmp_path):
    """Same size, other bytes: the hash noted when it arrived tells, and the same command again cures it."""
    names = ["shard_00000.parquet", "shard_06542.parquet", "shard_06541.parquet"]
    server = serve({name: parquet(i) for i, name in enumerate(names)})
    assert prepare_from(server, tmp_path, "climbmix").returncode == 0
    shard = next((tmp_path / "cache").rglob(names[0]))
    content = shard.read_bytes()
    shard.write_bytes(content[:9000] + content[9000:10000].replace(b"e", b"o") + content[10000:])
    shutil.rmtree(tmp_path / "climbmix")
    result = prepare_from(server, tmp_path, "climbmix")
    assert result.returncode == 2
    assert f"{names[0]} is no longer what was fetched" in result.stderr
    assert prepare_from(server, tmp_path, "climbmix").returncode == 0


def test_shards_follow_from_the_tokens_that_a_run_reads(serve, tmp_path):
    """The first shard tells how much text there is in one, and so how many are needed; no more are fetched."""
    names = [*(f"shard_{n:05d}.parquet" for n in range(9)), "shard_06542.parquet", "shard_06541.parquet"]
    server = serve({name: parquet(i) for i, name in enumerate(names)})
    result = prepare_from(server, tmp_path, "climbmix", ("--tokens", 20_000))
    assert result.returncode == 0, result.stderr
    assert len({name for name, _, _ in server.log}) == 3 + 2  # 36 kB each, so at least 7,200 tokens
    manifest = json.loads((tmp_path / "climbmix" / "manifest.json").read_text())
    assert manifest["splits"]["train"]["tokens"] >= 20_000


def test_an_unreachable_hub_is_one_sentence(serve, tmp_path):
    """A hub that does not have the file is one line with three ways out."""
    result = prepare_from(serve({}), tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "set HF_ENDPOINT to a mirror, or use --dataset stdlib" in result.stderr
