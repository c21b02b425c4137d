"""What a loader did and where the time went, so that one line says what bounds the training.

Seconds are of the thread that makes batches ahead, stage by stage, and of the caller who waits for them. Only batches
that were handed out count. A caller who waits is bound by the loader, by the stage that took longest; one who does not
is bound by its own work.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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
    """Sums over batches that were handed out."""

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
        """What bounds the training: "read", "decode", "copy", or "training" where the caller hardly ever waits."""
        if self.wait_s <= _BOUND * self.seconds:
            return "training"
        stages = {"read": self.read_s, "decode": self.decode_s, "copy": self.copy_s}
        return max(stages, key=lambda name: stages[name])

    def __str__(self) -> str:
        if not self.batches:
            return "no batch yet"
        seconds = max(self.seconds, 1e-9)
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return (
            f"{self.images} images{skipped}, {self.nbytes / 1e6:.0f} MB in {seconds:.1f} s "
            f"({self.images / seconds:,.0f} images/s): waited {self.wait_s / seconds:.1%}, bound by {self.bound} "
            f"[read {self.read_s:.1f} s, decode {self.decode_s:.1f} s, copy {self.copy_s:.1f} s]"
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """What `loader.stats()` gives; its text is one line, on the last epoch."""

    total: Tally  #: since the loader was made
    epoch: Tally  #: of the last iterator: a whole epoch, or as far as it has come
    decoder: str | None = None  #: backend and what decodes, "dali, gpu"; None before the first batch or without images

    fallback: str | None = None  #: why something else decodes than was asked for; None where it does not

    def __str__(self) -> str:
        return f"{self.epoch}" if self.decoder is None else f"{self.epoch}, decoded by {self.decoder}"


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
