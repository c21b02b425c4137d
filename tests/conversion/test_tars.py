"""WebDataset tars as they are found: fields of all kinds, members in any order, streams, and what is no sample."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

import wdsremux
from tests.conftest import tiny_jpeg
from tests.support.hub import Fault as HubFault
from tests.support.hub import Hub
from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Fault, Opened, Survey
from wdsremux.conversion.source.kinds.tars import tar_survey as tars
from wdsremux.errors import SourceError

FAULTS = retry.Faults((OSError,))
JPEG = tiny_jpeg(0)
STREAM = "w:gz"


def file(name: str, content: bytes = JPEG) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def special(name: str, type_: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, target
    return info, b""


Members = Iterable[tuple[tarfile.TarInfo, bytes]]


def pack(path: Path, members: Members, mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def survey(*paths: Path, label_asked: str | None = None) -> Survey:
    files = tuple(map(str, paths))
    root = str(paths[0].parent)
    opened = Opened("tars", "photos", root, "train", {"train": files}, label_asked=label_asked)
    return tars.survey(opened, FAULTS)


@dataclass(slots=True)
class Read:
    """All rows of a source."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]

    @property
    def paths(self) -> list[str | None]:
        """Of the first column, which is of images."""
        return [image and image["path"] for image in (next(iter(row.values())) for row in self.rows)]


def read(found: Survey, *names: str, batch_rows: int = 3) -> Read:
    reader, result = pickle.loads(pickle.dumps(found.reader)), Read()
    for fragment in found.fragments:
        first = len(result.rows)
        for piece in reader.pieces(fragment, names, batch_rows):
            assert piece.table.column_names == list(names)
            piece.table.validate(full=True)
            result.faults |= {len(result.rows) + place: fault for place, fault in piece.faults.items()}
            result.rows += piece.table.to_pylist()
        assert fragment.rows in (None, len(result.rows) - first)
    return result


