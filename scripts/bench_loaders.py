"""The loaders that bench_load.py times: ours, and what people use today, each as its users write it.

Each is a function OUT -> Images. What has no complete annotations is imported as Any, by name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_machine import CORES

if TYPE_CHECKING:
    import torch

    Images = Generator[torch.Tensor, None, None]  #: endless; each batch seen as [N, 3, 224, 224]

SIZE = 224  #: pixels, side of the crop


BATCH = 256


SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  #: ImageNet's, for pixels in [0, 1]


def ours(out: Path, *, backend: str, dtype: str, channels_last: bool) -> Images:
    """`wdsremux.DataLoader` as its users write it; dtype "uint8" is not normalised."""
    import torch

    # Not `import wdsremux`: this file has to check and run where only the peers are installed.
    loader = importlib.import_module("wdsremux").DataLoader(
        out,
        batch_size=BATCH,
        split="train",
        augment="train",
        size=SIZE,
        backend=backend,
        dtype=getattr(torch, dtype),
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    with loader:
        while True:
            for images, _ in loader:
                yield images


def webdataset_v2(out: Path, *, tuned: bool) -> Images:
    """webdataset and torchvision's v2 transforms in a torch DataLoader with a worker a core.

    As webdataset's README has it: its own decoder gives uint8 tensors, `batched` makes the batches, WebLoader carries
    them over. `tuned` is the quickest form that we found: TorchCodec decodes, and torch's DataLoader collates straight
    into shared memory. In both, v2 works on uint8 until ToDtype. `repeat` makes the stream endless, so that no epoch's
    start is timed.
    """
    import torch
    from torchvision.transforms import v2

    wds: Any = importlib.import_module("webdataset")
    decode_jpeg: Any = importlib.import_module("torchcodec.decoders").decode_jpeg
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=SCALE, ratio=RATIO, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def image(encoded: bytes) -> torch.Tensor:
        pixels: torch.Tensor = transform(decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8)))
        return pixels

    dataset = wds.WebDataset(shards_of(out), shardshuffle=100).shuffle(1000)
    loader: Any
    if tuned:
        dataset = dataset.to_tuple("jpg", "cls").map_tuple(image, int).repeat()
        loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=CORES)
    else:
        dataset = dataset.decode("torchrgb8").to_tuple("jpg", "cls").map_tuple(transform, int).repeat()
        loader = wds.WebLoader(dataset.batched(BATCH), batch_size=None, num_workers=CORES)
    for images, _ in loader:
        yield images


def dali_readers_webdataset(out: Path, *, channels_last: bool) -> Images:
    """DALI's own tar reader and CPU operators as in its ResNet-50 example, given out by DALIGenericIterator.

    `image_random_crop` decodes only the crop; decoding all and then `random_resized_crop` was not quicker.
    """
    fn: Any = importlib.import_module("nvidia.dali.fn")
    types: Any = importlib.import_module("nvidia.dali.types")
    plugin: Any = importlib.import_module("nvidia.dali.plugin.pytorch")

    shards = shards_of(out)
    # exec_dynamic is the default: the tensors handed out are the caller's to keep, without a copy.
    pipeline = importlib.import_module("nvidia.dali").Pipeline(batch_size=BATCH, num_threads=CORES, device_id=None)
    with pipeline:
        encoded, labels = fn.readers.webdataset(
            paths=shards,
            index_paths=[shard.removesuffix(".tar") + ".idx" for shard in shards],
            ext=["jpg", "cls"],
            missing_component_behavior="error",
            random_shuffle=True,
            name="reader",
        )
        crops = fn.decoders.image_random_crop(encoded, random_area=SCALE, random_aspect_ratio=RATIO)
        images = fn.crop_mirror_normalize(
            fn.resize(crops, size=(SIZE, SIZE)),
            mirror=fn.random.coin_flip(),
            dtype=types.FLOAT,
            output_layout="HWC" if channels_last else "CHW",
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
        )
        # Labels are digits of ASCII, one or more: without padding they make no tensor.
        pipeline.set_outputs(images, fn.pad(labels))
    batches = plugin.DALIGenericIterator(
        pipeline,
        ["images", "labels"],
        reader_name="reader",
        auto_reset=True,
        last_batch_policy=plugin.LastBatchPolicy.DROP,
    )
    while True:
        for [batch] in batches:
            yield batch["images"].permute(0, 3, 1, 2) if channels_last else batch["images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A loader, and the form of the batches it claims to give."""

    stream: Callable[[Path], Images]
    dtype: str = "float32"
    channels_last: bool = False


def _ours(backend: str, dtype: str = "float32", channels_last: bool = False) -> Contender:
    stream = partial(ours, backend=backend, dtype=dtype, channels_last=channels_last)
    return Contender(stream=stream, dtype=dtype, channels_last=channels_last)


def _dali(channels_last: bool) -> Contender:
    stream = partial(dali_readers_webdataset, channels_last=channels_last)
    return Contender(stream=stream, channels_last=channels_last)


CONTENDERS: dict[str, Contender] = {
    "auto-float": _ours("auto"),
    "auto-float-cl": _ours("auto", channels_last=True),
    "auto-uint8-cl": _ours("auto", dtype="uint8", channels_last=True),
    "dali-float": _ours("dali"),
    "dali-float-cl": _ours("dali", channels_last=True),
    "peer-webdataset-v2": Contender(stream=partial(webdataset_v2, tuned=False)),
    "peer-webdataset-v2-tuned": Contender(stream=partial(webdataset_v2, tuned=True)),
    "peer-dali-float": _dali(channels_last=False),
    "peer-dali-float-cl": _dali(channels_last=True),
}


def shards_of(out: Path) -> list[str]:
    """Paths of the training tars, in order."""
    shards = sorted(str(path) for path in (out / "train").glob("*.tar"))
    if not shards:
        raise SystemExit(f"No tars in {out / 'train'}: give an OUT of `wdsremux convert`, or none.")
    return shards
