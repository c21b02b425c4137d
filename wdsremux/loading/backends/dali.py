"""NVIDIA DALI: one pipeline, fed from our order with bytes and one packed array of parameters a batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux import codec
from wdsremux.errors import BackendError, ImageError
from wdsremux.loading.backends import Batch, Output

try:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline
except ImportError as error:
    raise BackendError(
        "the dali backend needs NVIDIA DALI, which is not installed. "
        'Install it with `pip install "wdsremux[dali]"`, or choose backend="torchvision"'
    ) from error

_AHEAD = 2  #: batches in the pipeline at once
_DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16, torch.uint8: types.UINT8}


class DaliBackend:
    """See `Backend`."""

    def __init__(self, output: Output, batch_size: int, num_threads: int) -> None:
        self._output, self._batch_size, self._num_threads = output, batch_size, num_threads
        self._pipeline: Any = None

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Backend.run`. All of DALI's calls are made by the thread that iterates."""
        under_way: deque[Batch] = deque()
        pipeline = self._pipeline = self._pipeline or self._build()
        try:
            for batch in batches:
                pipeline.feed_input("images", [batch.encoded.image(i) for i in range(len(batch.encoded))])
                pipeline.feed_input("parameters", _packed(batch))
                pipeline.schedule_run()
                under_way.append(batch)
                if len(under_way) == _AHEAD:
                    yield self._result(under_way)
            while under_way:
                yield self._result(under_way)
        finally:
            self._drain(under_way)

    def close(self) -> None:
        """See `Backend.close`."""
        self._pipeline = None

    def _result(self, under_way: deque[Batch]) -> tuple[Batch, torch.Tensor]:
        try:
            (images,) = self._pipeline.outputs()
        except RuntimeError as error:
            # One undecodable image ends the whole pipeline, and a pipeline that failed crashes at its next run.
            self._pipeline = None
            raise _explain(under_way, error) from error
        tensor = torch.utils.dlpack.from_dlpack(images.as_tensor())
        return under_way.popleft(), tensor.permute(0, 3, 1, 2) if self._output.channels_last else tensor

    def _drain(self, under_way: deque[Batch]) -> None:
        """Take what is still in a sound pipeline, so that the next run begins with its own first batch."""
        while self._pipeline is not None and under_way:
            try:
                self._pipeline.outputs()
            except RuntimeError:  # of a batch that nobody waits for
                self._pipeline = None
            under_way.popleft()

    def _build(self) -> Any:
        output = self._output
        # A depth of 1 lets each run be scheduled by itself; a greater one wants as many inputs before the first.
        pipeline = Pipeline(self._batch_size, self._num_threads, device_id=None, prefetch_queue_depth=1, seed=0)
        plain = output.dtype == torch.uint8
        with pipeline:
            images = fn.external_source(name="images", dtype=types.UINT8, ndim=1)
            parameters = fn.external_source(name="parameters", dtype=types.INT32, ndim=1)
            # Crop boxes are whole pixels, x y width height; the decoder skips what lies outside.
            cut = fn.decoders.image_slice(images, parameters[0:2], parameters[2:4], axes=[1, 0], device="cpu")
            resized = fn.resize(cut, size=[output.size, output.size], antialias=True, interp_type=types.INTERP_LINEAR)
            pipeline.set_outputs(
                fn.crop_mirror_normalize(
                    resized,
                    dtype=_DTYPES[output.dtype],
                    output_layout="HWC" if output.channels_last else "CHW",
                    mean=[0.0] * 3 if plain else [255 * m for m in output.mean],
                    std=[1.0] * 3 if plain else [255 * s for s in output.std],
                    mirror=parameters[4],
                )
            )
        pipeline.build()
        return pipeline


def _packed(batch: Batch) -> NDArray[np.int32]:
    """int32 [N, 5]: x, y, width, height, flip. One array: each further input costs as much as all the bytes."""
    return np.concatenate([batch.parameters.boxes, batch.parameters.flips[:, None]], 1).astype(np.int32)


def _explain(under_way: deque[Batch], error: RuntimeError) -> Exception:
    """Which sample it was; DALI does not say."""
    for batch in under_way:
        for i in range(len(batch.encoded)):
            try:
                codec.decode(batch.encoded.image(i).data)
            except ImageError as reason:
                return ImageError(f"sample {batch.encoded.ids[i]} cannot be decoded: {reason}")
    return BackendError(f"DALI failed: {str(error).splitlines()[0]}")
