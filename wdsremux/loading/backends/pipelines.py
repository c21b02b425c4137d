"""DALI pipelines, one for each graph in a process: a train and a test loader share one, and its decoder's memory.

    images ─┐                                           decode on
            ├─ cpu:   image_slice ─ resize ─ normalise    a CPU, for a CPU
    params ─┤  cpu:   image_slice ──────── .gpu() ─ resize ─ uint8    a CPU, for a GPU
            └─ mixed: image ─ slice ─ resize ─ uint8      the GPU

Which crop a sample gets and whether it is flipped is data, so epochs, augmentations and splits go through one graph.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.errors import BackendError
from wdsremux.loading.output import Output

try:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline
except ImportError as error:
    raise BackendError(
        "the dali backend needs NVIDIA DALI, which is not installed. "
        'Install it with `pip install "wdsremux[dali]"`, or choose backend="torchvision"'
    ) from error

_LARGE = 1024  #: images; hardly anyone trains with larger batches on one device
_DTYPES = {torch.float32: types.FLOAT, torch.float16: types.FLOAT16, torch.uint8: types.UINT8}


class Lost(Exception):
    """The pipeline failed, on this batch or another: `culprit` says whether on this."""

    def __init__(self, reason: str, culprit: bool) -> None:
        super().__init__(reason)
        self.culprit = culprit


@dataclass(frozen=True, slots=True)
class Graph:
    """What a pipeline does; pipelines are shared by it."""

    size: int  #: pixels a side
    batch_size: int  #: the largest
    num_threads: int
    device: int | None  #: the CUDA device's number; None: all on the CPU
    gpu_decodes: bool  #: where there is a CUDA device
    normalise: Output | None  #: how to; None: uint8 [N, size, size, 3] comes out

    def make(self) -> Any:
        """The pipeline, not yet built: operators are checked, the device is not touched."""
        # A depth of 1 lets each run be scheduled by itself; a greater one wants as many inputs before the first.
        pipeline = Pipeline(self.batch_size, self.num_threads, device_id=self.device, prefetch_queue_depth=1, seed=0)
        with pipeline:
            images = fn.external_source(name="images", dtype=types.UINT8, ndim=1)
            parameters = fn.external_source(name="parameters", dtype=types.INT32, ndim=1)
            cut = self._cut(images, parameters[0:2], parameters[2:4])  # whole pixels: x y, width height
            resized = fn.resize(cut, size=[self.size, self.size], antialias=True, interp_type=types.INTERP_LINEAR)
            pipeline.set_outputs(self._finished(resized, parameters[4]))
        return pipeline

    def _cut(self, images: Any, start: Any, shape: Any) -> Any:
        if self.device is not None and self.gpu_decodes:
            # Not the operators that decode a part: with nvImageCodec 0.9 they crash (NVIDIA/nvImageCodec#55). A load
            # between 0 and 1 would send images to one decoder or another by their place in the batch.
            whole = fn.decoders.image(images, device="mixed", jpeg_fancy_upsampling=True, hw_decoder_load=1.0)
            return fn.slice(whole, start=start, shape=shape, axes=[1, 0])
        part = fn.decoders.image_slice(images, start, shape, axes=[1, 0], device="cpu")  # skips what lies outside
        return part if self.device is None else part.gpu()

    def _finished(self, resized: Any, flip: Any) -> Any:
        output = self.normalise
        plain = output is None or output.dtype == torch.uint8
        return fn.crop_mirror_normalize(
            resized,
            dtype=types.UINT8 if output is None else _DTYPES.get(output.dtype, types.FLOAT),
            output_layout="HWC" if output is None or output.channels_last else "CHW",
            mean=[0.0] * 3 if output is None or plain else [255 * m for m in output.mean],
            std=[1.0] * 3 if output is None or plain else [255 * s for s in output.std],
            mirror=flip,
        )


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch in a pipeline."""

    images: Any = None  #: DALI's output, when done
    lost: str | None = None  #: why it failed, when it did
    culprit: bool = False  #: whether on this batch
    done: bool = False


class SharedPipeline:
    """A pipeline that several threads feed; each gets its own batches back, in the order it gave them.

    Raises:
        BackendError: if it cannot be built on its device.
    """

    def __init__(self, graph: Graph) -> None:
        self._lock = threading.Lock()
        self._under_way: deque[Ticket] = deque()
        try:
            self._pipeline: Any = graph.make()
            self._pipeline.build()
        except RuntimeError as error:
            raise BackendError(f"DALI's pipeline cannot be built: {_reason(error)}") from error

    @property
    def failed(self) -> bool:
        return self._pipeline is None

    def submit(self, images: Sequence[NDArray[np.uint8]], parameters: NDArray[np.int32]) -> Ticket:
        """Begin a batch: files, and int32 [N, 5]: x, y, width, height, flip."""
        ticket = Ticket()
        with self._lock:
            if self._pipeline is None:
                ticket.lost, ticket.done = "the pipeline had failed before", True
                return ticket
            self._pipeline.feed_input("images", list(images))
            # One array: each further input costs as much as all the bytes.
            self._pipeline.feed_input("parameters", parameters)
            self._pipeline.schedule_run()
            self._under_way.append(ticket)
        return ticket

    def result(self, ticket: Ticket) -> Any:
        """DALI's tensors of that batch; waits for it.

        Raises:
            Lost: if the pipeline failed. It is not touched again: its next run would crash.
        """
        with self._lock:
            while not ticket.done:
                self._next()
        if ticket.lost is not None:
            raise Lost(ticket.lost, ticket.culprit)
        return ticket.images

    def _next(self) -> None:
        ticket = self._under_way.popleft()
        ticket.done = True
        try:
            (ticket.images,) = self._pipeline.outputs()
        except RuntimeError as error:
            ticket.lost, ticket.culprit = _reason(error), True
            for other in self._under_way:
                other.lost, other.done = ticket.lost, True
            self._under_way.clear()
            self._pipeline = None


_shared: weakref.WeakValueDictionary[tuple[int, Graph], SharedPipeline] = weakref.WeakValueDictionary()
_sharing = threading.Lock()


def shared(graph: Graph) -> SharedPipeline:
    """The pipeline of that graph in this process; made if there is none, or if it has failed."""
    # One of a greater batch size serves a smaller one as well; memory goes by what is in it. So all begin large.
    graph = replace(graph, batch_size=max(graph.batch_size, _LARGE))
    with _sharing:
        key = (os.getpid(), graph)  # a child has no use for its parent's
        pipeline = _shared.get(key)
        if pipeline is None or pipeline.failed:
            pipeline = _shared[key] = SharedPipeline(graph)
        return pipeline


def _reason(error: Exception) -> str:
    """What DALI says went wrong, in a line: it stands between a heading, and a stack with advice."""
    text = str(error).strip()
    _, heading, after = text.partition("encountered:")
    return next((line.strip() for line in (after if heading else text).splitlines() if line.strip()), text)
