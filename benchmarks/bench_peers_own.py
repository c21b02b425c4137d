"""Peers that read a form of their own: LitData, MosaicML Streaming, grain, torchvision's ImageFolder, and `datasets` on
the unconverted parquet; each as its users write it.

Each is a function Data -> Images. What has no complete annotations is imported as Any, by name.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench_loaders import BATCH, Data
from bench_machine import CORES
from bench_peers_tars import transforms

if TYPE_CHECKING:
    from bench_loaders import Images

#: Of torch's DataLoader; workers that live on through the epochs are what its documentation advises.
LOADING: dict[str, Any] = {
    "batch_size": BATCH,
    "num_workers": CORES,
    "drop_last": True,
    "persistent_workers": True,
}
#: What S3's clients ask for; the store of bench_store.py looks at none of it.
S3 = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing", "region_name": "us-east-1"}


def endless(loader: Iterable[Any]) -> Images:
    """The images of a loader's epochs, one after the other."""
    while True:
        for batch in loader:
            yield batch[0] if isinstance(batch, list | tuple) else batch["images"]


def datasets_source(data: Data) -> Images:
    """`datasets` as load_dataset gives it, with a transform, in torch's DataLoader: nothing converted."""
    import torch

    datasets: Any = importlib.import_module("datasets")
    transform = transforms("pil")

    def some(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        images = [transform(image.convert("RGB")) for image in rows["image"]]
        return {"images": images, "labels": rows["label"]}

    cache = str(data.sets / "arrow")
    rows = datasets.load_dataset("parquet", data_files={"train": data.parquet()}, split="train", cache_dir=cache)
    loader: Any = torch.utils.data.DataLoader(rows.with_transform(some), shuffle=True, **LOADING)
    return endless(loader)


def image_folder(data: Data) -> Images:
    """torchvision's ImageFolder: a file an image, Pillow decodes."""
    import torch
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(data.sets / "folder"), transform=transforms("pil"))
    loader: Any = torch.utils.data.DataLoader(dataset, shuffle=True, **LOADING)
    return endless(loader)


def litdata(data: Data) -> Images:
    """LitData: its StreamingDataset decodes to uint8 tensors by itself, its StreamingDataLoader makes batches."""
    lit: Any = importlib.import_module("litdata")
    transform = transforms("tensor")

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"images": transform(row["image"]), "labels": row["label"]}

    where: dict[str, Any] = {"input_dir": str(data.sets / "litdata")}
    if data.store:
        # Its client in Rust takes https only, and there is no option for it.
        importlib.import_module("litdata.streaming.downloader")._OBSTORE_CLIENT_OPTIONS["allow_http"] = "true"
        where = {
            "input_dir": "s3://sets/litdata",
            "cache_dir": tempfile.mkdtemp(prefix="bench-litdata-"),
            "storage_options": {**S3, "endpoint_url": data.store},
        }
    dataset = lit.StreamingDataset(**where, shuffle=True, drop_last=True, transform=one)
    return endless(lit.StreamingDataLoader(dataset, shuffle=True, **LOADING))


def mosaic(data: Data) -> Images:
    """MosaicML Streaming: Pillow decodes its "jpeg" column, torch's DataLoader makes batches."""
    import torch

    streaming: Any = importlib.import_module("streaming")
    transform = transforms("pil")

    class Photos(streaming.StreamingDataset):  # type: ignore[misc]
        """As its documentation has a dataset with transforms."""

        def __getitem__(self, at: Any) -> Any:
            row = super().__getitem__(at)
            return transform(row["image"].convert("RGB")), row["label"]

    streaming.base.util.clean_stale_shared_memory()  # of a run that was killed
    where: dict[str, Any] = {"local": str(data.sets / "mosaic")}
    if data.store:
        os.environ.update({name.upper(): value for name, value in S3.items()} | {"S3_ENDPOINT_URL": data.store})
        os.environ["AWS_DEFAULT_REGION"] = S3["region_name"]
        where = {"remote": "s3://sets/mosaic", "local": tempfile.mkdtemp(prefix="bench-mosaic-")}
    photos = Photos(**where, batch_size=BATCH, shuffle=True)
    for stream in photos.streams:  # or forked workers read from the connection that fetched the index, and get each
        stream._downloader.clean_up()  # other's bytes
    loader: Any = torch.utils.data.DataLoader(photos, **LOADING)
    return endless(loader)


def grain(data: Data) -> Images:
    """grain's DataLoader over ArrayRecord files: torchvision decodes and transforms, two worker processes."""
    import torch

    module: Any = importlib.import_module("grain.python")
    decode_jpeg: Any = importlib.import_module("torchvision.io").decode_jpeg
    transform = transforms("tensor")

    class Decode(module.MapTransform):  # type: ignore[misc]
        """A record is a byte of label, then a JPEG file."""

        def map(self, record: bytes) -> Any:
            torch.set_num_threads(1)  # the other core is another worker's; without this it is 20 times as slow
            encoded = torch.frombuffer(bytearray(record[1:]), dtype=torch.uint8)
            return {"images": transform(decode_jpeg(encoded)).numpy(), "labels": record[0]}

    # A group of 1, as grain's documentation wants for files that are read in random order.
    source = module.ArrayRecordDataSource(sorted(str(path) for path in (data.sets / "records").glob("*.array_record")))
    sampler = module.IndexSampler(len(source), shuffle=True, seed=0)  # without end
    work = [Decode(), module.Batch(BATCH, drop_remainder=True)]
    for batch in module.DataLoader(data_source=source, sampler=sampler, operations=work, worker_count=CORES):
        yield torch.from_numpy(batch["images"])
