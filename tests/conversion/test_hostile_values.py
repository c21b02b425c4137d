"""Labels, names and kept values of a hostile source: none leads out of the folder, breaks a tar, or ends in a trace.

Keys are made of numbers, so nothing of the source gets into a file's name; what is kept lies inside JSON. The results
are read back by webdataset, datasets and DALI.
"""

from __future__ import annotations

import gc
import io
import json
import os
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import WriteSource, needs, tiny_jpeg
from tests.support.reading import check_split, digests, read_split
from wdsremux.format import kept_json, keys, manifest

TEXTS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "a.b.c",
    "a/b",
    "a\\b",
    "two\nlines",
    "nul\0within",
    "x" * 300,
    "😀🐈",
    "",
    "'\"`$(touch made-by-a-label)",
    "a,b",
    "-rf",
    "\u202eturned",
    "e\u0301",
    "\x1b[31mred",
    "%2e%2e",
    "<script>",
    "---\nconfigs: none",
]
KEPT, TARS = (
    "hostile labels, class names and --keep values",
    "hostile member names, links and devices in a source's tar",
)
ODD = "labels, names and JSON that are not UTF-8, or of the wrong kind"
Note = Callable[[str, str], None]
Told = tuple[int, str, str]  #: row, column and reason of a reject
Convert = Callable[..., Path]


def rejects(out: Path) -> list[Told]:
    """The rows that are no samples, with column and reason."""
    lines = map(json.loads, (out / "train" / "rejects.jsonl").read_text().splitlines())
    return [(line["row"], line["column"], line["reason"]) for line in lines]


def files(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder; links are named, and not followed."""
    found: dict[str, bytes | None] = {}
    for path in folder.rglob("*"):
        found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    return found


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Convert]:
    """Converts a source, tmp_path/source by default, with `copy`; sees that nothing but OUT has come or changed."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(source: Path = tmp_path / "source", **options: Any) -> Path:
        before = files(tmp_path)
        given: dict[str, Any] = {
            "recipe": "copy",
            "workers": 1,
            "samples_per_shard": 5,
            "max_rejects": "100%",
        } | options
        try:
            wdsremux.convert(source, tmp_path / "out", **given)
        finally:
            after = files(tmp_path)
            assert {name: data for name, data in after.items() if name.partition("/")[0] != "out"} == before
        assert wdsremux.verify(tmp_path / "out") == []
        names = {path.name for path in (tmp_path / "out").rglob("*") if ".wdsremux" not in path.parts}
        fixed = {"train", "README.md", "_info.json", ".lock", "index.json", "samples.npy", "rejects.jsonl"}
        assert all(name.rpartition(".")[2] in ("tar", "idx") for name in names - fixed)
        return tmp_path / "out"

    yield run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect(1)  # `datasets` leaves the tar open in which it met what it cannot read


# Others read it back


def by_webdataset(out: Path, cache: Path) -> dict[str, dict[str, bytes]]:
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to the garbage collector
        rows = list(webdataset.WebDataset(list(map(str, sorted(out.glob("*/*.tar")))), shardshuffle=False))
        gc.collect()
    return {row["__key__"]: {name: row[name] for name in row if not name.startswith("__")} for row in rows}


def by_datasets(out: Path, cache: Path) -> dict[str, dict[str, Any]]:
    rows = datasets.load_dataset(str(out), split="train", cache_dir=str(cache))
    rows = rows.cast_column("jpg", datasets.Image(decode=False))
    return {row["__key__"]: row | {"jpg": row["jpg"]["bytes"]} for row in rows}


def by_dali(out: Path, extensions: Sequence[str]) -> list[list[bytes]]:
    """The contents of all samples, in the order of the tars."""
    needs("nvidia.dali", "DALI")
    from nvidia.dali import fn, pipeline_def

    tars = [str(path) for path in sorted(out.glob("*/*.tar"))]
    indexes = [path.removesuffix(".tar") + ".idx" for path in tars]

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)  # type: ignore[untyped-decorator,unused-ignore]
    def pipeline() -> Any:
        read: Any = fn.readers.webdataset  # typed as if it might give nothing
        given = {"missing_component_behavior": "error", "name": "reader"}
        found = read(paths=tars, index_paths=indexes, ext=list(extensions), **given)
        return tuple(found) if len(extensions) > 1 else found

    pipe = pipeline()
    pipe.build()
    return [[np.array(part[0]).tobytes() for part in pipe.run()] for _ in range(pipe.epoch_size("reader"))]


