"""Bytes to pixels and back, on the CPU: the only room that names simplejpeg or Pillow.

markers.py     what a JPEG says of itself, read without decoding it
decoding.py    image files -> upright 8-bit RGB
resizing.py    in another size
cropping.py    crops for a loader, with few calls; not imported here, as OpenCV takes a while to load
identifying.py what an image file is, by its header
encoding.py    -> JPEG, of the accurate DCT: simplejpeg's encoder takes the fast one, which costs 0.1 dB
"""

from wdsremux.codec.base import FAST, FINE, SUBSAMPLINGS, Encoding, Jpeg, Pixels
from wdsremux.codec.decoding import decode, from_pil, is_pil, to_pil
from wdsremux.codec.encoding import encode, keep, libjpeg_version
from wdsremux.codec.identifying import Identity, decode_with_pillow, identify
from wdsremux.codec.markers import Data, Header, header
from wdsremux.codec.resizing import resize, resize_short_side, resize_square

__all__ = [
    "FAST",
    "FINE",
    "SUBSAMPLINGS",
    "Data",
    "Encoding",
    "Header",
    "Identity",
    "Jpeg",
    "Pixels",
    "decode",
    "decode_with_pillow",
    "encode",
    "from_pil",
    "header",
    "identify",
    "is_pil",
    "keep",
    "libjpeg_version",
    "resize",
    "resize_short_side",
    "resize_square",
    "to_pil",
]
