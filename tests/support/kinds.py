"""The same photos as sources of every kind: parquet, Arrow, image folders, WebDataset tars."""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["cat", "dog", "eel"]
_GROUP = 5  #: rows of a row group or record batch


@dataclass(frozen=True, slots=True)
class Photos:
    """Images of a split, and their labels as places in NAMES."""

    images: tuple[bytes, ...]
    labels: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        return [NAMES[label] for label in self.labels or ()]

    def shuffled(self) -> Photos:
        order = random.Random(0).sample(range(len(self)), len(self))
        labels = None if self.labels is None else tuple(self.labels[i] for i in order)
        return Photos(tuple(self.images[i] for i in order), labels)

    def unlabelled(self) -> Photos:
        return Photos(self.images, None)

    def samples(self) -> list[tuple[bytes, int]]:
        """(image, label or -1), in order of the source."""
        return list(zip(self.images, self.labels or [-1] * len(self), strict=True))


Splits = Mapping[str, Photos]


@dataclass(frozen=True, slots=True)
class Kind:
    """How a source of a kind is written, and what is given for it on the command line."""

    write: Callable[[Path, Splits], None]
    pattern: str = ""  #: what is appended to the folder; {split} in it is the split's name
    options: Mapping[str, str] = field(default_factory=dict)  #: where there are labels
    classes: bool = True  #: whether labels have names
    ordered: bool = True  #: whether it keeps the order of the photos

    def source(self, folder: Path, split: str) -> str:
        return f"{folder}/{self.pattern}".format(split=split) if self.pattern else str(folder)

    def label_options(self, photos: Photos) -> dict[str, Any]:
        return {} if photos.labels is None else dict(self.options)


def _features(photos: Photos) -> datasets.Features:
    features: dict[str, Any] = {"image": datasets.Image()}
    if photos.labels is not None:
        features["label"] = datasets.ClassLabel(names=NAMES)
    return datasets.Features(features)


def table(photos: Photos) -> pa.Table:
    """As `datasets` lays it out."""
    rows: dict[str, Any] = {"image": [{"bytes": data, "path": None} for data in photos.images]}
    if photos.labels is not None:
        rows["label"] = list(photos.labels)
    return pa.table(rows, schema=_features(photos).arrow_schema)


