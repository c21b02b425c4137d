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
import warnings
import weakref
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.errors import BackendError, install_command
from wdsremux.loading.output import Output

try:
    import nvidia.dali
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline
except ImportError as error:
    raise BackendError(
        "the dali backend needs NVIDIA DALI, which is not installed. "
        f'Install it with {install_command("dali")}, or choose backend="torchvision"'
    ) from error

VERSION = str(nvidia.dali.__version__)
_LARGE = 1024  #: images; hardly anyone trains with larger batches on one device
_MIXED_THREADS = 16  #: at most, where the GPU decodes: nvJPEG holds buffers for each
_PADDING = 1 << 20  #: bytes, what those buffers grow by; a baked image needs 0.3 MB, and DALI's own are 16 and 8 MB
#: What DALI says once on a machine without NPP, which nothing in these graphs calls; the wheel has 154 MB.
_NO_NPP = r"nvidia-dali-cuda120 is no longer shipped[\s\S]*NPP is"
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

    @property
    def mixed(self) -> bool:
        """Whether images are decoded by CPU and GPU together."""
        return self.device is not None and self.gpu_decodes

    def serves(self, other: Graph) -> bool:
        """Whether a pipeline of this graph can do the work of another's: all is equal but that batches are smaller."""
        return self.batch_size >= other.batch_size and replace(other, batch_size=self.batch_size) == self

    def make(self) -> Any:
        """The pipeline, not yet built: operators are checked, the device is not touched."""
        threads = min(self.num_threads, _MIXED_THREADS) if self.mixed else self.num_threads
        # A depth of 1 lets each run be scheduled by itself; a greater one wants as many inputs before the first.
        pipeline = Pipeline(self.batch_size, threads, device_id=self.device, prefetch_queue_depth=1, seed=0)
        with pipeline:
            rows = fn.external_source(name="images", dtype=types.UINT8, ndim=1, no_copy=True)  # see `_Lent`
            parameters = fn.external_source(name="parameters", dtype=types.INT32, ndim=1)
            images = fn.slice(rows, start=0, shape=parameters[5:6], axes=[0])
            cut = self._cut(images, parameters[0:2], parameters[2:4])  # whole pixels: x y, width height
            resized = fn.resize(cut, size=[self.size, self.size], antialias=True, interp_type=types.INTERP_LINEAR)
            pipeline.set_outputs(self._finished(resized, parameters[4]))
        return pipeline

    def _cut(self, images: Any, start: Any, shape: Any) -> Any:
        if self.mixed:
            # Not the operators that decode a part: with nvImageCodec 0.9 they crash (NVIDIA/nvImageCodec#55). A load
            # between 0 and 1 would send images to one decoder or another by their place in the batch.
            whole = fn.decoders.image(
                images,
                device="mixed",
                jpeg_fancy_upsampling=True,
                hw_decoder_load=1.0,
                device_memory_padding=_PADDING,
                host_memory_padding=_PADDING,
            )
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


Files = NDArray[np.uint8] | list[NDArray[np.uint8]]  #: uint8 [N, most], or one by one


class _Lent:
    """The memory of the files in a pipeline, which DALI reads in place: with a copy, 256 files of 20 KB take 1 ms more.

    Whatever becomes of the pipeline and of those who wait for it, that memory stays for as long as DALI's threads may
    read it: until the batch has come out, or its C++ object is gone, which ends them first. (pybind11 tells weak
    references of an object after it has destroyed what the object is of.)
    """

    def __init__(self, pipeline: Any) -> None:
        self._files: deque[Files] = deque()
        weakref.finalize(pipeline._pipe, self._files.clear).atexit = False

    def lend(self, files: Files) -> None:
        """Of the batch that goes in."""
        self._files.append(files)

    def returned(self) -> None:
        """The oldest batch has come out."""
        self._files.popleft()


@dataclass(slots=True, eq=False)
class Ticket:
    """A batch in a pipeline."""

    stream: torch.cuda.Stream | None = None  #: on which its images will be used; None on a CPU
    images: Any = None  #: DALI's output, when done; what a first batch was filled up with comes last in it
    lost: str | None = None  #: why it failed, when it did
    culprit: bool = False  #: whether on this batch
    done: bool = False


