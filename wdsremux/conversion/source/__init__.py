"""SOURCE -> fragments, columns, rows; streamed, never decoded.

    selection.py   what is asked of a source
    opening.py     joins the others: Selection -> Source
    finding/       SOURCE -> the files of each split
    file_kinds.py  the table of kinds, and what a file's name says it is
    kinds/         one module a kind: its fragments and columns, and how one is read
    base.py        what the modules of this room hand each other
    columns.py     which column is the image, which the label, which are kept; features.py: what a column may be
    labels.py      values of the label column -> numbers; numbering.py: which number each class has
    kept_values.py values of the kept columns, exactly; arrow_values.py: others out of Arrow
    rows.py        Source: the rows of a fragment
    bookmark.py    where the reading of a fragment stopped, to go on from there
    image_files.py images of which the rows hold only the path
    hub_files.py   files of a commit on the Hub, every answer checked
    retry.py       a reading that a fault of the network cut short goes on where it stopped
    stamp.py       when files were last written to

The process that makes the plan looks at the whole source once, and never at the image bytes of a remote one. A worker
is handed the open `Source` (it pickles to a few kilobytes) and reads single fragments of it.
"""

from wdsremux.conversion.source.base import Fault, Fragment, Rows, SourceReader
from wdsremux.conversion.source.bookmark import Bookmark
from wdsremux.conversion.source.rows import Finding, Source

__all__ = ["Bookmark", "Fault", "Finding", "Fragment", "Rows", "Source", "SourceReader"]
