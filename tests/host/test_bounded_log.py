"""Head and tail of an endless stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.host.stream import BoundedLog


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("logs")


@given(chunks=st.lists(st.binary(max_size=300)), limit=st.integers(8, 400))
def test_every_byte_is_kept_or_counted(folder, chunks, limit):
    """What is on disk and what was dropped add up to what was printed; short logs are whole."""
    log = BoundedLog(folder / "x", limit)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    whole, kept = b"".join(chunks), (folder / "x").read_bytes()
    assert log.seen_bytes == len(whole)
    if log.dropped_bytes == 0:
        assert kept == whole
    else:
        marker = f" [autoresearch: {log.dropped_bytes} bytes of log were dropped here]".encode()
        head, tail = kept.split(marker, 1) if marker in kept else pytest.fail("no marker")
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + len(tail) + log.dropped_bytes == len(whole)
        assert len(head) + len(tail) <= limit


def test_a_cut_line_never_reads_as_a_whole_one(tmp_path):
    """After a cut, the tail begins with a whole line and the cut line carries the marker."""
    log = BoundedLog(tmp_path / "x", 400)
    for i in range(1000):
        log.write(f"val: {i}\n".encode())
    log.close()
    lines = (tmp_path / "x").read_text().splitlines()
    assert all("[autoresearch: " in line or line == f"val: {int(line[5:])}" for line in lines)
    assert lines[-1] == "val: 999"


def test_a_refused_write_is_remembered(tmp_path):
    """A log that cannot even be opened takes everything and says why at the end."""
    log = BoundedLog(tmp_path / "missing" / "x", 100)
    log.write(b"hello")
    log.close()
    assert log.error == "No such file or directory"
