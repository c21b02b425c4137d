"""What a plan says: plain values, each estimate with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wdsremux.forecast.interval import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What the source is, by its listing and by the rows that were looked at."""

    name: str
    split: str
    splits: tuple[str, ...]  #: all that the source has
    splits_how: str  #: how they are told apart, in words that go on after "by"; empty where nothing does
    remote: bool
    rows: Interval
    fragments: int
    size_bytes: int  #: as stored; 0 where it is not known
    rows_looked_at: int
    places: int
    bytes_looked_at: int  #: of images
    image_column: str
    image_how: str
    label_column: str | None
    label_how: str
    classes: int | None  #: how many the source names; None where labels have no names
    classes_seen: int  #: in the rows that were looked at
    unlabelled: Interval  #: rows without a label
    formats: Mapping[str, float]  #: share of the images, 0 to 1, by format
    width: tuple[int, int, int]  #: in pixels: the smallest, the median, the largest that was seen
    height: tuple[int, int, int]
    image_bytes: Interval  #: of an image on average
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def short_side(self) -> int:
        """About that of the image in the middle, in pixels."""
        return min(self.width[1], self.height[1])

    @property
    def jpegs(self) -> float:
        """The share of JPEGs, 0 to 1."""
        return sum(share for kind, share in self.formats.items() if kind.endswith("JPEG"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What comes of one way to convert."""

    name: str  #: the recipe, or the option that differs
    changes: Mapping[str, Any]  #: options that differ from what is asked for
    samples: Interval
    rejects: Interval
    reasons: Mapping[str, int]  #: of the rejects in the sample
    short_side: int  #: median of the images, in pixels
    size_bytes: Interval  #: of the split on the disk
    seconds: Interval  #: of the conversion
    loader_images_per_s: Interval  #: of `wdsremux.DataLoader`, on this machine
    decoder: str  #: what decodes in it
    psnr_db: Interval | None  #: of the JPEG step; None where images are copied, or the step changes nothing


@dataclass(frozen=True, slots=True)
class Today:
    """The usual training input, straight from the source: decode, random crop and resize, flip, normalize."""

    images_per_s: Interval  #: of all cores
    decode: float  #: share of the work, 0 to 1; the rest is augmentation
    cores: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user wants to do with it."""

    workers: int
    engine: str
    train_images_per_s: float | None  #: that the model takes; None: not given
    epochs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """All that is known, before it is put in words."""

    looked: Looked
    asked: Asked
    today: Today | None  #: None where no image can be decoded
    network_images_per_s: float | None  #: at which the source comes; None of one on this machine
    size: int  #: of the training images for which loaders were measured, in pixels
    expected: tuple[Outlook, ...]  #: of what is asked for, and then of others


@dataclass(frozen=True, slots=True)
class Advice:
    """What it means for training."""

    bound: str  #: what bounds training straight from the source: "network", "decoding", "augmentation" or "model"
    choice: str  #: the name of what to choose
    epochs_to_pay: float | None  #: after how many the conversion has paid for itself; None: never
    sentences: tuple[str, ...]
