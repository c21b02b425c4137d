"""A record batch of an Arrow file is read by itself: none of those before it is unpacked on the way."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import tiny_jpeg
from tests.support.sources import open_source
from wdsremux.conversion.source.kinds.arrow import ArrowReader

ROWS = 40


def write(folder: Path, compression: str | None, stream: bool, dictionary: bool) -> Path:
    folder.mkdir()
    labels = pa.array([f"class {i % 3}" for i in range(ROWS)])
    images = pa.array([{"bytes": tiny_jpeg(i * 5), "path": None} for i in range(ROWS)])
    table = pa.table({"image": images, "label": labels.dictionary_encode() if dictionary else labels})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, make(sink, table.schema, options=options) as out:
        out.write_table(table, max_chunksize=7)
    return folder


@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_each_batch_by_itself(compression: str | None, stream: bool, dictionary: bool, tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "s", compression, stream, dictionary)), "train")
    reader = source.reader
    assert isinstance(reader, ArrowReader)
    assert bool(reader.offsets) == (stream and not dictionary)
    found: dict[int, list[bytes]] = {}
    for number in reversed(range(len(source.fragments))):
        found[number] = [image for rows in source.rows(number, 3) for image in rows.images.to_pylist()]
    assert [image for number in sorted(found) for image in found[number]] == [tiny_jpeg(i * 5) for i in range(ROWS)]
    assert source.classes == ["class 0", "class 1", "class 2"]


def test_a_batch_is_not_looked_for_from_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200, 400, 800 compressed batches took 5, 12, 34 s, as each unpacked all before it."""
    source = open_source(str(write(tmp_path / "s", "lz4", stream=True, dictionary=False)), "train")
    reads = 0
    read = pa.ipc.read_record_batch

    def counted(*arguments: object) -> pa.RecordBatch:
        nonlocal reads
        reads += 1
        return read(*arguments)

    monkeypatch.setattr(pa.ipc, "read_record_batch", counted)
    for number in range(len(source.fragments)):
        list(source.rows(number, 64))
    assert reads == len(source.fragments) == 6
