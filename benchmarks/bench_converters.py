"""The converters of benchmarks/bench_convert.py: what people use today, each as its own documentation writes it.

    python benchmarks/bench_converters.py NAME SOURCE OUT

Every one reads SOURCE/data/train-*.parquet (columns image, label, row), makes each picture's short side 256 pixels,
saves it as a JPEG of quality 90, and keeps the label, in two processes. NAME is a key of `PEERS`. By itself a peer
decodes, resizes and encodes with Pillow, as its users do (img2dataset: with its own OpenCV); one whose name ends in
`+codec` calls wdsremux's codec instead, so that what remains is the converter around it.

Imports stand in the functions: a peer is not to pay for another's, and the benchmark reads only the table.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from multiprocessing import Pool, Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_bake import QUALITY, SIDE, bake_bytes, bake_codec, bake_image, open_codec

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

WORKERS = 2
BATCH = 100  #: rows that go to a pool, or into a row group, at once
CHUNK = 8  #: rows that a pool's worker takes at once

Row = dict[str, Any]  #: image: a Pillow picture, or {"bytes", "path"}; label: int
Bake = Callable[[Any], bytes]  #: of benchmarks/bench_bake.py: a row's image -> JPEG


# Reading.


def files(source: Path) -> list[str]:
    """The parquet files of the training split, in order."""
    return sorted(str(path) for path in (source / "data").glob("train-*.parquet"))


def load(source: Path, decode: bool, streaming: bool = False) -> Any:
    """The split as a Dataset, or as an IterableDataset; pictures come from Pillow, or as {"bytes", "path"}."""
    import datasets

    rows = datasets.load_dataset("parquet", data_files=files(source), split="train", streaming=streaming)
    return rows if decode else rows.cast_column("image", datasets.Image(decode=False))


def pooled(source: Path, bake: Bake) -> Iterator[tuple[bytes, int]]:
    """JPEG and label of each row, made in a pool from what the parent reads."""
    with Pool(WORKERS) as pool:
        yield from pool.imap(partial(baked_pair, bake), pairs(source), chunksize=CHUNK)


def pairs(source: Path) -> Iterator[tuple[bytes, int]]:
    """Encoded picture and label of each row."""
    for row in load(source, decode=False):
        yield row["image"]["bytes"], row["label"]


def baked_pair(bake: Bake, pair: tuple[bytes, int]) -> tuple[bytes, int]:
    """A worker's part of `pooled`."""
    return bake(pair[0]), pair[1]


# The converters.


def forum(source: Path, out: Path, bake: Bake) -> None:
    """The forum script's way: all pictures in memory, a pool that is fed a batch at a time, one ParquetWriter."""
    import pyarrow.parquet as pq

    decode = bake is bake_image
    rows = load(source, decode=decode)
    images, labels = list(rows["image"]), list(rows["label"])
    if not decode:
        images = [image["bytes"] for image in images]
    out.mkdir(parents=True)
    with Pool(WORKERS) as pool, pq.ParquetWriter(out / "train.parquet", parquet_schema()) as writer:
        left = zip(images, labels, strict=True)
        while batch := list(islice(left, BATCH)):
            writer.write_table(parquet_table(pool.starmap(partial(forum_row, bake), batch)))


def forum_row(bake: Bake, image: Any, label: int) -> Row:
    """One row of the forum script's table."""
    return {"image": bake(image), "label": label}


def parquet_schema() -> pa.Schema:
    """Of a table of JPEGs and labels."""
    import pyarrow as pa

    return pa.schema({"image": pa.binary(), "label": pa.int64()})


def parquet_table(rows: list[Row]) -> pa.Table:
    """Rows as a table."""
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=parquet_schema())


def map_row(bake: Bake, row: Row) -> Row:
    """What `map` calls. The JPEG's bytes, because of a Pillow picture datasets would make a PNG."""
    image = row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"]
    return {"image": {"bytes": bake(image), "path": None}}


def map_dataset(source: Path, out: Path, bake: Bake) -> None:
    """`Dataset.map` in processes, then `save_to_disk`."""
    rows: datasets.Dataset = load(source, decode=bake is bake_image)
    rows.map(partial(map_row, bake), num_proc=WORKERS).save_to_disk(out)


