"""Peers that read our tars: webdataset, DALI, datasets, SPDL; each as its users write it.

Each is a function Data -> Images. What has no complete annotations is imported as Any, by name.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench_loaders import BATCH, MEAN, RATIO, SCALE, SIZE, STD, Data, random_box
from bench_machine import CORES

if TYPE_CHECKING:
    import torch
    from bench_loaders import Images

SHUFFLE = 1000  #: samples in the shuffle buffer of those that have one


def transforms(of: str) -> Any:
    """torchvision's v2 transforms, "pil" -> float32 [3, 224, 224] or "tensor" (uint8) -> the same.

    Each in its quickest order: Pillow resizes before anything becomes a tensor, and tensors stay uint8 until ToDtype.
    """
    import torch
    from torchvision.transforms import v2

    crop = [v2.RandomResizedCrop(SIZE, scale=SCALE, ratio=RATIO, antialias=True), v2.RandomHorizontalFlip()]
    image = [v2.ToImage()] if of == "pil" else []
    return v2.Compose([*crop, *image, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def webdataset_pil(data: Data) -> Images:
    """webdataset as most people write it: Pillow decodes, torchvision's first transforms, torch's DataLoader."""
    import torch
    from torchvision import transforms as v1

    wds: Any = importlib.import_module("webdataset")
    transform = v1.Compose(
        [
            v1.RandomResizedCrop(SIZE, scale=SCALE, ratio=RATIO),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    dataset = wds.WebDataset(data.tars(), shardshuffle=100).shuffle(SHUFFLE).decode("pil")
    dataset = dataset.to_tuple("jpg", "cls").map_tuple(transform, int).repeat()
    for images, _ in torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=CORES):
        yield images


def webdataset_v2(data: Data, *, tuned: bool) -> Images:
    """webdataset and torchvision's v2 transforms in a torch DataLoader with a worker a core.

    As webdataset's README has it: its own decoder gives uint8 tensors, `batched` makes the batches, WebLoader carries
    them over. `tuned` is the quickest form that we found: TorchCodec decodes, and torch's DataLoader collates straight
    into shared memory. `repeat` makes the stream endless, so that only the first epoch's start is timed.
    """
    import torch

    wds: Any = importlib.import_module("webdataset")
    transform = transforms("tensor")

    def image(encoded: bytes) -> torch.Tensor:
        decode_jpeg: Any = importlib.import_module("torchcodec.decoders").decode_jpeg
        pixels: torch.Tensor = transform(decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8)))
        return pixels

    dataset = wds.WebDataset(data.tars(), shardshuffle=100).shuffle(SHUFFLE)
    loader: Any
    if tuned:
        dataset = dataset.to_tuple("jpg", "cls").map_tuple(image, int).repeat()
        loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=CORES)
    else:
        dataset = dataset.decode("torchrgb8").to_tuple("jpg", "cls").map_tuple(transform, int).repeat()
        loader = wds.WebLoader(dataset.batched(BATCH), batch_size=None, num_workers=CORES)
    for images, _ in loader:
        yield images


def datasets_webdataset(data: Data) -> Images:
    """`datasets` with its webdataset builder, streamed and shuffled, in torch's DataLoader."""
    import torch

    datasets: Any = importlib.import_module("datasets")
    transform = transforms("pil")

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"images": transform(row["jpg"].convert("RGB")), "labels": int(row["cls"])}

    rows = datasets.load_dataset("webdataset", data_files={"train": data.tars()}, split="train", streaming=True)
    rows = rows.shuffle(seed=0, buffer_size=SHUFFLE).map(one, remove_columns=rows.column_names)
    loader: Any = torch.utils.data.DataLoader(
        rows, batch_size=BATCH, num_workers=CORES, drop_last=True, persistent_workers=True
    )
    while True:
        for batch in loader:
            yield batch["images"]


