"""How each picture is turned, moved, zoomed and sheared about its middle: torchvision v2's RandomAffine.

Stream "augment.affine". Words 0: angle; 1: x translation; 2: y translation; 3: zoom; 4: x shear; 5: y shear.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wdsremux.loading.augment.streams import Range, Streams, spread

_WORDS = 6
Values = NDArray[np.float64]


class Ranges(NamedTuple):
    """What is drawn from; the middle values change nothing."""

    degrees: Range = (0, 0)  #: clockwise
    translate: Range = (0, 0)  #: largest move to either side, in x and in y, as shares of the side
    zoom: Range = (1, 1)  #: above 1, the picture is enlarged
    shear_x: Range = (0, 0)  #: degrees
    shear_y: Range = (0, 0)


def draw(streams: Streams, ranges: Ranges, size: int) -> NDArray[np.float32]:
    """[N, 2, 3], as in `Parameters.affine`, for a picture of `size` px a side. Moves are of whole pixels."""
    drawn = streams.uniform("augment.affine", _WORDS)
    angle = spread(drawn[0], ranges.degrees)
    x, y = (np.rint(spread(drawn[1 + i], (-share * size, share * size))) for i, share in enumerate(ranges.translate))
    zoom = spread(drawn[3], ranges.zoom)
    shear = spread(drawn[4], ranges.shear_x), spread(drawn[5], ranges.shear_y)
    return inverse(angle, x, y, zoom, *shear)


def inverse(angle: Values, x: Values, y: Values, zoom: Values, shear_x: Values, shear_y: Values) -> NDArray[np.float32]:
    """The matrices that lead back from the output to the picture.

    Forth, a place is sheared along x, then along y, then enlarged and turned, then moved:
    p -> T + zoom R(angle) Y(shear_y) X(shear_x) p. The matrix in the middle has determinant zoom**2, so it is inverted
    by hand.

    Args:
        angle: degrees, clockwise; [N] as all.
        x: px to the right.
        y: px down.
        zoom: above 0.
        shear_x: degrees.
        shear_y: degrees.
    """
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    tan_x, tan_y = np.tan(np.radians(shear_x)), np.tan(np.radians(shear_y))
    # R(angle) with columns sheared: X = [1 -tan_x; 0 1], Y = [1 0; -tan_y 1].
    a, c = cos + sin * tan_y, sin - cos * tan_y
    b, d = -sin - a * tan_x, cos - c * tan_x
    back = np.stack([d, -b, -c, a], 1).reshape(-1, 2, 2) / zoom[:, None, None]
    move = 0.0 - back @ np.stack([x, y], 1)[:, :, None]  # not -(…): no -0.0
    return np.concatenate([back, move], 2).astype(np.float32)