def refused(*paths: Path, names: Sequence[str] = ("jpg",), **options: Any) -> str:
    """What is said of tars that cannot be opened, or read to their end."""
    with pytest.raises(SourceError) as caught:
        read(survey(*paths, **options), *names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


both = pytest.mark.parametrize("mode", ["w", STREAM], ids=["plain", "stream"])


# Keys and fields


@both
def test_decimal_points_belong_to_the_key(tmp_path: Path, mode: str) -> None:
    """datasets#7150, webdataset#237"""
    names = [f"run/{i / 20:.2f}" for i in range(5)]
    path = pack(
        tmp_path / "a.tar", [m for name in names for m in (file(f"{name}.png"), file(f"{name}.cls", b"1"))], mode
    )
    found = survey(path)
    assert list(found.columns) == ["png", "cls", "__key__", "__url__"]
    assert read(found, "png", "__key__").column("__key__") == names
    assert read(found, "png").paths == [f"{name}.png" for name in names]


@both
def test_numbered_views_of_one_sample(tmp_path: Path, mode: str) -> None:
    members = [file(f"{i:06}.{end}", b"%d" % i) for i in range(5) for end in ("0.jpg", "1.jpg", "cls")]
    found = survey(pack(tmp_path / "a.tar", members, mode))
    assert list(found.columns) == ["0.jpg", "1.jpg", "cls", "__key__", "__url__"]
    result = read(found, "1.jpg", "cls")
    assert result.paths == [f"{i:06}.1.jpg" for i in range(5)]
    assert result.column("cls") == list("01234")


@pytest.mark.parametrize(
    ("name", "key", "column"),
    [
        ("a.jpg", "a", "jpg"),
        ("d.e/a.jpg", "d.e/a", "jpg"),
        ("./a.jpg", "./a", "jpg"),
        ("a.mask.png", "a", "mask.png"),
        ("1.2.3.png", "1.2.3", "png"),
        ("1.2.mask.png", "1.2", "mask.png"),
        ("a.mask.0.png", "a", "mask.0.png"),
        ("a.²5.jpg", "a", "²5.jpg"),
        ("\udce9.jpg", "\ufffd", "jpg"),
    ],
)
def test_keys(tmp_path: Path, name: str, key: str, column: str) -> None:
    found = survey(pack(tmp_path / "a.tar", [file(name)]))
    assert next(iter(found.columns)) == column
    assert read(found, column, "__key__", "__url__").rows == [
        {column: {"bytes": JPEG, "path": f"{key}.{column}"}, "__key__": key, "__url__": "a.tar"}
    ]


# What is in no sample


@both
def test_what_is_not_taken_is_counted(tmp_path: Path, mode: str) -> None:
    members = [
        special("photos", tarfile.DIRTYPE),
        special("photos.d", tarfile.DIRTYPE),
        file("photos/" + "long" * 50 + ".jpg"),
        file("photos/._1.jpg"),
        file(".DS_Store"),
        file("__MACOSX.txt"),
        file("photos/README"),
        special("photos/tty.txt", tarfile.CHRTYPE),
    ]
    found = survey(pack(tmp_path / "a.tar", members, mode))
    assert found.untaken == {
        "hidden": ["a.tar/photos/._1.jpg", "a.tar/.DS_Store", "a.tar/__MACOSX.txt"],
        "in no sample": ["a.tar/photos/README", "a.tar/photos/tty.txt"],
    }
    assert len(read(found, "jpg").rows) == 1


@both
def test_tars_without_a_sample(tmp_path: Path, mode: str) -> None:
    paths = [pack(tmp_path / "a.tar", [], mode), pack(tmp_path / "b.tar", [file("README")], mode)]
    assert "no rows in its split 'train': its tar files contain no samples" in refused(*paths)
    assert "1 in no sample" in refused(*paths)


# Columns of images


@both
@pytest.mark.parametrize("apart", [False, True], ids=["within one tar", "from tar to tar"])
def test_images_of_several_formats_are_one_column(tmp_path: Path, mode: str, apart: bool) -> None:
    ends = ["jpeg", "JPG", "jpg", "png", "WebP"]
    members = [file(f"{i}.{end}", b"%d" % i) for i, end in enumerate(ends)]
    groups = [[member] for member in members] if apart else [members]
    paths = [pack(tmp_path / f"{i}.tar", group, mode) for i, group in enumerate([[], *groups])]
    found = survey(*paths)
    assert list(found.columns) == ["jpeg", "__key__", "__url__"]
    assert isinstance(found.columns["jpeg"].feature, datasets.Image)
    result = read(found, "jpeg")
    assert [image["bytes"] for image in result.column("jpeg")] == [b"0", b"1", b"2", b"3", b"4"]
    assert result.paths == [f"{i}.{end}" for i, end in enumerate(ends)]
    assert not result.faults


@both
def test_two_images_of_one_sample_are_two_columns(tmp_path: Path, mode: str) -> None:
    members = [file("1.jpg", b"1"), file("1.png", b"2"), file("2.png", b"3"), file("2.JPEG", b"4"), file("2.mask.png")]
    found = survey(pack(tmp_path / "a.tar", members, mode))
    assert list(found.columns)[:3] == ["jpg", "png", "mask.png"]
    assert [image["bytes"] for image in read(found, "jpg").column("jpg")] == [b"1", b"4"]
    assert [image["bytes"] for image in read(found, "png").column("png")] == [b"2", b"3"]
    assert read(found, "mask.png").paths == [None, "2.mask.png"]


def test_two_images_in_one_tar_split_the_column_of_all(tmp_path: Path) -> None:
    one = pack(tmp_path / "1.tar", [file("1.jpg", b"1"), file("2.png", b"2")])
    two = pack(tmp_path / "2.tar", [file("3.jpg", b"3"), file("3.png", b"4")])
    found = survey(one, two)
    assert list(found.columns)[:2] == ["jpg", "png"]
    assert [image and image["bytes"] for image in read(found, "jpg").column("jpg")] == [b"1", None, b"3"]


def test_a_second_image_late_in_a_stream_is_a_fault(tmp_path: Path) -> None:
    members = [file(f"{i:03}.jpg") for i in range(120)] + [file("119.png"), file("120.png", b"1")]
    found = survey(pack(tmp_path / "a.tar", members, STREAM))
    result = read(found, "jpg")
    assert result.faults == {119: Fault("jpg", "two images for one column: 119.jpg and 119.png")}
    assert result.rows[120] == {"jpg": {"bytes": b"1", "path": "120.png"}}


@both
def test_rows_without_an_image(tmp_path: Path, mode: str) -> None:
    found = survey(pack(tmp_path / "a.tar", [file("1.jpg"), file("1.cls", b"1"), file("2.cls", b"2")], mode))
    result = read(found, "jpg", "cls")
    assert result.rows[1] == {"jpg": None, "cls": "2"}


def test_a_tar_that_lacks_a_column(tmp_path: Path) -> None:
    paths = [
        pack(tmp_path / "empty.tar", []),
        pack(tmp_path / "a.tar", [file("1.jpg"), file("1.cls", b"1")]),
        pack(tmp_path / "b.tar", [file("2.png")]),
    ]
    found = survey(*paths)
    assert {name: column.lacking for name, column in found.columns.items() if column.lacking} == {"cls": "b.tar"}
    assert read(found, "jpg", "cls").column("cls") == ["1", None]


# Values


VALUES: dict[str, tuple[bytes, Any, Any]] = {
    "cls": (b"7\n", datasets.Value("string"), "7"),
    "CLS": (b"007\r\n", datasets.Value("string"), "007"),
    "cls2": (b" 7", datasets.Value("string"), " 7"),
    "id": (b"1\n\n", datasets.Value("string"), "1\n"),
    "txt": ("\ufeffé\r".encode(), datasets.Value("string"), "\ufeffé\r"),
    "caption": (b"", datasets.Value("string"), ""),
    "Label": (b"cat", datasets.Value("string"), "cat"),
    "txt.gz": (gzip.compress(b"cat\n"), datasets.Value("string"), "cat"),
    "json": (b'{"a": [1, NaN]}\n', datasets.Json(), '{"a": [1, NaN]}\n'),
    "JSN": (b"\xef\xbb\xbf[]", datasets.Json(), "[]"),
    "xyz": (b"\xff\n", datasets.Value("binary"), b"\xff\n"),
    "jpg.gz": (b"\x1f", datasets.Value("binary"), b"\x1f"),
    "pth": (b"\x80", datasets.Value("binary"), b"\x80"),
    "mask.webp": (b"x", datasets.Image(), {"bytes": b"x", "path": "1.mask.webp"}),
    "FLAC": (b"x", datasets.Audio(), {"bytes": b"x", "path": "1.FLAC"}),
    "mpeg": (b"x", datasets.Video(), {"bytes": b"x", "path": "1.mpeg"}),
}


def npy(values: Sequence[Any], **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(values, **options), allow_pickle=True)
    return out.getvalue()


VALUES["npy"] = npy([1.5, 2]), datasets.List(datasets.Value("float64")), [1.5, 2.0]
VALUES["npy.gz"] = gzip.compress(npy([1], dtype="i2")), datasets.List(datasets.Value("int16")), [1]
VALUES["emb.npy"] = b"no array", datasets.Value("binary"), b"no array"


@both
@pytest.mark.parametrize("name", VALUES)
def test_values(tmp_path: Path, mode: str, name: str) -> None:
    content, feature, value = VALUES[name]
    found = survey(pack(tmp_path / "a.tar", [file("1.jpg"), file(f"1.{name}", content), file("2.jpg")], mode))
    assert found.columns[name].feature == feature
    assert found.columns[name].integers == (name.lower() in ("cls", "cls2", "id"))
    assert read(found, "jpg", name).column(name) == [value, None]
    assert not read(found, "jpg", name).faults


UNFIT = {
    "cls": (b"\xff", "holds text that is not UTF-8"),
    "txt": (b"a\x80", "holds text that is not UTF-8"),
    "txt.gz": (b"no gzip", "cannot be unpacked"),
    "json": (b"{", "holds no JSON"),
    "jsn": (b"[" * 100_000, "holds no JSON"),
    "npy": (npy([{}]), "cannot be decoded as List(Value('float64'))"),
}
FIT = {"npy": npy([1.0]), "txt.gz": gzip.compress(b"1")}


@both
@pytest.mark.parametrize("name", UNFIT)
def test_a_value_that_its_column_cannot_hold_is_a_fault(tmp_path: Path, mode: str, name: str) -> None:
    content, reason = UNFIT[name]
    members = [file("1.jpg"), file(f"1.{name}", FIT.get(name, b"1")), file("2.jpg"), file(f"2.{name}", content)]
    found = survey(pack(tmp_path / "a.tar", members, mode))
    result = read(found, "jpg", name)
    assert result.faults == {1: Fault(name, f"2.{name} {reason}")}
    assert result.rows[1] == {"jpg": {"bytes": JPEG, "path": "2.jpg"}, name: None}
    assert not read(found, "jpg").faults


@pytest.mark.parametrize("name", ["pkl", "pickle", "pyd", "pth", "npy", "npz", "ten", "npy.gz"])
def test_nothing_is_unpickled(tmp_path: Path, name: str) -> None:
    content = npy([Path("x")]) if "np" in name else pickle.dumps(Path("x"))
    content = gzip.compress(content) if name.endswith("gz") else content
    found = survey(pack(tmp_path / "a.tar", [file("1.jpg"), file(f"1.{name}", content)]))
    assert found.columns[name].feature == datasets.Value("binary")
    assert read(found, "jpg", name).column(name) == [content]


def test_texts_without_the_images(tmp_path: Path) -> None:
    paths = [
        pack(tmp_path / f"{tar}.tar", [m for i in range(3) for m in (file(f"{i}.jpg"), file(f"{i}.txt", b"%d\n" % i))])
        for tar in "ab"
    ]
    values = list(survey(*paths).reader.values("txt"))
    assert [(number, array.to_pylist()) for number, array in values] == [(0, ["0", "1", "2"]), (1, ["0", "1", "2"])]
    assert {array.type for _, array in values} == {pa.string()}


def test_texts_of_a_stream_need_its_images(tmp_path: Path) -> None:
    found = survey(pack(tmp_path / "a.tgz", [file("1.jpg"), file("1.txt", b"cat\n")], STREAM))
    assert found.columns["txt"].seen == ("cat",)
    with pytest.raises(SourceError, match=r"'txt'.*a\.tgz.*--classes a,b,c or --classes FILE"):
        next(found.reader.values("txt"))


# Folders


CLASSES = ["./photos/cat/1", "./photos/dog/a/1", "./photos/dog/b/1"]


@both
def test_class_folders(tmp_path: Path, mode: str) -> None:
    found = survey(pack(tmp_path / "a.tar", [file(f"{key}.jpg") for key in CLASSES], mode))
    assert found.columns["label"].feature == datasets.Value("string")
    assert not found.columns["label"].integers
    assert read(found, "jpg", "label").column("label") == ["cat", "dog", "dog"]
    if mode == "w":
        ((_, values),) = found.reader.values("label")
        assert values.to_pylist() == ["cat", "dog", "dog"]


def test_a_tar_for_each_class(tmp_path: Path) -> None:
    paths = [pack(tmp_path / f"{name}.tar", [file(f"{name}/1.jpg")]) for name in ("cat", "dog")]
    assert read(survey(*paths), "jpg", "label").column("label") == ["cat", "dog"]


def test_images_beside_class_folders_have_no_label(tmp_path: Path) -> None:
    names = ["cat/1.jpg", "dog/1.jpg", "1.jpg", "eel/1.txt"]
    found = survey(pack(tmp_path / "a.tar", [file(name, b"x") for name in names]))
    assert read(found, "jpg", "label").column("label") == ["cat", "dog", None, None]


@both
@pytest.mark.parametrize("name", ["cls", "CLS", "label", "species.class", "Target"])
def test_folders_are_no_classes_where_there_are_labels(tmp_path: Path, mode: str, name: str) -> None:
    members = [m for key in CLASSES for m in (file(f"{key}.jpg"), file(f"{key}.{name}", b"1"))]
    found = survey(pack(tmp_path / "a.tar", members, mode))
    assert set(found.columns) == {"jpg", name, "__key__", "__url__"}


@both
@pytest.mark.parametrize("names", [("train", "val"), ("Train", "TEST", "dev"), ("a/training", "a/validation")])
def test_a_tar_of_several_splits(tmp_path: Path, mode: str, names: Sequence[str]) -> None:
    members = [file(f"{name}/{cat}/1.jpg") for name in names for cat in ("cat", "dog")]
    said = refused(pack(tmp_path / "a.tar", members, mode))
    assert "a.tar contains several splits, in its folders" in said
    assert "Unpack it" in said


@pytest.mark.parametrize("names", [("train",), ("train", "other"), ("test", "")])
def test_folders_that_are_no_splits(tmp_path: Path, names: Sequence[str]) -> None:
    found = survey(pack(tmp_path / "a.tar", [file(f"{name}/1.jpg") for name in names]))
    assert [fragment.rows for fragment in found.fragments] == [len(names)]


# Streams


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        ("tar.gz", "w:gz"),
        ("tgz", "w:gz"),
        ("tar.bz2", "w:bz2"),
        ("tbz2", "w:bz2"),
        ("tar.xz", "w:xz"),
        ("txz", "w:xz"),
        ("tar", "w:gz"),
    ],
)
def test_compressed_tars(tmp_path: Path, suffix: str, mode: str) -> None:
    members = [m for i in range(300) for m in (file(f"{i:03}.jpg"), file(f"{i:03}.cls", b"%d" % (i % 7)))]
    path = pack(tmp_path / f"a.{suffix}", members, mode)
    found = survey(path)
    assert found.partial
    (fragment,) = found.fragments
    assert fragment.rows is None
    assert fragment.size_bytes == 8 * path.stat().st_size
    assert len(found.columns["cls"].seen) == 100
    result = read(found, "jpg", "cls")
    assert result.rows == [{"jpg": {"bytes": JPEG, "path": f"{i:03}.jpg"}, "cls": str(i % 7)} for i in range(300)]