def check_readers(out: Path, rows: int, tmp_path: Path) -> dict[str, dict[str, bytes]]:
    """All of them see the same, under keys made of numbers. Gives what tarfile sees."""
    check_split(out / "train", rows)
    found = read_split(out / "train")
    for key in found:
        keys.place(key)
    assert by_webdataset(out, tmp_path) == found
    extensions = sorted({extension for content in found.values() for extension in content})
    assert by_dali(out, extensions) == [[content[name] for name in extensions] for content in found.values()]
    seen = by_datasets(out, tmp_path / "cache")
    assert {key: row["jpg"] for key, row in seen.items()} == {key: content["jpg"] for key, content in found.items()}
    if "cls" in extensions:
        assert all(row["cls"] == int(found[key]["cls"]) for key, row in seen.items())
    return found


# Labels and kept values


def test_labels_of_any_text(write_source: WriteSource, convert: Convert, tmp_path: Path, tally: Note) -> None:
    source = write_source([tiny_jpeg(i) for i in range(len(TEXTS))], TEXTS)
    out = convert(source)
    classes = manifest.read(out / "train").classes
    assert classes == sorted(TEXTS)
    for key, content in check_readers(out, len(TEXTS), tmp_path).items():
        assert classes[int(content["cls"])] == TEXTS[keys.place(key)[1]]
        tally(KEPT, "unchanged, in JSON only; file names consist of numbers")


def test_class_names_of_any_text(write_source: WriteSource, convert: Convert, tmp_path: Path, tally: Note) -> None:
    source = write_source([tiny_jpeg(i) for i in range(len(TEXTS))], range(len(TEXTS)), classes=TEXTS)
    out = convert(source)
    assert manifest.read(out / "train").classes == TEXTS
    for key, content in check_readers(out, len(TEXTS), tmp_path).items():
        assert int(content["cls"]) == keys.place(key)[1]
        tally(KEPT, "unchanged, in JSON only; file names consist of numbers")


def test_kept_values_of_any_text(write_source: WriteSource, convert: Convert, tmp_path: Path, tally: Note) -> None:
    """Columns have hostile names, too; one value has 10 MB, another is 10 MB of JSON."""
    text, numbers = datasets.Value("string"), datasets.List(datasets.List(datasets.Value("int64")))
    large = ["y" * 10_000_000, json.dumps([[[1] * 10] * 10] * 25_000)]
    count = len(TEXTS) + len(large)
    columns: dict[str, tuple[Any, list[Any]]] = {
        "../x": (text, TEXTS + large),
        "a\nb": (text, ["", None, *TEXTS]),
        "__key__": (text, [*TEXTS[::-1], "", None]),
        "jpg": (numbers, [[[i] * 3] * 2 for i in range(count)]),
        "float": (datasets.Value("float64"), [float("nan"), float("-inf"), *map(float, range(count - 2))]),
    }
    source = write_source([tiny_jpeg(i) for i in range(count)], range(count), columns=columns)
    out = convert(source, keep=tuple(columns))
    for key, content in check_readers(out, count, tmp_path).items():
        row = keys.place(key)[1]
        wanted = {name: values[row] for name, (_, values) in columns.items()}
        assert json.loads(content["json"]) == wanted | {"float": None if row < 2 else row - 2.0}
        tally(KEPT, "unchanged, in JSON only; file names consist of numbers")


def test_half_a_surrogate_pair_is_kept_as_its_escape() -> None:
    """Which a user's recipe may return, and UTF-8 does not know."""
    content = kept_json.dumps({"text": "a\ud800b", "plain": "é"})
    assert json.loads(content.decode()) == {"text": "a\ud800b", "plain": "é"}


