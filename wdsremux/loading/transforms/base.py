"""What comes after crop, resize and flip, in torch on any device, for a whole batch at once.

affine -> colour jitter -> grey -> blur -> normalise -> erase -> dtype and layout: the usual order of torchvision's
transforms. All arithmetic is in float32 on values from 0 to 255, without rounding between steps.
"""

from __future__ import annotations

import torch

from wdsremux.loading.augment.parameters import Parameters
from wdsremux.loading.output import Output
from wdsremux.loading.transforms import affine, blur, colour, erasing
from wdsremux.loading.transforms.finish import Finish, planes
from wdsremux.loading.transforms.steps import run, send

_CPU_PIXELS = 224 * 224  #: of one piece of work on a CPU: what is in work then stays in its cache
_GPU_PIXELS = 256 * 224 * 224  #: on a GPU: enough to fill it, with less than 1 GB in work whatever the batch


class Transforms:
    """Carries parameters out. Holds only constants: any number of threads may call it."""

    def __init__(self, output: Output, device: torch.device) -> None:
        self._output, self._device = output, device
        self._finish = Finish(output, device)

    def __call__(self, pixels: torch.Tensor, parameters: Parameters, out: torch.Tensor | None = None) -> torch.Tensor:
        """Carry out all but crop and flip. On a GPU the host does not wait, and it all happens on the current stream.

        Args:
            pixels: uint8 [N, S, S, 3] on the device, contiguous; cropped, resized, flipped.
            parameters: of these N images.
            out: where to write; [N, 3, S, S] on the device, of the output's dtype and layout. None: memory of its own.

        Returns:
            `out`: normalised; or, in uint8, rounded to nearest.
        """
        size = self._output.size
        if out is None:
            out = torch.empty(
                (len(pixels), 3, size, size),
                dtype=self._output.dtype,
                device=self._device,
                memory_format=self._output.memory_format,
            )
        for piece in self._pieces(len(pixels)):
            if parameters.after_crop:
                self._late(pixels[piece], parameters.take(piece), out[piece])
            else:
                self._finish.bytes(pixels[piece], out[piece])
        return out

    def _pieces(self, count: int) -> list[slice]:
        """What is worked on at once."""
        pixels = _CPU_PIXELS if self._device.type == "cpu" else _GPU_PIXELS
        step = max(1, pixels // self._output.size**2)
        return [slice(start, start + step) for start in range(0, count, step)]

    def _late(self, pixels: torch.Tensor, parameters: Parameters, out: torch.Tensor) -> None:
        before = [
            *affine.steps(parameters.affine, self._output.size),
            *colour.steps(parameters.colour),
            *colour.grey_steps(parameters.grey),
            *blur.steps(parameters.blur, parameters.blur_kernel),
        ]
        after = erasing.steps(parameters.erased, self._finish.blank)
        arrays = [array for step in before + after for array in step.arrays]
        sent = send(arrays, self._device)
        first = sum(len(step.arrays) for step in before)
        self._finish.floats(run(planes(pixels), before, sent[:first]), out)
        run(out, after, sent[first:])
