"""Files in frames: what is read from anywhere is what was written, or an error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.errors import ConfigError, StorageFailed
from forebay.model import FileInfo
from forebay.stores.compressed import seekable
from forebay.stores.compressed.seekable import Sizes, Table, Unpacker, compress_frame, zstd
from stores.samples import reader_of
from stores.tools import need

TEXT = b"".join(b"line %d of a log that says much the same\n" % n for n in range(200_000))


def packed(data: bytes, frame: int) -> bytes:
    sizes, out = Sizes(), b""
    for start in range(0, len(data), frame):
        piece = data[start : start + frame]
        coded = compress_frame(memoryview(piece))
        sizes.add(len(coded), len(piece))
        out += coded
    return out + sizes.table()


class Opened:
    def __init__(self, path: Path, size: int, tag: str = "t") -> None:
        self.file = reader_of(path)
        stored = self.file.info.size
        self.info = FileInfo("f", size, 0, tag, stored_size=stored)

    def read(self, unpacker: Unpacker, start: int, stop: int) -> bytes:
        found = b""
        while start + len(found) < stop:
            piece = unpacker.read(
                self.file, self.info, start + len(found), stop - start - len(found)
            )
            assert 0 < len(piece) <= stop - start - len(found)
            found += piece
        return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("seekable") / "f.zst"
    found.write_bytes(packed(TEXT, 100_000))
    return found


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    found = Opened(path, len(TEXT))
    yield found
    found.file.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 250_000)), max_size=5))
def test_any_range_is_a_slice_of_the_content(opened: Opened, wanted: list[tuple[int, int]]):
    unpacker = Unpacker(budget=250_000)
    for start, size in wanted:
        stop = min(len(TEXT), start + size)
        assert opened.read(unpacker, start, stop) == TEXT[start:stop]
        assert sum(map(len, unpacker._frames._values.values())) <= 250_000


def test_zstd_itself_decodes_such_a_file(path: Path):
    need("zstd")
    done = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True)
    assert done.stdout == TEXT
    subprocess.run(["zstd", "-tq", str(path)], check=True)


def test_the_coded_part_alone_decodes_to_the_content(opened: Opened, path: Path):
    size = Unpacker().coded_size(opened.file, opened.info)
    assert size < path.stat().st_size
    decoder, data, found = zstd().ZstdDecompressor, path.read_bytes()[:size], b""
    while data:
        one = decoder()
        found += one.decompress(data)
        assert one.eof
        data = one.unused_data
    assert found == TEXT


def test_a_frame_that_was_just_read_is_not_decoded_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    unpacker = Unpacker()
    decoded: list[int] = []
    decode = unpacker._decode
    monkeypatch.setattr(
        unpacker, "_decode", lambda file, table, n: decoded.append(n) or decode(file, table, n)
    )
    for start in range(0, 200_000, 1000):
        assert opened.read(unpacker, start, start + 1000) == TEXT[start : start + 1000]
    assert decoded == [0, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_told_and_never_given_out(
    path: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    whole = packed(TEXT[:50_000], 20_000)
    broken = bytearray(whole)
    if data.draw(st.booleans()):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del broken[data.draw(st.integers(0, len(broken) - 1)) :]
    found = tmp_path_factory.mktemp("broken") / "f"
    found.write_bytes(broken)
    opened = Opened(found, 50_000)
    try:
        # What the damage did not reach may be read; nothing else ever comes out.
        assert opened.read(Unpacker(), 0, 50_000) == TEXT[:50_000]
    except StorageFailed:
        pass
    finally:
        opened.file.close()


@pytest.mark.parametrize("size", [0, 1, 49_999, 50_001, 10**12])
def test_a_mark_that_does_not_fit_the_table_is_damage(tmp_path: Path, size: int):
    (tmp_path / "f").write_bytes(packed(TEXT[:50_000], 20_000))
    opened = Opened(tmp_path / "f", size)
    with pytest.raises(StorageFailed, match="does not fit"):
        Table.read(opened.file, opened.info.stored_size or 0, size)
    opened.file.close()


def test_a_frame_that_swells_beyond_its_size_is_not_decoded_to_its_end(tmp_path: Path):
    """A bomb: a hundred megabytes of zeros in a frame that claims to hold a thousand bytes."""
    bomb = zstd().compress(bytes(100 << 20))
    sizes = Sizes()
    sizes.add(len(bomb), 1000)
    (tmp_path / "f").write_bytes(bomb + sizes.table())
    opened = Opened(tmp_path / "f", 1000)
    with pytest.raises(StorageFailed, match="length"):
        Unpacker().read(opened.file, opened.info, 0, 1000)
    opened.file.close()


def test_frames_fit_the_window_that_browsers_allow():
    """RFC 9659: 8 MB."""
    frame = compress_frame(memoryview(os.urandom(seekable.FRAME)))
    info = zstd().get_frame_info(frame)
    assert info.decompressed_size == seekable.FRAME <= 8_000_000


def test_without_the_module_reading_fails_with_what_to_install(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    def missing() -> None:
        raise ConfigError("pip install 'forebay[zstd]'")

    monkeypatch.setattr(seekable, "zstd", missing)
    for call in (Unpacker().coded_size, lambda file, info: Unpacker().read(file, info, 0, 1)):
        with pytest.raises(StorageFailed, match=r"forebay\[zstd\]"):
            call(opened.file, opened.info)