def test_a_plain_tar_called_compressed(tmp_path: Path) -> None:
    found = survey(pack(tmp_path / "a.tar.gz", [file("1.jpg")]))
    assert not found.partial
    assert found.fragments[0].rows == 1


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.9, 0.999])
def test_damaged_compressed_tars(tmp_path: Path, mode: str, damage: str, at: float) -> None:
    noise = np.random.default_rng(0).bytes(300 * 500)
    path = pack(tmp_path / "a.tar", [file(f"{i:03}.jpg", noise[500 * i : 500 * i + 500]) for i in range(300)], mode)
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    if damage == "cut":
        del content[place:]
    else:
        content[place] ^= 0xFF
    path.write_bytes(content)
    try:
        said = refused(path)
    except OSError as error:  # bz2's, which Source tells as it does one of the disk
        said = f"a.tar {error}"
    assert "a.tar" in said


def late(members: Members) -> Members:
    """After as many samples as are looked at."""
    return [*(file(f"{i:03}.jpg") for i in range(150)), *members]


@pytest.mark.parametrize("name", ["cls", "CLS", "label", "x.class"])
def test_a_label_late_in_a_stream(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "a.tar", late([file("200.jpg"), file(f"200.{name}", b"3")]), STREAM)
    said = refused(path)
    assert f"a.tar has a label in 200.{name}, but the first samples have none" in said
    assert f"--label-column {name!r}, or --label-column none" in said
    result = read(survey(path, label_asked=name), "jpg", name)
    assert result.column(name) == [None] * 150 + ["3"]
    assert len(read(survey(path, label_asked="none"), "jpg").rows) == 151


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("txt", b"a\n", "a"),
        ("json", b"{}", "{}"),
        ("bin", b"\n", b"\n"),
        ("a.png", b"x", {"bytes": b"x", "path": "9.a.png"}),
    ],
)
def test_a_column_late_in_a_stream(tmp_path: Path, name: str, content: bytes, value: Any) -> None:
    found = survey(pack(tmp_path / "a.tar", late([file("9.jpg"), file(f"9.{name}", content)]), STREAM))
    assert name not in found.columns
    assert read(found, "jpg", name).column(name) == [None] * 150 + [value]


