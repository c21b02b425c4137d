"""Folders of image files: image_survey.py lists them; the others read what describes them, or packs them."""

from wdsremux.conversion.source.kinds.images.image_survey import survey

__all__ = ["survey"]
