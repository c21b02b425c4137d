"""What a user's recipe asks for, said by a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from wdsremux.errors import OptionError

IMAGES = ("pil", "tensor")  #: the forms in which a recipe may get its pictures
_ATTRIBUTE = "wdsremux_images"  # an attribute of the function, so that it travels to workers with it

Function = TypeVar("Function", bound=Callable[..., Any])


def recipe(*, images: str = "pil") -> Callable[[Function], Function]:
    """Choose the form in which a recipe gets its images. Without this decorator they are PIL images.

        @wdsremux.recipe(images="tensor")
        def bake(batch): …

    Args:
        images: "pil" (PIL images, RGB) or "tensor" (torch tensors, uint8 [3, H, W], RGB). The EXIF orientation
            is applied to both.

    Raises:
        OptionError: if the form is not supported, or the decorated object does not accept attributes.
    """
    if images not in IMAGES:
        raise OptionError(f"Invalid images (got {images!r}). Supported: {', '.join(IMAGES)}")

    def mark(function: Function) -> Function:
        try:
            setattr(function, _ATTRIBUTE, images)
        except AttributeError as error:
            kind = type(function).__name__
            raise OptionError(
                f"a {kind} cannot be decorated with images={images!r}. Decorate a function that calls it"
            ) from error
        return function

    return mark


def images_asked(function: Callable[..., Any]) -> str:
    """The form that a recipe asks for: a member of `IMAGES`."""
    if isinstance(function, functools.partial):
        return images_asked(function.func)
    inner = getattr(type(function), "__call__", None)  # noqa: B004  # of a callable object, the method may be marked
    return str(getattr(function, _ATTRIBUTE, getattr(inner, _ATTRIBUTE, "pil")))
