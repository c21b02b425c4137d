"""SOURCE -> fragments, columns, rows; streamed, never decoded.

    opening.py     joins the others: SOURCE -> Source
    builder.py     a Hub id or a card that says where the files are -> files by split, as `datasets` finds them
    listing.py     a folder -> files by split, found in one pass over it; splits.py: by which names
    given.py       a file, a glob, a folder of `save_to_disk` -> files
    base.py        what the modules of this room hand each other
    columns.py     which column is the image, which the label, which are kept
    labels.py      values of the label column -> numbers; numbering.py: which number each class has
    kept_values.py values of the kept columns, exactly
    parquet.py, arrow.py, tars.py, images.py      one file a kind: its fragments and columns, and how one is read
    schemas.py, partitions.py, folders.py, metadata.py      what files, paths, folders and side files say of columns
    rows.py        Source: the rows of a fragment
    datasets_quirks.py      switches of the `datasets` library, flipped and flipped back
    stamp.py       when files were last written to
    image_files.py images of which the rows hold only the path
    hub_files.py   files of a commit on the Hub, every answer checked
    retry.py       a reading that a fault of the network cut short goes on where it stopped

The process that makes the plan looks at the whole source once, and never at the image bytes of a remote one. A worker
is handed the open `Source` (it pickles to a few kilobytes) and reads single fragments of it.
"""

from wdsremux.conversion.source.base import Fault, Fragment, Reader, Rows
from wdsremux.conversion.source.rows import Source

__all__ = ["Fault", "Fragment", "Reader", "Rows", "Source"]