def _halves(rows: pa.Table) -> Iterable[pa.Table]:
    yield rows.slice(0, len(rows) // 2)
    yield rows.slice(len(rows) // 2)


def write_parquet(folder: Path, splits: Splits) -> None:
    (folder / "data").mkdir(parents=True)
    for split, photos in splits.items():
        for number, half in enumerate(_halves(table(photos))):
            pq.write_table(half, folder / "data" / f"{split}-{number:05d}-of-00002.parquet", row_group_size=_GROUP)


def _dataset(photos: Photos) -> datasets.Dataset:
    return datasets.Dataset(table(photos))


def write_saved(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        _dataset(photos).save_to_disk(folder / split, num_shards=2)


def write_saved_dict(folder: Path, splits: Splits) -> None:
    datasets.DatasetDict({split: _dataset(photos) for split, photos in splits.items()}).save_to_disk(folder)


def write_saved_paths(folder: Path, splits: Splits) -> None:
    """Rows hold nothing but the images' paths, and those lie elsewhere."""
    for split, photos in splits.items():
        elsewhere = folder.parent / f"elsewhere-{folder.name}" / split
        paths = _write_images(elsewhere, photos)
        rows = table(photos).drop_columns("image")
        content = datasets.Dataset(rows.append_column("image", pa.array(paths))).cast_column("image", datasets.Image())
        content.save_to_disk(folder / split)


def write_arrow(folder: Path, splits: Splits, new_writer: Callable[..., Any] = pa.ipc.new_stream) -> None:
    for split, photos in splits.items():
        (folder / split).mkdir(parents=True)
        for number, half in enumerate(_halves(table(photos))):
            with pa.OSFile(str(folder / split / f"{number}.arrow"), "wb") as file, new_writer(file, half.schema) as out:
                out.write_table(half, max_chunksize=_GROUP)


def write_arrow_files(folder: Path, splits: Splits) -> None:
    write_arrow(folder, splits, pa.ipc.new_file)


def _write_images(folder: Path, photos: Photos, by_class: bool = False) -> list[str]:
    paths = []
    for number, data in enumerate(photos.images):
        path = folder / (photos.names[number] if by_class and photos.labels else "") / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(str(path))
    return paths


def write_image_folders(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        _write_images(folder / split, photos, by_class=True)


def _metadata(photos: Photos) -> list[dict[str, str]]:
    rows = [{"file_name": f"{number:03d}.jpg"} for number in range(len(photos))]
    for row, name in zip(rows, photos.names, strict=False):
        row["label"] = name
    return rows


def write_csv(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        _write_images(folder / split, photos)
        rows = _metadata(photos)
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_jsonl(folder: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        _write_images(folder / split, photos)
        lines = [json.dumps(row) for row in _metadata(photos)]
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def write_zip(folder: Path, splits: Splits) -> None:
    """A zip a split, metadata and all."""
    for split, photos in splits.items():
        (folder / split).mkdir(parents=True)
        with zipfile.ZipFile(folder / split / "photos.zip", "w") as file:
            for row, data in zip(_metadata(photos), photos.images, strict=True):
                file.writestr(row["file_name"], data)
            if photos.labels is not None:
                file.writestr("metadata.jsonl", "\n".join(map(json.dumps, _metadata(photos))))


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Samples as (key, content by extension)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, content in samples:
            for extension, data in content.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _write_tars(folder: Path, splits: Splits, label: Callable[[int], Mapping[str, bytes]]) -> None:
    for split, photos in splits.items():
        samples: list[tuple[str, Mapping[str, bytes]]] = [
            (f"{number:03d}", {"jpg": data} | (dict(label(photos.labels[number])) if photos.labels else {}))
            for number, data in enumerate(photos.images)
        ]
        middle = len(samples) // 2
        for number, half in enumerate((samples[:middle], samples[middle:])):
            write_tar(folder / f"{split}-{number:04d}.tar", half)


def write_tars(folder: Path, splits: Splits) -> None:
    _write_tars(folder, splits, lambda label: {"cls": str(label).encode()})


def write_tars_of_text(folder: Path, splits: Splits) -> None:
    _write_tars(folder, splits, lambda label: {"txt": f"{NAMES[label]}\n".encode()})


def write_tars_of_json(folder: Path, splits: Splits) -> None:
    """With what is no label beside it."""
    _write_tars(folder, splits, lambda label: {"cls": str(label).encode(), "json": json.dumps({"n": label}).encode()})


KINDS: dict[str, Kind] = {
    "parquet": Kind(write_parquet),
    "parquet-glob": Kind(write_parquet, "data/{split}-*.parquet"),
    "arrow-saved": Kind(write_saved, "{split}"),
    "arrow-saved-dict": Kind(write_saved_dict),
    "arrow-saved-paths": Kind(write_saved_paths, "{split}"),
    "arrow-glob": Kind(write_arrow, "{split}/*.arrow"),
    "arrow-glob-files": Kind(write_arrow_files, "{split}/*.arrow"),
    "images": Kind(write_image_folders, ordered=False),
    "images-glob": Kind(write_image_folders, "{split}/**/*.jpg", ordered=False),
    "images-csv": Kind(write_csv),
    "images-jsonl": Kind(write_jsonl),
    "images-zip": Kind(write_zip),
    "tars": Kind(write_tars, classes=False),
    "tars-glob": Kind(write_tars, "{split}-*.tar", classes=False),
    "tars-text": Kind(write_tars_of_text, options={"label_column": "txt"}),
    "tars-json": Kind(write_tars_of_json, classes=False),
}


def read_lines(path: Path) -> Sequence[dict[str, Any]]:
    """Of rejects.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines()]
