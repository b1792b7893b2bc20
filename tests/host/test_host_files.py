"""Whole files, and reads that cannot be made endless."""

import hashlib
import os
import sys

import pytest

from autoresearch.host import files


def test_a_write_replaces_the_whole_file(tmp_path):
    """No draft is left, and nothing of a longer predecessor."""
    files.write_text(tmp_path / "a", "long long text")
    files.write_text(tmp_path / "a", "short")
    assert (tmp_path / "a").read_text() == "short"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """A reader never sees a half."""
    files.write_json(tmp_path / "a", {"x": 1})
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a", {"x": object()})
    assert files.read_json(tmp_path / "a") == {"x": 1}


def test_reserved_space_is_used_and_cut_to_size(tmp_path):
    """The reserve of a file becomes the file."""
    files.reserve(tmp_path / "a", 5000)
    files.write_json(tmp_path / "a", {})
    assert (tmp_path / "a").read_text() == "{}"


def test_read_regular_is_bounded_and_takes_nothing_but_files(tmp_path):
    """A folder, an absent file and a link are the same as nothing."""
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert files.read_regular(tmp_path / "a", 4) == b"0123"
    assert [files.read_regular(tmp_path / name) for name in ("none", "link", ".")] == [None, None, None]


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_read_regular_does_not_wait_for_a_pipe(tmp_path):
    """A pipe that nobody writes to does not hang the reader."""
    os.mkfifo(tmp_path / "pipe")
    assert files.read_regular(tmp_path / "pipe") is None


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "{'a': 1}"])
def test_read_json_takes_objects_only(tmp_path, text):
    """Anything but a JSON object is None, never an exception."""
    (tmp_path / "a").write_text(text, encoding="utf-8")
    assert files.read_json(tmp_path / "a") is None


def test_tail_hash_and_free_space(tmp_path):
    """The small readers agree with the plain way."""
    (tmp_path / "a").write_bytes(b"0123456789")
    assert files.read_tail(tmp_path / "a", 3) == b"789"
    assert files.read_tail(tmp_path / "none", 3) == b""
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(b"0123456789").hexdigest()
    assert files.free_bytes(tmp_path / "not" / "yet") > 0