@pytest.mark.parametrize("folder", ["dog", "cat/young"])
def test_another_folder_late_in_a_stream(tmp_path: Path, folder: str) -> None:
    members = [file(f"cat/{i}.jpg") for i in range(120)] + [file(f"{folder}/1.jpg")]
    path = pack(tmp_path / "a.tar", members, STREAM)
    said = refused(path)
    assert f"a.tar has images in the folder '{folder}', but the first samples are in 'cat'" in said
    assert "--label-column none, or download" in said
    assert len(read(survey(path, label_asked="none"), "jpg").rows) == 121


def test_another_class_late_in_a_stream(tmp_path: Path) -> None:
    members = [file(f"photos/{'cat' if i % 2 else 'dog'}/{i}.jpg") for i in range(120)]
    path = pack(tmp_path / "a.tar", [*members, file("photos/eel/1.jpg")], STREAM)
    assert read(survey(path), "jpg", "label").column("label")[-2:] == ["cat", "eel"]
    path = pack(tmp_path / "b.tar", [*members, file("more/eel/1.jpg")], STREAM)
    assert "b.tar has images in the folder 'more/eel'" in refused(path, names=("jpg", "label"))


def test_another_split_late_in_a_stream(tmp_path: Path) -> None:
    members = [m for i in range(120) for m in (file(f"train/{i}.jpg"), file(f"train/{i}.cls", b"1"))]
    path = pack(tmp_path / "a.tar", [*members, file("val/1.jpg"), file("val/1.cls", b"1")], STREAM)
    assert "a.tar contains several splits, in its folders train, val" in refused(path)


