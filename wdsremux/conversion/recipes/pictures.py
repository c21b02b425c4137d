"""What a user's recipe may return for a picture -> a JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wdsremux import codec
from wdsremux.errors import RecipeError

_ROUNDING = 1e-3  #: how far from 0..1 half-precision arithmetic strays


def encode(value: object, encoding: codec.Encoding) -> codec.Jpeg:
    """Encode a picture of any supported form.

    Args:
        value: an image file's content (kept as it is where every decoder takes it), a PIL image, a tensor (uint8, or
            float from 0 to 1; [3, H, W], [1, H, W] or [H, W]) or an array (the same; [H, W, 3], [H, W, 1] or [H, W]).
        encoding: of what has to be encoded.

    Raises:
        ImageError: if the bytes are no image, or a JPEG cannot hold the picture.
        RecipeError: if it is no picture at all; the text goes on after "returned".
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return codec.keep(bytes(value), encoding)
    if codec.is_pil(value):
        return codec.encode(codec.from_pil(value), encoding)
    if isinstance(value, torch.Tensor):
        pixels = _grey_to_rgb(_levels(_from_tensor(value)), f"a tensor of shape {tuple(value.shape)}", "[C, H, W]")
    elif isinstance(value, np.ndarray):
        pixels = _grey_to_rgb(_levels(value), f"an array of shape {value.shape}", "[H, W, C]")
    else:
        raise RecipeError(f"a {type(value).__name__} as an image. Supported: bytes, PIL images, tensors and arrays")
    return codec.encode(pixels, encoding)


def _from_tensor(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    plain = tensor.detach().cpu().as_subclass(torch.Tensor)
    plain = plain.float() if plain.dtype == torch.bfloat16 else plain  # numpy has none
    return (plain.permute(1, 2, 0) if plain.ndim == 3 else plain).numpy()


def _levels(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """uint8 of uint8, or of floats from 0 to 1."""
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise RecipeError(f"an image of {array.dtype}. Supported: uint8, or floats from 0 to 1")
    wide = array if array.dtype == np.float64 else array.astype(np.float32)
    if not np.isfinite(wide).all():
        raise RecipeError("an image that contains NaN or infinity")
    low, high = (float(wide.min()), float(wide.max())) if wide.size else (0.0, 0.0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise RecipeError(
            f"a float image with values from {low:.6g} to {high:.6g}. Supported: 0 to 1. Scale or clamp it"
        )
    levels: codec.Pixels = np.rint(wide.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _grey_to_rgb(pixels: np.ndarray[Any, Any], what: str, layout: str) -> codec.Pixels:
    grey = pixels[..., None] if pixels.ndim == 2 else pixels
    if grey.ndim != 3 or grey.shape[2] not in (1, 3):
        raise RecipeError(f"{what} as an image. Supported: {layout} with 1 or 3 channels, or [H, W]")
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))
