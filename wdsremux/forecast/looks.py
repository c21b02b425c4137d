"""What the rows that were taken tell of a source: formats, sizes, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from wdsremux import codec
from wdsremux.conversion.source import Source
from wdsremux.conversion.spec import Spec
from wdsremux.errors import ImageError
from wdsremux.forecast.estimates import Frame
from wdsremux.forecast.findings import Looked
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.taking import Taken
from wdsremux.format.samples import NO_LABEL

_ROWS_AT_ONCE = 64
_UNREADABLE = "unreadable"  #: the format of what is no image


def look(spec: Spec, source: Source, sample: Source, taken: Taken, frame: Frame) -> Looked:
    """Describe a source.

    Args:
        spec: what is asked for.
        source: as opened.
        sample: the rows that were taken of it.
        taken: likewise.
        frame: what they stand for.
    """
    kinds, sizes, labels = Counter[str](), list[tuple[int, int]](), list[int]()
    for number in range(len(sample.fragments)):
        for rows in sample.rows(number, _ROWS_AT_ONCE):
            labels += [NO_LABEL if label is None else label for label in rows.labels.to_pylist()]
            for image in rows.contents:
                identity = _identified(image)
                kinds[_UNREADABLE if identity is None else identity.format] += 1
                sizes += [] if identity is None else [(identity.width, identity.height)]
    finding, selection, columns = source.finding, spec.selection, source.columns
    labelled = columns.label is not None
    bytes_at = [size / place.rows for size, place in zip(taken.image_bytes, taken.places, strict=True)]
    rows_looked_at, unlabelled = taken.rows, labels.count(NO_LABEL)
    return Looked(
        name=source.description["name"],
        split=selection.split,
        splits=finding.splits if finding else (selection.split,),
        splits_how=finding.splits_how if finding else "",
        remote=source.files.remote,
        rows=frame.rows,
        fragments=len(source.fragments),
        size_bytes=source.size_bytes,
        rows_looked_at=rows_looked_at,
        places=len(taken.places),
        bytes_looked_at=sum(taken.image_bytes),
        image_column=columns.image,
        image_how=finding.image_how if finding else "",
        label_column=columns.label,
        label_how=finding.label_how if finding else "",
        classes=None if source.classes is None else len(source.classes),
        classes_seen=len({label for label in labels if label != NO_LABEL}),
        unlabelled=frame.count(unlabelled, rows_looked_at) if labelled else frame.rows,
        formats={kind: count / rows_looked_at for kind, count in kinds.most_common()},
        width=_quantiles([width for width, _ in sizes]),
        height=_quantiles([height for _, height in sizes]),
        image_bytes=_mean_bytes(frame, bytes_at),
        warnings=source.warnings,
        notes=source.notes,
    )


def _identified(image: memoryview | None) -> codec.Identity | None:
    try:
        return None if image is None else codec.identify(image)
    except ImageError:  # it becomes a reject, and is counted as one
        return None


def _quantiles(sides: Sequence[int]) -> tuple[int, int, int]:
    return (min(sides), int(np.median(sides)), max(sides)) if sides else (0, 0, 0)


def _mean_bytes(frame: Frame, bytes_at: Sequence[float]) -> Interval:
    total = frame.total(bytes_at)
    return total.map(lambda value: value / max(1.0, frame.rows.value))


def images(sample: Source, most: int) -> list[memoryview]:
    """Files of the sample, spread evenly over it."""
    found = list[memoryview]()
    for number in np.unique(np.linspace(0, len(sample.fragments) - 1, most).astype(int)).tolist():
        for rows in sample.rows(number, _ROWS_AT_ONCE):
            found += [image for image in rows.contents if image is not None][: -(-most // len(sample.fragments))]
            break
    return found