def shard_dataset(source: Path, out: Path, bake: Bake) -> None:
    """`IterableDataset.shard`: a process a shard, each with a parquet file of its own."""
    out.mkdir(parents=True)
    processes = [Process(target=shard_process, args=(source, out, bake, number)) for number in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("a shard's process failed")


def shard_process(source: Path, out: Path, bake: Bake, number: int) -> None:
    """One of its processes."""
    import datasets

    rows: datasets.IterableDataset = load(source, decode=bake is bake_image, streaming=True)
    features = datasets.Features({**rows.features, "image": datasets.Image(decode=False)})
    part = rows.shard(WORKERS, number).map(partial(map_row, bake), features=features)
    part.to_parquet(str(out / f"train-{number}.parquet"))


def shard_writer(source: Path, out: Path, bake: Bake) -> None:
    """webdataset's ShardWriter in the parent, fed by a pool."""
    import webdataset

    out.mkdir(parents=True)
    with webdataset.ShardWriter(str(out / "train-%06d.tar"), maxcount=2000, verbose=0) as writer:
        for number, (jpeg, label) in enumerate(pooled(source, bake)):
            writer.write({"__key__": f"{number:08d}", "jpg": jpeg, "cls": label})


def litdata_optimize(source: Path, out: Path, bake: Bake) -> None:
    """LitData's `optimize`, given row numbers, as for any set that can be indexed."""
    import litdata  # type: ignore[import-not-found,unused-ignore]

    numbers = list(range(len(litdata_rows(source))))
    function = partial(litdata_sample, source, bake)
    litdata.optimize(function, numbers, str(out), num_workers=WORKERS, chunk_bytes="64MB", verbose=False)


@cache
def litdata_rows(source: Path) -> datasets.Dataset:
    """The set, opened once a process."""
    rows: datasets.Dataset = load(source, decode=True)
    return rows


def litdata_sample(source: Path, bake: Bake, number: int) -> Row:
    """What `optimize` calls."""
    row = litdata_rows(source)[number]
    return {"jpeg": bake(row["image"]), "label": row["label"]}


def mds_writer(source: Path, out: Path, bake: Bake) -> None:
    """MosaicML's MDSWriter in the parent, fed by a pool."""
    from streaming import MDSWriter  # type: ignore[import-not-found,unused-ignore]

    with MDSWriter(out=str(out), columns={"jpeg": "bytes", "label": "int"}) as writer:
        for jpeg, label in pooled(source, bake):
            writer.write({"jpeg": jpeg, "label": label})


def ray_data(source: Path, out: Path, bake: Bake) -> None:
    """Ray Data: parquet to parquet, a row at a time."""
    import ray

    folder = tempfile.mkdtemp(prefix="ray-")  # a short name: sockets lie in it
    ray.init(num_cpus=WORKERS, include_dashboard=False, _temp_dir=folder)
    # Ray 2.60's new reader makes one task of so small a set, whatever number is asked for, and works on one core;
    # without aiohttp, its threads at times fail to import fsspec's HTTP files, all at once.
    ray.data.DataContext.get_current().use_datasource_v2 = False
    paths = files(source)
    rows = ray.data.read_parquet(paths, override_num_blocks=len(paths)).select_columns(["image", "label"])
    rows.map(partial(ray_row, bake)).write_parquet(str(out))
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def ray_row(bake: Bake, row: Row) -> Row:
    """What Ray's `map` calls."""
    return {"image": bake(row["image"]["bytes"]), "label": row["label"]}


def img2dataset(source: Path, out: Path, bake: Bake) -> None:
    """img2dataset's Resizer and WebDataset writer, a process a shard, as in its own loop; it does not download here."""
    out.mkdir(parents=True)
    with Pool(WORKERS) as pool:
        list(pool.imap_unordered(partial(img2dataset_shard, out), enumerate(files(source))))


def img2dataset_shard(out: Path, part: tuple[int, str]) -> None:
    """One parquet file becomes one of its shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from img2dataset.resizer import Resizer  # type: ignore[import-not-found,unused-ignore]
    from img2dataset.writer import WebDatasetSampleWriter  # type: ignore[import-not-found,unused-ignore]

    mend_albumentations()
    number, path = part
    resizer = Resizer(SIDE, "keep_ratio", resize_only_if_bigger=True, encode_quality=QUALITY)
    schema = pa.schema({"key": pa.string(), "label": pa.int64(), "width": pa.int32(), "height": pa.int32()})
    writer = WebDatasetSampleWriter(number, str(out), False, 5, schema)
    index = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=["image", "label"]):
            for row in batch.to_pylist():
                jpeg, width, height, _, _, error = resizer(io.BytesIO(row["image"]["bytes"]))
                if error:
                    raise RuntimeError(error)
                key = f"{number:05d}{index:04d}"
                meta = {"key": key, "label": row["label"], "width": width, "height": height}
                writer.write(jpeg, key, None, meta)
                index += 1
    writer.close()


def mend_albumentations() -> None:
    """The one function that the Resizer calls and that albumentations 2 no longer has, as version 1 wrote it."""
    import albumentations
    import cv2

    def smallest_max_size(image: Any, side: int, interpolation: int) -> Any:
        height, width = image.shape[:2]
        scale = side / min(height, width)
        return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=interpolation)

    if not hasattr(albumentations, "smallest_max_size"):
        albumentations.smallest_max_size = smallest_max_size


# The table.


@dataclass(frozen=True, slots=True)
class Peer:
    """A converter, what it does to a picture, and the format it writes (a key of bench_quality.READERS)."""

    convert: Callable[[Path, Path, Bake], None]
    bake: Bake
    format: str


PEERS = {
    "forum": Peer(forum, bake_image, "parquet"),
    "map": Peer(map_dataset, bake_image, "arrow"),
    "shard": Peer(shard_dataset, bake_image, "parquet"),
    "webdataset": Peer(shard_writer, bake_bytes, "tar"),
    "litdata": Peer(litdata_optimize, bake_image, "litdata"),
    "mds": Peer(mds_writer, bake_bytes, "mds"),
    "ray": Peer(ray_data, bake_bytes, "parquet"),
    "img2dataset": Peer(img2dataset, bake_bytes, "tar"),
    "forum+codec": Peer(forum, bake_codec, "parquet"),
    "map+codec": Peer(map_dataset, bake_codec, "arrow"),
    "shard+codec": Peer(shard_dataset, bake_codec, "parquet"),
    "webdataset+codec": Peer(shard_writer, bake_codec, "tar"),
}

#: Converters that are not run, and why.
LEFT_OUT = {"ffcv": "does not build from its package: needs OpenCV's C++ headers and pthread-turbojpeg"}


def keep_caches_in(folder: Path) -> None:
    """Every library's cache: in a folder that is removed with the output, or the second run would find the first's."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(folder / "litdata")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(folder / "litdata-data")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version


def main() -> None:
    """One conversion; OUT must not exist. Caches lie beside it."""
    name, source, out = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    keep_caches_in(out.with_name(f"{out.name}-cache"))
    peer = PEERS[name]
    if peer.bake is bake_codec:
        open_codec()
    peer.convert(source, out, peer.bake)


if __name__ == "__main__":
    main()