def test_folders_of_any_name(convert: Convert, tmp_path: Path, tally: Note) -> None:
    """Their names are the classes. Those that begin with a dot are hidden, and no part of a source."""
    names = sorted(["a.b", "x" * 255, "new\nline", "😀", "sp ace", "-rf", "~", "%2e%2e", "$(touch x)", "a\\b"])
    for name in [*names, "..hidden"]:
        (tmp_path / "source" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "source" / name / f"{number}\n😀.jpg").write_bytes(tiny_jpeg(number))
    (tmp_path / "source" / "a.b" / "no image\u2028\n.jpg").write_bytes(b"none")
    out = convert()
    assert manifest.read(out / "train").classes == names
    assert len(check_readers(out, 2 * len(names) + 1, tmp_path)) == 2 * len(names)
    (line,) = (out / "train" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["where"] == "a.b/no image\u2028\n.jpg"
    tally(KEPT, "unchanged, in JSON only; file names consist of numbers")


# What is not UTF-8


def write_broken(folder: Path, column: str, feature: Any, wrap: Callable[[pa.Array], pa.Array] = lambda a: a) -> None:
    """A parquet file of four rows; the second one's text is no UTF-8, as parquet lets pass."""
    content = pa.array([b"one", b"\xff\xed\xa0\x80", b"three", b"four"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 4, content.buffers())
    images = [{"bytes": tiny_jpeg(i), "path": f"{i}.jpg"} for i in range(4)]
    schema = datasets.Features({"image": datasets.Image(), column: feature}).arrow_schema
    folder.mkdir()
    pq.write_table(pa.Table.from_arrays([pa.array(images), wrap(text)], schema=schema), folder / "train.parquet")


@pytest.mark.parametrize("nested", [False, True])
def test_a_kept_text_that_is_not_utf8_is_a_reject(convert: Convert, tmp_path: Path, nested: bool, tally: Note) -> None:
    text = datasets.Value("string")
    if nested:
        write_broken(tmp_path / "source", "t", datasets.List(text), lambda a: pa.ListArray.from_arrays(range(5), a))
    else:
        write_broken(tmp_path / "source", "t", text)
    out = convert(keep=("t",))
    values = [json.loads(content["json"])["t"] for content in check_readers(out, 4, tmp_path).values()]
    assert sorted(value[0] if nested else value for value in values) == ["four", "one", "three"]
    (line,) = map(json.loads, (out / "train" / "rejects.jsonl").read_text().splitlines())
    assert (line["row"], line["reason"]) == (1, "column 't' holds text that is not UTF-8")
    tally(ODD, "a clear error, or rejected with the reason")


def test_a_label_that_is_not_utf8(convert: Convert, tmp_path: Path, tally: Note) -> None:
    write_broken(tmp_path / "source", "label", datasets.Value("string"))
    out = convert()
    assert manifest.read(out / "train").classes == ["four", "one", "three"]
    assert len(check_readers(out, 4, tmp_path)) == 3
    assert rejects(out) == [(1, "label", "the label is text that is not UTF-8")]
    tally(ODD, "a clear error, or rejected with the reason")


def test_a_path_that_is_not_utf8(convert: Convert, tmp_path: Path, tally: Note) -> None:
    """It is only named in rejects.jsonl."""
    content = pa.array([b"0.jpg", b"\xff.jpg", b"\xfe.jpg"], pa.binary())
    paths = pa.Array.from_buffers(pa.string(), 3, content.buffers())
    data = pa.array([tiny_jpeg(0), tiny_jpeg(1), b"no image"], pa.binary())
    schema = datasets.Features({"image": datasets.Image()}).arrow_schema
    (tmp_path / "source").mkdir()
    images = pa.StructArray.from_arrays([data, paths], ["bytes", "path"])
    pq.write_table(pa.Table.from_arrays([images], schema=schema), tmp_path / "source" / "train.parquet")
    out = convert()
    assert len(check_readers(out, 3, tmp_path)) == 2
    assert json.loads((out / "train" / "rejects.jsonl").read_text())["where"] == "\ufffd.jpg"
    tally(ODD, "a clear error, or rejected with the reason")


# WebDataset tars

Member = tuple[str, bytes] | tarfile.TarInfo


def write_tar(folder: Path, members: Iterable[Member], format_: int = tarfile.GNU_FORMAT) -> None:
    folder.mkdir()
    with tarfile.open(folder / "train.tar", "w", format=format_, errors="surrogateescape") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))


def sample(key: str, number: int, **more: bytes) -> list[Member]:
    members: list[Member] = [(f"{key}.jpg", tiny_jpeg(number)), (f"{key}.cls", b"%d" % number)]
    return members + [(f"{key}.{name}", content) for name, content in more.items()]