class SharedPipeline:
    """A pipeline that several threads feed; each gets its own batches back, in the order it gave them.

    Raises:
        BackendError: if it cannot be built on its device.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._lock = threading.Lock()
        self._under_way: deque[Ticket] = deque()
        self._begun = False  #: whether a batch has gone in
        try:
            self._pipeline: Any = graph.make()
            _build(self._pipeline)
            self._lent = _Lent(self._pipeline)
        except RuntimeError as error:
            raise BackendError(f"DALI cannot build its pipeline: {_reason(error)}") from error

    @property
    def failed(self) -> bool:
        return self._pipeline is None

    def submit(self, files: Files, parameters: NDArray[np.int32]) -> Ticket:
        """Begin a batch: files, and int32 [N, 6]: x, y, width, height, flip, bytes of the file. Nobody writes to them.

        If that fails, the pipeline has failed, and `result` says so: what was fed before the fault would stay in its
        queue, and the next batch, of whatever loader, would get these images under its own labels.
        """
        device = self.graph.device
        ticket = Ticket(None if device is None else torch.cuda.current_stream(device))
        with self._lock:
            if self._pipeline is None:
                ticket.lost, ticket.done = "the pipeline failed earlier", True
                return ticket
            self._under_way.append(ticket)
            try:
                self._feed(*self._filled_up(files, parameters))
            except BaseException as error:  # DALI raises RuntimeError, ValueError, IndexError, TypeError
                self._fail(ticket, error)
                if not isinstance(error, Exception):
                    raise
        return ticket

    def result(self, ticket: Ticket) -> Any:
        """DALI's tensors of that batch, at least as many as it had images; on the stream that was current at `submit`.

        Waits for the work of the CPU; that of a GPU may still be under way on that stream.

        Raises:
            Lost: if the pipeline failed. It is not touched again: its next run would crash.
        """
        with self._lock:
            while not ticket.done:
                self._next()
        if ticket.lost is not None:
            raise Lost(ticket.lost, ticket.culprit)
        return ticket.images

    def _filled_up(self, files: Files, parameters: NDArray[np.int32]) -> tuple[Files, NDArray[np.int32]]:
        """The first batch for a GPU, as large as any may be: its images over and over.

        nvImageCodec gives its hardware decoder a share of the first batch that it sees, and of later ones no more
        images than that: after a first batch of one, the CPU would do the Huffman decoding of nearly all the others.
        """
        first, self._begun = not self._begun, True
        if not (first and self.graph.gpu_decodes):
            return files, parameters
        places = np.arange(self.graph.batch_size) % len(files)
        return [files[i] for i in places], parameters[places]

    def _feed(self, files: Files, parameters: NDArray[np.int32]) -> None:
        self._lent.lend(files)
        self._pipeline.feed_input("images", files)
        self._pipeline.feed_input("parameters", parameters)  # one array: each further input costs as much as this
        self._pipeline.schedule_run()

    def _next(self) -> None:
        ticket = self._under_way[0]
        try:
            # Without a stream DALI would wait for the GPU, and spin.
            (ticket.images,) = self._pipeline.outputs(ticket.stream)
        except BaseException as error:
            self._fail(ticket, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._under_way.popleft()
            self._lent.returned()
            ticket.done = True

    def _fail(self, culprit: Ticket, error: BaseException) -> None:
        """Whatever went wrong, nothing that is in the pipeline can be told any more for whose it is: all is lost."""
        culprit.culprit = True
        for ticket in self._under_way:
            ticket.lost, ticket.done = _reason(error), True
        self._under_way.clear()
        self._pipeline = None


_shared: dict[int, weakref.WeakSet[SharedPipeline]] = {}  #: by process: a child has no use for its parent's
_sharing = threading.Lock()


def shared(graph: Graph) -> SharedPipeline:
    """A pipeline for that graph in this process; made if there is none, or if it has failed."""
    if not graph.gpu_decodes:
        # There one of a greater batch size serves a smaller one as well, and memory goes by what is in it.
        graph = replace(graph, batch_size=max(graph.batch_size, _LARGE))
    with _sharing:
        ours = _shared.setdefault(os.getpid(), weakref.WeakSet())
        found = [pipeline for pipeline in ours if pipeline.graph.serves(graph) and not pipeline.failed]
        if found:
            return min(found, key=lambda pipeline: pipeline.graph.batch_size)
        made = SharedPipeline(graph)
        ours.add(made)
        return made


def _build(pipeline: Any) -> None:
    # For good, as what `catch_warnings` puts back may be what another thread had put there for a moment.
    warnings.filterwarnings("ignore", _NO_NPP)
    pipeline.build()


def _reason(error: BaseException) -> str:
    """What DALI says went wrong, in a line: it stands between a heading, and a stack with advice."""
    text = str(error).strip()
    _, heading, after = text.partition("encountered:")
    return next((line.strip() for line in (after if heading else text).splitlines() if line.strip()), text)