def dali_readers_webdataset(data: Data, *, channels_last: bool) -> Images:
    """DALI's own tar reader and CPU operators as in its ResNet-50 example, given out by DALIGenericIterator.

    `image_random_crop` decodes only the crop; decoding all and then `random_resized_crop` was not quicker.
    """
    fn: Any = importlib.import_module("nvidia.dali.fn")
    types: Any = importlib.import_module("nvidia.dali.types")
    plugin: Any = importlib.import_module("nvidia.dali.plugin.pytorch")

    shards = data.tars()
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


def spdl(data: Data, *, ffmpeg: bool) -> Images:
    """SPDL: a pipeline of threads, a batch the work of one thread, as in SPDL's ImageNet example.

    With `ffmpeg`, spdl.io decodes, and FFmpeg's filters cut, scale and flip: one written for each image, because a
    random crop differs each time. It needs FFmpeg's libraries on the machine. Else torchvision decodes and transforms.
    """
    import torch

    pipelines: Any = importlib.import_module("spdl.pipeline")
    torch.set_num_threads(1)  # the pipeline's threads fill the cores
    builder = pipelines.PipelineBuilder().add_source(_mixed(data.tars())).aggregate(BATCH, drop_last=True)
    batch = _ffmpeg_batch() if ffmpeg else _v2_batch()
    pipeline = builder.pipe(batch, concurrency=CORES).add_sink(CORES).build(num_threads=CORES, max_failures=0)
    with pipeline.auto_stop():
        yield from pipeline.get_iterator()


def _ffmpeg_batch() -> Callable[[list[bytes]], torch.Tensor]:
    """Files to a batch as spdl.io does it; torch normalises."""
    import torch

    io: Any = importlib.import_module("spdl.io")
    mean, std = (torch.tensor(values).mul(255)[:, None, None] for values in (MEAN, STD))
    io.demux_config()  # looks for FFmpeg's libraries now: a pipeline would go on without end, and drop every batch
    draw = random.Random(0)

    def decode(encoded: bytes) -> Any:
        packets = io.demux_image(encoded)
        x, y, width, height = random_box(packets.codec.width, packets.codec.height, draw)
        flip = ",hflip" if draw.random() < 0.5 else ""
        chain = f"crop={width}:{height}:{x}:{y},scale={SIZE}:{SIZE}:flags=bilinear{flip}"
        return io.decode_packets(packets, filter_desc=f"{chain},format=pix_fmts=rgb24")

    def batch(files: list[bytes]) -> torch.Tensor:
        pixels = io.to_torch(io.convert_frames([decode(file) for file in files]))  # uint8 [N, H, W, 3]
        images: torch.Tensor = pixels.permute(0, 3, 1, 2).to(torch.float32).sub_(mean).div_(std)
        return images

    return batch


def _v2_batch() -> Callable[[list[bytes]], torch.Tensor]:
    """Files to a batch with torchvision."""
    import torch

    decode_jpeg: Any = importlib.import_module("torchvision.io").decode_jpeg
    transform = transforms("tensor")

    def one(file: bytes) -> torch.Tensor:
        pixels: torch.Tensor = transform(decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8)))
        return pixels

    return lambda files: torch.stack([one(file) for file in files])


def _mixed(tars: list[str]) -> Iterator[bytes]:
    """Files of tars without end, mixed as webdataset mixes: shards, then a buffer."""
    iter_tarfile: Any = importlib.import_module("spdl.io").iter_tarfile
    draw, buffer = random.Random(0), list[bytes]()
    while True:
        for path in draw.sample(tars, len(tars)):
            with open(path, "rb") as file:
                for name, content in iter_tarfile(file):
                    if not name.endswith(".jpg"):
                        continue
                    if len(buffer) < SHUFFLE:
                        buffer.append(bytes(content))
                        continue
                    place = draw.randrange(SHUFFLE)
                    yield buffer[place]
                    buffer[place] = bytes(content)
