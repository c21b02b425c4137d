"""Will it fit? The workers' pipes in what may be open, the rest of the shards on the disk; and a disk that is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wdsremux import files, machine
from wdsremux.conversion.events import Progress
from wdsremux.conversion.portions import Portion
from wdsremux.conversion.source import Source
from wdsremux.errors import ConversionError, SpaceError, counted

_WORKER_FILES = 3  #: a pipe, and the two by which multiprocessing knows how a worker ended
_GATHERER_FILES = 24  #: of a worker, beside the spools that it gathers
_SPARE_FILES = 12  #: open for a moment: a worker being started, the plan, the manifest


def check_open_files(workers: int, spools: int = 0) -> None:
    """See that so many workers can be had, before the first is started.

    Args:
        workers: processes.
        spools: that one of them has open at once, at most: those of the portions of a block.

    Raises:
        ConversionError: if not.
    """
    used, most = machine.open_files()
    if most is None:
        return
    fitting = (most - _SPARE_FILES - used) // _WORKER_FILES
    if spools > most - _GATHERER_FILES:
        fitting = min(fitting, workers // 2)  # each worker brings portions of its own
    if workers > fitting:
        raise ConversionError(
            f"{counted(workers, 'worker')} {'needs' if workers == 1 else 'need'} more open files than the limit of "
            f"{most} allows. Raise the limit with `ulimit -n`, or use --workers {max(1, fitting)}, and run the same "
            "command again"
        )


@contextlib.contextmanager
def disk_faults(folder: Path) -> Iterator[None]:
    """Turn what the disk of OUT/SPLIT says (full, read-only, gone) into one clear error.

    Raises:
        ConversionError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ConversionError(
            f"{folder} cannot be written to: {error.strerror or error}. Run the same command again to resume"
        ) from error


@dataclass(slots=True)
class Estimate:
    """What is still to be written, by what this run has written."""

    folder: Path
    rows: int | None  #: to bake in this run; None: not known
    bytes_source: int  #: to read in this run; counts where the rows do not
    enough: int  #: rows to have seen before an estimate is worth anything
    beside_bytes: int  #: that a sample takes beside its image, in its container
    spooled_rows: int = 0  #: that may lie on the disk once more while their block waits to be gathered
    _rows: int = 0
    _samples: int = 0
    _bytes_in: int = 0
    _bytes_out: int = 0

    @staticmethod
    def of(
        divided: Sequence[Sequence[Portion]], source: Source, folder: Path, enough: int, beside_bytes: int
    ) -> Estimate:
        """That of the tasks of a run: an earlier run's are written already, and a limit is not passed.

        Args:
            divided: the portions of each of its tasks.
            source: what they read.
            folder: OUT/SPLIT.
            enough: rows to have seen before an estimate is worth anything.
            beside_bytes: that a sample takes beside its image, in its container.
        """
        tasks = [portions[0].task for portions in divided]
        shared = [portions[0].task for portions in divided if len(portions) > 1]
        spooled_rows = max((block.rows for task in shared for block in task.blocks), default=0)
        rows = [task.rows if task.limit is None else task.limit for task in tasks]
        bytes_source = sum(source.fragments[read.fragment].size_bytes for task in tasks for read in task.reads)
        known = None if None in rows else sum(count or 0 for count in rows)
        return Estimate(folder, known, bytes_source, enough, beside_bytes, spooled_rows)

    def add(self, progress: Progress) -> None:
        """Take note of some work.

        Raises:
            SpaceError: if what is left does not fit.
        """
        self._rows += progress.rows
        self._samples += progress.samples
        self._bytes_in += progress.bytes_in
        self._bytes_out += progress.bytes_out
        if self._rows < self.enough:
            return
        left, free = self._left_bytes(), files.free_bytes(self.folder)
        if left > free:
            raise SpaceError(
                f"{self.folder} needs about {left / 1e9:,.2f} GB more, estimated from the {self._samples:,} images "
                f"converted so far, and {free / 1e9:,.2f} GB are free. Free some space, or move the output folder, "
                "and run the same command again to resume"
            )

    def _left_bytes(self) -> float:
        written = self._bytes_out + self._samples * self.beside_bytes
        if self.rows is not None:  # or nothing would be spooled for others
            return written * (max(0, self.rows - self._rows) + self.spooled_rows) / self._rows
        return written * max(0, self.bytes_source - self._bytes_in) / max(1, self._bytes_in)
