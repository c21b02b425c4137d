"""Reader: the bytes that lie in the tars, or a sentence that names the file."""

from __future__ import annotations

import os
import shutil
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TRAIN, ConvertTiny
from wdsremux.errors import FormatError
from wdsremux.format import samples
from wdsremux.loading.reader import Reader, base, open_shards, split


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A split to be damaged."""
    return Path(shutil.copytree(converted / "train", tmp_path / "train"))


def open_tars(folder: Path) -> int:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    targets = [os.readlink(link) for link in links if link.is_symlink()]
    return sum(target.startswith(f"{folder}/") and target.endswith(".tar") for target in targets)


def test_bytes_labels_and_keys_are_the_tars(converted: Path) -> None:
    with closing(Reader(converted / "train", verify_crc=True)) as reader:
        wanted = {}
        for shard in reader.manifest.shards:
            with tarfile.open(reader.folder / shard.url) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None
                    wanted[member.name] = file.read()
        ids = np.random.default_rng(0).permutation(TRAIN)
        encoded = reader.read(ids)
        assert len(encoded) == TRAIN
        assert encoded.ids.tolist() == ids.tolist()
        for i, (key, label) in enumerate(zip(reader.keys(ids), reader.labels(ids).tolist(), strict=True)):
            assert encoded.image(i).tobytes() == wanted.pop(f"{key}.jpg")
            assert str(label).encode() == wanted.pop(f"{key}.cls")
        assert not wanted


def test_a_sample_may_come_twice_and_a_batch_be_empty(converted: Path) -> None:
    with closing(Reader(converted / "train", verify_crc=True)) as reader:
        twice = reader.read(np.array([7, 7]))
        assert twice.image(0).tobytes() == twice.image(1).tobytes() != b""
        assert len(reader.read(np.array([], np.int64))) == 0


def test_images_that_each_begin_a_row(converted: Path) -> None:
    with closing(Reader(converted / "train", verify_crc=True)) as reader:
        ids = np.array([3, 7, 50, 7])
        packed, apart = reader.read(ids), reader.read(ids, rows=True)
        rows = apart.rows()
        assert isinstance(rows, np.ndarray)
        assert rows.shape == (4, packed.sizes.max())
        assert isinstance(packed.rows(), list)
        for i in range(4):
            wanted = packed.image(i)
            assert np.array_equal(apart.image(i), wanted)
            assert np.array_equal(rows[i, : len(wanted)], wanted)
        assert len(reader.read(np.array([], np.int64), rows=True)) == 0


def test_rows_of_which_most_would_be_empty_are_not_made(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Reader(converted / "train", verify_crc=True)) as reader:
        monkeypatch.setattr(base, "_LOOSE", 0.9)
        assert isinstance(reader.read(np.array([3, 7, 50]), rows=True).rows(), list)


def test_sizes_are_the_pictures(converted: Path) -> None:
    with closing(Reader(converted / "train", verify_crc=True)) as reader:
        encoded = reader.read(np.arange(10))
        assert np.minimum(encoded.width, encoded.height).tolist() == [256] * 10
        assert encoded.width.tolist() == reader.table["width"][:10].tolist()


def test_an_edited_table_is_refused(folder: Path) -> None:
    path = folder / samples.NAME
    table = np.load(path)
    table["label"][5] += 1
    np.save(path, table)
    with pytest.raises(FormatError, match=r"samples\.npy was changed after the conversion: its SHA-256 differs"):
        Reader(folder)


def test_a_large_table_is_checked_only_when_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / samples.NAME
    table = np.load(path)
    table["label"][5] += 1
    np.save(path, table)
    monkeypatch.setattr(split, "CHECKED_BYTES", table.nbytes - 1)
    assert Reader(folder).labels(np.array([5])) == table["label"][5]
    with pytest.raises(FormatError, match=r"samples\.npy was changed"):
        Reader(folder, verify_crc=True)


def test_a_table_of_another_length_is_refused(folder: Path) -> None:
    path = folder / samples.NAME
    np.save(path, np.load(path)[:-1])
    with pytest.raises(
        FormatError, match=rf"samples\.npy has the wrong number of samples: {TRAIN - 1}, but the manifest says {TRAIN}"
    ):
        Reader(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [("index.json", r"is not finished: 300 of 300 rows done"), ("samples.npy", r"samples\.npy is missing")],
)
def test_a_split_without_one_of_its_files_is_refused(folder: Path, name: str, said: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FormatError, match=said):
        Reader(folder)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors as Linux shows them")
def test_few_shards_are_open_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_shards, "OPEN_SHARDS", 3)
    reader = Reader(folder)
    ids = np.random.default_rng(0).permutation(TRAIN)
    assert reader.read(ids).sizes.sum() == reader.table["size"].sum()
    assert open_tars(folder) == 3
    reader.read(np.arange(25))
    assert open_tars(folder) == 3
    reader.close()
    assert open_tars(folder) == 0
    reader.read(np.arange(25))  # opens again
    assert open_tars(folder) == 1
    reader.close()


def test_samples_without_a_label(write_source: ConvertTiny, tmp_path: Path) -> None:
    import wdsremux
    from tests.conftest import tiny_jpeg

    wdsremux.convert(write_source([tiny_jpeg(i) for i in range(4)]), tmp_path / "out", recipe="copy", workers=1)
    reader = Reader(tmp_path / "out" / "train")
    assert reader.labels(np.arange(4)).tolist() == [-1] * 4
    reader.close()
