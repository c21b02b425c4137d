"""What torch does to a batch after crop, resize and flip: base.py says how, the others one kind each."""

from wdsremux.loading.transforms.base import Transforms

__all__ = ["Transforms"]