def test_the_first_stream_with_samples_is_looked_at(tmp_path: Path) -> None:
    paths = [
        pack(tmp_path / "a.tar", [], STREAM),
        pack(tmp_path / "b.tar", [file("1.jpg"), file("1.cls", b"1")], STREAM),
        pack(tmp_path / "c.tar", [file("2.png"), file("2.cls", b"2")], STREAM),
    ]
    found = survey(*paths)
    assert list(found.columns) == ["jpg", "cls", "__key__", "__url__"]
    result = read(found, "jpg", "cls")
    assert (result.paths, result.column("cls")) == (["1.jpg", "2.png"], ["1", "2"])


REMOTE = """
import importlib, sys
from huggingface_hub.errors import HfHubHTTPError
from wdsremux.conversion.source import retry
from wdsremux.conversion.source.kinds.tars import tar_survey as tars
from wdsremux.conversion.source.base import Opened
root, *names = sys.argv[1:]
files = tuple(f"{root}/{name}" for name in names)
opened = Opened("tars", "ours/photos", root, "train", {"train": files}, revision=root.rpartition("@")[2])
transport = importlib.import_module(HfHubHTTPError.__bases__[0].__module__)  # the HTTP library of the Hub's client
found = tars.survey(opened, retry.Faults((OSError, transport.HTTPError), patience_s=20, wait_s=0.1))
print(list(found.columns), found.partial, [(f.rows, f.size_bytes) for f in found.fragments])
for fragment in found.fragments:
    for piece in found.reader.pieces(fragment, ["jpg", "cls"], 100):
        print([image["path"] for image in piece.table.column("jpg").to_pylist()], piece.table.column("cls").to_pylist())
"""


