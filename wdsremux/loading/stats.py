"""What a loader did and where the time went, so that one line says what bounds the training.

Seconds are of the thread that makes batches ahead, stage by stage, and of the caller who waits for them. Only batches
that were handed out count. A caller who waits is bound by the loader, by the stage that took longest; one who does not
is bound by its own work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

_STAGES = {"read": "reading", "decode": "JPEG decoding", "copy": "copying to the device", "training": "your training"}
_BOUND = 0.05  #: of the time spent waiting, above which the loader is what bounds the training


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one batch cost."""

    nbytes: int = 0  #: of image files read
    skipped: int = 0  #: samples that could not be read or decoded, a good one in their place
    read_s: float = 0.0
    decode_s: float = 0.0  #: decode and augment, less what went on behind other stages
    copy_s: float = 0.0  #: of pixels to the device; 0 where the decoder puts them there itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over the batches that your loop has received. `str(tally)` is one line that names the bottleneck.

    Attributes:
        batches: Number of batches.
        images: Number of images in them.
        nbytes: Bytes of image files that were read.
        skipped: Number of samples that could not be read or decoded and were replaced by others.
        seconds: Time from the request for the first batch to the request after the last one.
        read_s: Seconds spent reading.
        decode_s: Seconds spent decoding and augmenting, not counting work that overlapped with other stages.
        copy_s: Seconds spent copying images to the device. It is 0 if the decoder writes to the device itself.
        wait_s: Seconds that your loop waited for batches.
    """

    batches: int = 0
    images: int = 0
    nbytes: int = 0  #: of image files read
    skipped: int = 0  #: samples that could not be read or decoded, a good one in their place
    seconds: float = 0.0  #: from the call for the first batch to the call after the last
    read_s: float = 0.0
    decode_s: float = 0.0  #: decode and augment, less what went on behind other stages
    copy_s: float = 0.0  #: of pixels to the device; 0 where the decoder puts them there itself
    wait_s: float = 0.0  #: in which the caller waited for a batch

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Tally)})

    @property
    def bound(self) -> str:
        """The bottleneck: "read", "decode" or "copy", or "training" if your loop waits 5% of the time or less."""
        if self.wait_s <= _BOUND * self.seconds:
            return "training"
        stages = {"read": self.read_s, "decode": self.decode_s, "copy": self.copy_s}
        return max(stages, key=lambda name: stages[name])

    def __str__(self) -> str:
        if not self.batches:
            return "No batches yet."
        seconds = max(self.seconds, 1e-9)
        images = f"{self.images:,} image{'' if self.images == 1 else 's'}"
        skipped = f" ({self.skipped:,} skipped)" if self.skipped else ""
        return (
            f"Bottleneck: {_STAGES[self.bound]}, {self.images / seconds:,.0f} images/s. "
            f"{images}{skipped}, {self.nbytes / 1e6:,.0f} MB in {seconds:.1f} s, of which {self.wait_s / seconds:.1%} "
            f"was spent waiting for data (reading {self.read_s:.1f} s, decoding {self.decode_s:.1f} s, "
            f"copying {self.copy_s:.1f} s)."
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of a loader, as `loader.stats()` returns them. `str(stats)` is one line about the current epoch.

    Attributes:
        total: The sums since the loader was created.
        epoch: The sums of the current epoch, or of the last one if none is in progress.
        decoder: The backend and what decodes, such as "dali, gpu". None before the first batch or without images.
        fallback: Why something else decodes than was asked for. None if that is not the case.
    """

    total: Tally  #: since the loader was made
    epoch: Tally  #: of the last iterator: a whole epoch, or as far as it has come
    decoder: str | None = None  #: backend and what decodes, "dali, gpu"; None before the first batch or without images

    fallback: str | None = None  #: why something else decodes than was asked for; None where it does not

    def __str__(self) -> str:
        return f"{self.epoch}" if self.decoder is None else f"{self.epoch} Decoder: {self.decoder}."


class Meter:
    """Adds up as batches are handed out."""

    def __init__(self) -> None:
        self._before, self._epoch = Tally(), Tally()

    def begin(self) -> None:
        """A new iterator has begun."""
        self._before, self._epoch = self._before + self._epoch, Tally()

    def handed(self, cost: Cost, images: int, wait_s: float, caller_s: float) -> None:
        """A batch was handed out, for which the caller waited, after `caller_s` with the one before."""
        self._epoch += Tally(
            batches=1,
            images=images,
            nbytes=cost.nbytes,
            skipped=cost.skipped,
            seconds=wait_s + caller_s,
            read_s=cost.read_s,
            decode_s=cost.decode_s,
            copy_s=cost.copy_s,
            wait_s=wait_s,
        )

    def ended(self, caller_s: float) -> None:
        """The caller has come back from the last batch."""
        self._epoch += Tally(seconds=caller_s)

    def stats(self, decoder: str | None = None, fallback: str | None = None) -> Stats:
        """So far, with what decodes."""
        return Stats(self._before + self._epoch, self._epoch, decoder, fallback)
