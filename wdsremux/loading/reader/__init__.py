"""Sample ids -> bytes: base.py reads a batch, the others know shards, tables, disks and what to read ahead."""

from wdsremux.loading.reader.base import Reader, fault

__all__ = ["Reader", "fault"]
