"""Values of the label column -> numbers. Which class has which is settled before, in numbering.py.

    form        the column holds                            its number is
    "numbers"   integers, none negative; bools; floats      the value
    "values"    integers, some negative                     the place of its value, as text, among the classes
    "texts"     texts                                       the place of the text among the classes
    "names"     a ClassLabel's numbers                      the place of its name among the classes
    "nulls"     nothing                                     none

Texts that are all integers are taken as integers, or "10" would come before "9". A ClassLabel's -1 is what `datasets`
itself writes for "no label", and stays that; in any other column -1 is a value like others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from wdsremux.conversion.source.arrow_values import plain
from wdsremux.conversion.source.base import Fault
from wdsremux.errors import SourceError

INTEGER = re.compile(r"0|-?[1-9][0-9]*")  #: a text that is the only way to write an integer
_LOOSE = re.compile(r"\s*[+-]?[0-9]{1,40}\s*")  #: one in which white space and leading zeros mean nothing
_INT64 = range(-(2**63), 2**63)
_EXAMPLES = 5  #: class names that an error shows


@dataclass(frozen=True, slots=True)
class Labels:
    """How the values of a label column become numbers. It travels to workers."""

    column: str
    form: str  #: a row of the table above
    classes: tuple[str, ...] | None = None  #: names by number; None: numbers without names
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  #: of a ClassLabel: its names, by file
    was_text: bool = False  #: whether the column holds texts, all of them integers
    conventional: bool = False  #: texts that are integers by convention: white space around them means nothing
    counted: bool = True  #: whether all values were seen before: another one then means that the source changed

    def under(self, classes: Sequence[str] | None) -> Labels:
        """The same values, numbered by another list of classes.

        Raises:
            ValueError: if a class is not in that list; with the names of those that are not.
        """
        mine = set(self.classes or ())
        strange = sorted(mine - set(classes or ()))
        if self.form == "numbers" and self.classes and self.classes != tuple(classes or ())[: len(self.classes)]:
            strange = strange or ["the same names in another order"]
        if strange:
            raise ValueError(", ".join(map(repr, strange[:_EXAMPLES])) + (" …" if len(strange) > _EXAMPLES else ""))
        return replace(self, classes=None if classes is None else tuple(classes))

    def named(self, names: Sequence[str]) -> Labels:
        """Numbers without names, named as an earlier run was told with --classes."""
        by_value = all(INTEGER.fullmatch(name) for name in names)
        return replace(self, form="values" if by_value else "numbers", classes=tuple(names))

    def numbers(self, column: pa.ChunkedArray | pa.Array, file: int) -> tuple[pa.Array, dict[int, Fault]]:
        """int64 [N], null where there is no label; and the rows whose value is none, by their place.

        Args:
            column: values of the label column [N].
            file: number of the file that they are from.

        Raises:
            SourceError: for a value that was not there when they were counted.
        """
        values = plain(column)
        if self.form == "texts":
            return self._placed(values, *texts_of(values, self.column))
        numbers, faults = integers_of(values, self.column, self.conventional)
        if self.form == "names":
            return self._renumbered(numbers, file), faults
        if self.form == "values":
            return self._placed(values, numbers.cast(pa.string()), faults)
        return self._named(numbers, faults)

    def _named(self, numbers: pa.Array, faults: dict[int, Fault]) -> tuple[pa.Array, dict[int, Fault]]:
        """Numbers as they are; a negative one is a fault, as it would pass for "no label" later."""
        negative = pa.compute.less(numbers, 0)
        if not pa.compute.any(negative).as_py():
            return numbers, faults
        for place in np.flatnonzero(negative.fill_null(False)).tolist():
            what = f"label {numbers[place].as_py()} is negative, and was not known before. Name all with --classes"
            faults[place] = Fault(self.column, what)
        return _without(numbers, faults), faults

    def _renumbered(self, numbers: pa.Array, file: int) -> pa.Array:
        """A ClassLabel's numbers in that file, as those of `classes`."""
        names = self.names.get(file)
        if names is None or self.classes is None or names == self.classes[: len(names)]:
            return numbers
        place = {name: number for number, name in enumerate(self.classes)}
        known = pa.array([place[name] for name in names], pa.int64())
        inside = pa.compute.and_(pa.compute.greater_equal(numbers, 0), pa.compute.less(numbers, len(names)))
        moved = known.take(pa.compute.if_else(inside, numbers, None))
        # What no name stands for is left outside of the classes, to become a reject.
        outside = pa.compute.if_else(pa.compute.less(numbers, 0), numbers, pa.compute.add(numbers, len(self.classes)))
        return pa.compute.if_else(inside, moved, outside)

    def _placed(self, values: pa.Array, texts: pa.Array, faults: dict[int, Fault]) -> tuple[pa.Array, dict[int, Fault]]:
        """The places of texts among the classes."""
        found = pa.compute.index_in(texts, pa.array(self.classes or (), pa.string())).cast(pa.int64())
        if found.null_count == texts.null_count:
            return found, faults
        for place in np.flatnonzero(pa.compute.and_(found.is_null(), texts.is_valid())).tolist():
            text = texts[place].as_py()
            if self.counted:
                raise SourceError(
                    f"label {text!r} in column {self.column!r} did not exist when the labels were counted. "
                    "The source changed: start again with --overwrite"
                )
            faults[place] = Fault(self.column, f"label {text!r:.80} is not among the classes")
        return found, faults


def texts_of(values: pa.Array, column: str) -> tuple[pa.Array, dict[int, Fault]]:
    """Texts, and the faults of those that are not UTF-8, which become null."""
    if pa.types.is_null(values.type):
        return values.cast(pa.string()), {}
    try:
        values.validate(full=True)
        return values.cast(pa.string()), {}
    except pa.ArrowInvalid:
        texts = [None if content is None else decoded(content) for content in bytes_of(values).to_pylist()]
        odd = {place for place, text in enumerate(texts) if text is None and values[place].is_valid}
        return pa.array(texts, pa.string()), {p: Fault(column, "the label is text that is not UTF-8") for p in odd}


def integers_of(values: pa.Array, column: str, loose: bool) -> tuple[pa.Array, dict[int, Fault]]:
    """int64, and the faults of those that are no integers, which become null."""
    kind = values.type
    if pa.types.is_floating(kind):
        values = pa.compute.if_else(pa.compute.is_nan(values), None, values)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        values = texts_of(values, column)[0]
        values = pa.compute.utf8_trim_whitespace(values) if loose else values
    try:
        return values.cast(pa.int64()), {}
    except pa.ArrowInvalid:
        numbers = [None if value is None else _integer(value) for value in values.to_pylist()]
    faults = {
        place: Fault(column, f"{values[place].as_py()!r:.80} is no label: an integer of 64 bits is needed")
        for place, number in enumerate(numbers)
        if number is None and values[place].is_valid
    }
    return pa.array(numbers, pa.int64()), faults


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if is_integer(value, loose=True) else None
    return int(value) if math.isfinite(value) and int(value) == value and int(value) in _INT64 else None


def is_integer(text: str, loose: bool) -> bool:
    if not loose:
        return INTEGER.fullmatch(text) is not None and int(text) in _INT64
    return _LOOSE.fullmatch(text) is not None and int(text) in _INT64


def _without(numbers: pa.Array, faults: Mapping[int, Fault]) -> pa.Array:
    places = np.zeros(len(numbers), bool)
    places[list(faults)] = True
    return pa.compute.if_else(pa.array(places), None, numbers)


def bytes_of(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.large_string()).cast(pa.large_binary()) if not pa.types.is_null(texts.type) else texts


def decoded(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
