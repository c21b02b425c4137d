"""Bytes to pixels and back, on the CPU: the only room that names simplejpeg or Pillow.

markers.py     what a JPEG says of itself, read without decoding it
decoding.py    image files -> upright 8-bit RGB
resizing.py    in another size
cropping.py    crops for a loader, with few calls; not imported here, as OpenCV takes a while to load
encoding.py    -> JPEG, of the accurate DCT: simplejpeg's encoder takes the fast one, which costs 0.1 dB
"""

from wdsremux.codec.base import FAST, FINE, SUBSAMPLINGS, Encoding, Jpeg, Pixels
from wdsremux.codec.decoding import decode, from_pil, is_pil, to_pil
from wdsremux.codec.encoding import encode, keep, libjpeg_version
from wdsremux.codec.markers import Data, Header, header
from wdsremux.codec.resizing import resize, resize_short_side, resize_square

__all__ = [
    "FAST",
    "FINE",
    "SUBSAMPLINGS",
    "Data",
    "Encoding",
    "Header",
    "Jpeg",
    "Pixels",
    "decode",
    "encode",
    "from_pil",
    "header",
    "is_pil",
    "keep",
    "libjpeg_version",
    "resize",
    "resize_short_side",
    "resize_square",
    "to_pil",
]