def no_file(kind: bytes, name: str, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_member_names_that_lead_elsewhere(convert: Convert, tmp_path: Path, format_: int, tally: Note) -> None:
    names = [
        "/etc/cron.d/x",
        "../../../evil",
        "../here/x",
        "a/../../b",
        "x" * 300,
        "y/" * 120 + "z",
        "😀",
        "two\nlines",
    ]
    names += ["-rf", "C:\\x", "a b", "again", "between", "again"]
    write_tar(tmp_path / "source", [m for i, name in enumerate(names) for m in sample(name, i)], format_)
    out = convert(keep=("__key__",))
    found = check_readers(out, len(names) - 1, tmp_path)
    for key, content in found.items():
        row = keys.place(key)[1]
        assert json.loads(content["json"]) == {"__key__": names[row]}
        assert content["jpg"] == tiny_jpeg(row)
        tally(TARS, "nothing written outside OUT, nothing read but members of the tar")
    assert len(found) == len(names) - 2
    assert rejects(out) == [(names.index("again"), "jpg", "again.jpg comes twice in its sample")]


@pytest.mark.parametrize("first", [False, True])
def test_links_and_devices_are_no_files(convert: Convert, tmp_path: Path, first: bool, tally: Note) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(tiny_jpeg(77))
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    odd: list[Member] = [no_file(kind, f"odd{number}.jpg", str(secret)) for number, kind in enumerate(kinds)]
    odd.append(no_file(tarfile.SYMTYPE, "a", str(tmp_path)))  # through which a/b.jpg would be written elsewhere
    plain = [*sample("a/b", 1), *sample("c", 2)]
    write_tar(tmp_path / "source", odd + plain if first else plain + odd)
    out = convert()
    found = check_readers(out, 7, tmp_path)
    assert [found[key]["jpg"] for key in sorted(found)] == [tiny_jpeg(1), tiny_jpeg(2)]
    assert {column for _, column, _ in rejects(out)} == {"jpg"}
    assert len(rejects(out)) == 5  # a folder is no sample, whatever its name
    tally(TARS, "nothing written outside OUT, nothing read but members of the tar")


def test_names_that_are_not_utf8(convert: Convert, tmp_path: Path, tally: Note) -> None:
    write_tar(tmp_path / "source", [*sample("a", 0), *sample("\udcff\udcfe", 1)])
    """A name stands nowhere but in what is kept of it."""
    found = check_readers(convert(keep=("__key__",)), 2, tmp_path)
    assert [content["jpg"] for _, content in sorted(found.items())] == [tiny_jpeg(0), tiny_jpeg(1)]
    tally(ODD, "a clear error, or rejected with the reason")


DEEP = b"[" * 100_000 + b"]" * 100_000
REFUSED: dict[str, dict[str, bytes]] = {
    "a label of 30 digits": {"cls": b"9" * 30},
    "a label that is a path": {"cls": b"../../x"},
    "a label in other digits": {"cls": "٣".encode()},
    "a label with a NUL": {"cls": b"1\0"},
    "no label": {"cls": b""},
    "a label that is not UTF-8": {"cls": b"\xff"},
    "JSON of 100,000 levels": {"json": b'{"t":' + DEEP + b"}"},
    "JSON with a number of 5,000 digits": {"json": b'{"t":' + b"9" * 5_000 + b"}"},
    "JSON that is not UTF-8": {"json": b'{"t":"\xff"}'},
    "JSON that is cut short": {"json": b'{"t":'},
}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", REFUSED)
def test_values_that_are_none(convert: Convert, tmp_path: Path, kind: str, place: str, tally: Note) -> None:
    """Each is the fault of its row alone."""
    plain = [m for i in range(7) for m in sample(f"{i:02}", i, json=b'{"t":"x"}')]
    at = 0 if place == "first" else 7
    fields = {"jpg": tiny_jpeg(9), "cls": b"1", "json": b'{"t":"x"}'} | REFUSED[kind]
    bad: list[Member] = [(f"bad.{name}", content) for name, content in fields.items()]
    write_tar(tmp_path / "source", plain[: at * 3] + bad + plain[at * 3 :])
    out = convert(keep=("json",))
    assert len(check_readers(out, 8, tmp_path)) == 7
    ((row, column, _),) = rejects(out)
    assert (row, column) == (at, next(iter(REFUSED[kind])))
    tally(ODD, "a clear error, or rejected with the reason")


@pytest.mark.parametrize(("text", "value"), [(b'{"t":"\\ud800"}', {"t": "\ud800"}), (b"[1,2]", [1, 2]), (b" 1 ", 1)])
def test_json_of_any_shape_is_kept(text: bytes, value: object, convert: Convert, tmp_path: Path) -> None:
    write_tar(tmp_path / "source", [*sample("a", 0, json=b'{"t":"x"}'), *sample("b", 1, json=text)])
    out = convert(keep=("json",))
    found = sorted(read_split(out / "train").items())
    assert [json.loads(content["json"]) for _, content in found] == [{"json": {"t": "x"}}, {"json": value}]


def test_labels_that_are_negative_or_large(write_source: WriteSource, convert: Convert, tmp_path: Path) -> None:
    values = [0, -1, -2, 2**63 - 1, -(2**63)]
    source = write_source([tiny_jpeg(i) for i in range(5)], values)
    out = convert(source)
    check_split(out / "train", 5)
    classes = manifest.read(out / "train").classes
    assert classes == [str(value) for value in sorted(values)]
    labels = [int(content["cls"]) for _, content in sorted(read_split(out / "train").items())]
    assert [int(classes[label]) for label in labels] == values


def test_a_hostile_source_gives_the_same_bytes_again(
    write_source: WriteSource, convert: Convert, tmp_path: Path
) -> None:
    source = write_source(
        [tiny_jpeg(i) for i in range(len(TEXTS))], TEXTS, columns={"t": (datasets.Value("string"), TEXTS)}
    )
    first = digests(convert(source, keep=("t",), workers=1))
    os.rename(tmp_path / "out", tmp_path / "out-1")
    assert digests(convert(source, keep=("t",), workers=2)) == first
