"""WebDataset tars, here or on the Hub.

tar_files.py     tars as they lie: plain or compressed, here or on the Hub; what damage is
tar_members.py   their members, and to which sample each belongs
tar_fields.py    what a field holds, and its values
tar_samples.py   the samples of a tar, in each of the ways in which one is read
tar_looks.py     what a look at one of them tells
tar_survey.py    what a look at all of them tells
"""

from wdsremux.conversion.source.kinds.tars.tar_survey import survey

__all__ = ["survey"]