def test_tars_on_the_hub(tmp_path: Path) -> None:
    """Streams, compressed or not; a connection that breaks is taken up again. In a process of its own: the Hub's
    client reads its environment when it is imported."""
    (tmp_path / "photos").mkdir()
    members = [m for i in range(3) for m in (file(f"{i}.jpg"), file(f"{i}.cls", b"%d" % i))]
    plain = pack(tmp_path / "photos" / "a.tar", members)
    packed = pack(tmp_path / "photos" / "b.tar.gz", members, STREAM)
    with Hub() as hub:
        commit = hub.publish("ours/photos", tmp_path / "photos")
        hub.fail(HubFault("reset", every=2))
        done = subprocess.run(
            [sys.executable, "-c", REMOTE, f"hf://datasets/ours/photos@{commit}", "a.tar", "b.tar.gz"],
            env=os.environ | hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    rows = "['0.jpg', '1.jpg', '2.jpg'] ['0', '1', '2']"
    sizes = [(None, plain.stat().st_size), (None, 8 * packed.stat().st_size)]
    assert done.stdout.splitlines() == [f"['jpg', 'cls', '__key__', '__url__'] True {sizes}", rows, rows]


# Order, links, members that come twice


def by_kind(*ends: str) -> Members:
    return [file(f"{i}.{end}", f"{i}{end}".encode()) for end in ends for i in (3, 1, 2)]


def test_members_sorted_by_kind(tmp_path: Path) -> None:
    found = survey(pack(tmp_path / "a.tar", by_kind("jpg", "mask.png", "txt")))
    assert read(found, "jpg", "txt").rows == [
        {"jpg": {"bytes": b"%djpg" % i, "path": f"{i}.jpg"}, "txt": f"{i}txt"} for i in (3, 1, 2)
    ]
    ((_, values),) = found.reader.values("txt")
    assert values.to_pylist() == ["3txt", "1txt", "2txt"]


def test_sorted_by_kind_with_two_images_each(tmp_path: Path) -> None:
    assert list(survey(pack(tmp_path / "a.tar", by_kind("jpg", "png"))).columns)[:2] == ["jpg", "png"]


def test_a_stream_sorted_by_kind(tmp_path: Path) -> None:
    said = refused(pack(tmp_path / "a.tar", by_kind("jpg", "cls"), STREAM))
    assert "a.tar cannot be read as a stream: the members of sample 3 are not next to each other" in said
    members = [file(f"{i:03}.{end}") for end in ("jpg", "cls") for i in range(150)]
    assert "sample 000 are not next to each other" in refused(pack(tmp_path / "b.tar", members, STREAM))


LINKS = {
    "hard": special("2.jpg", tarfile.LNKTYPE, "photos/1.jpg"),
    "symbolic": special("2.jpg", tarfile.SYMTYPE, "./photos/1.jpg"),
    "from a folder": special("other/2.jpg", tarfile.SYMTYPE, "../photos/1.jpg"),
    "to a link": special("2.jpg", tarfile.SYMTYPE, "photos/link.png"),
    "to what is in no sample": special("2.jpg", tarfile.SYMTYPE, "blobs/abcdef"),
    "ahead": special("2.jpg", tarfile.SYMTYPE, "photos/9.jpg"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_within_a_tar(tmp_path: Path, kind: str) -> None:
    members = [file("photos/1.jpg"), file("blobs/abcdef"), special("photos/link.png", tarfile.SYMTYPE, "1.jpg")]
    path = pack(tmp_path / "a.tar", [*members, LINKS[kind], file("photos/9.jpg")])
    result = read(survey(path), "jpg")
    assert not result.faults
    assert [image["bytes"] for image in result.column("jpg")] == [JPEG] * 4
    assert result.paths[2] == LINKS[kind][0].name


BROKEN = {
    "out of the tar": special("2.jpg", tarfile.SYMTYPE, "/etc/passwd"),
    "to nothing": special("2.jpg", tarfile.LNKTYPE, "gone.jpg"),
    "to itself": special("2.jpg", tarfile.SYMTYPE, "2.jpg"),
    "to a folder": special("2.jpg", tarfile.SYMTYPE, "photos"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_links_that_lead_nowhere(tmp_path: Path, kind: str) -> None:
    members = [special("photos", tarfile.DIRTYPE), file("photos/1.jpg"), BROKEN[kind], file("3.jpg")]
    result = read(survey(pack(tmp_path / "a.tar", members)), "jpg")
    reason = f"2.jpg is a link to {BROKEN[kind][0].linkname}, which is no file of this tar"
    assert result.faults == {1: Fault("jpg", reason)}
    assert result.paths == ["photos/1.jpg", None, "3.jpg"]


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_stream(tmp_path: Path, type_: bytes) -> None:
    members = [file("1.jpg"), special("2.jpg", type_, "1.jpg"), special("2.txt", type_, "1.txt")]
    result = read(survey(pack(tmp_path / "a.tar", members, STREAM)), "jpg")
    assert result.faults == {1: Fault("jpg", "2.jpg is a link to 1.jpg, which a tar read as a stream cannot follow")}


@both
@pytest.mark.parametrize("type_", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_called_images(tmp_path: Path, mode: str, type_: bytes) -> None:
    result = read(survey(pack(tmp_path / "a.tar", [file("1.jpg"), special("2.jpg", type_)], mode)), "jpg")
    assert result.faults == {1: Fault("jpg", "2.jpg is a device, a pipe or the like, no file")}


@both
@pytest.mark.parametrize("name", ["jpg", "cls"])
def test_a_member_that_comes_twice(tmp_path: Path, mode: str, name: str) -> None:
    """webdataset#286"""
    members = [m for i in range(3) for m in (file(f"{i}.jpg"), file(f"{i}.cls", b"1"))]
    members.insert(4, file(f"1.{name}", b"other"))
    result = read(survey(pack(tmp_path / "a.tar", members, mode)), "jpg", "cls")
    assert result.faults == {1: Fault(name, f"1.{name} comes twice in its sample")}
    assert len(result.rows) == 3


def test_members_that_come_twice_apart(tmp_path: Path) -> None:
    members = [file(f"{i}.jpg") for _ in range(2) for i in range(2)]
    result = read(survey(pack(tmp_path / "a.tar", members)), "jpg")
    assert {place: fault.reason for place, fault in result.faults.items()} == {
        0: "0.jpg comes twice in its sample",
        1: "1.jpg comes twice in its sample",
    }


def test_long_names_sorted_by_kind(tmp_path: Path) -> None:
    """What is read by offsets is what a header says, whatever its form."""
    long = "photos/" + "long" * 60
    members = [file(f"{long}{i}.{end}", f"{i}{end}".encode()) for end in ("jpg", "txt") for i in range(2)]
    result = read(survey(pack(tmp_path / "a.tar", members)), "jpg", "txt")
    assert result.column("txt") == ["0txt", "1txt"]
    assert result.paths == [f"{long}0.jpg", f"{long}1.jpg"]


# Revision, damage


def test_the_revision_of_plain_tars(tmp_path: Path) -> None:
    """Sets that were made earlier are resumed by it."""
    path = pack(tmp_path / "a.tar", [file("1.jpg"), file(".hidden.jpg"), file("1.cls", b"1"), file("2.jpg")])
    empty = pack(tmp_path / "b.tar", [])
    digest = hashlib.sha256()
    for part in [("1.jpg", len(JPEG), 0), ("1.cls", 1, 0), ("2.jpg", len(JPEG), 0), ("a.tar", path.stat().st_size, 2)]:
        digest.update(repr(part).encode())
    digest.update(repr(("b.tar", empty.stat().st_size, 0)).encode())
    assert survey(path, empty).revision([]) == digest.hexdigest()


@pytest.mark.parametrize("blocks", [0, *range(1, 12)])
def test_a_tar_cut_between_blocks(blocks: int, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [file(f"{i}.{end}") for i in range(3) for end in ("jpg", "cls")])
    path.write_bytes(path.read_bytes()[: 512 * blocks])
    assert "a.tar" in refused(path)


def test_a_damaged_header(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [file(f"{i}.jpg") for i in range(3)])
    content = bytearray(path.read_bytes())
    content[content.index(b"1.jpg")] ^= 1
    path.write_bytes(content)
    assert "a.tar cannot be read as a tar: bad checksum at byte" in refused(path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.txz"])
def test_a_page_called_a_tar(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("404: not found, and a page that says so at some length\n" * 20)
    assert f"{name} cannot be read as a tar" in refused(tmp_path / name)


@pytest.mark.parametrize("change", ["removed", "cut"])
def test_a_tar_that_changed(tmp_path: Path, change: str) -> None:
    path = pack(tmp_path / "a.tar", [file(f"{i}.jpg") for i in range(3)])
    found = survey(path)
    content = path.read_bytes()
    path.unlink()
    if change == "cut":
        path.write_bytes(content[:1024])
    with pytest.raises((SourceError, FileNotFoundError), match=r"a\.tar"):
        read(found, "jpg")


def test_class_names_that_the_dataset_card_states(converted: Path, tmp_path: Path) -> None:
    """A converted set, converted again: its tars hold numbers, and its card says which class each is."""
    again = tmp_path / "again"
    wdsremux.convert(converted, again, recipe="resize:32", workers=1)
    before, after = wdsremux.manifest(converted), wdsremux.manifest(again)
    assert after.classes == before.classes
    assert after.nsamples == before.nsamples
    with wdsremux.DataLoader(converted, 4) as one, wdsremux.DataLoader(again, 4) as other:
        assert sorted(one.dataset.targets.tolist()) == sorted(other.dataset.targets.tolist())


@pytest.mark.parametrize("label", [b"2", b"-5", b"cat"])
def test_a_number_that_no_stated_class_has_is_a_reject(tmp_path: Path, label: bytes) -> None:
    (tmp_path / "source").mkdir()
    pack(tmp_path / "source" / "train.tar", [file("1.jpg"), file("1.cls", b"1"), file("2.jpg"), file("2.cls", label)])
    (tmp_path / "source" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: train.tar\ndataset_info:\n  features:\n"
        "  - name: jpg\n    dtype: image\n  - name: cls\n    dtype:\n      class_label:\n        names:\n"
        "          '0': cat\n          '1': dog\n---\n"
    )
    made = wdsremux.convert(tmp_path / "source", tmp_path / "out", recipe="copy", workers=1)
    assert made.classes == ["cat", "dog"]
    assert (made.nsamples, made.nrejects) == (1, 1)
