"""Values of the label column -> numbers. Which class has which number is settled once, over all splits of a source.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from wdsremux.conversion.source.base import Column, Fault, Reader, Survey
from wdsremux.conversion.source.columns import kind_of_label, plain, unfit
from wdsremux.errors import SourceError

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")  #: a text that is the only way to write an integer
_LOOSE = re.compile(r"\s*[+-]?[0-9]{1,40}\s*")  #: one in which white space and leading zeros mean nothing
_WHOLE = 2**53  #: floats beyond it leave integers out
_INT64 = range(-(2**63), 2**63)
_EXAMPLES = 5  #: values that an error names

Others = Callable[[], Sequence[Survey]]  #: looks at the other splits of a source, when that is needed


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
        by_value = all(_INTEGER.fullmatch(name) for name in names)
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
            return self._placed(values, *_texts(values, self.column))
        numbers, faults = _integers(values, self.column, self.conventional)
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
                    f"{self.column} {text!r} was not there when the labels were counted. "
                    "The source changed: convert it anew with --overwrite"
                )
            faults[place] = Fault(self.column, f"label {text!r:.80} is not among the classes")
        return found, faults


def settle(
    name: str,
    own: Survey,
    others: Others,
    given: tuple[str, ...] | None,
    remote: bool,
) -> Labels:
    """How labels become numbers, settled over all splits of a source.

    Args:
        name: the label column.
        own: what is known of the split that is converted.
        others: gives the same of the source's other splits.
        given: the class list that the user gave; None: that of the source.
        remote: whether a look at all values of a column costs a request each.

    Raises:
        SourceError: if values are no labels, or cannot be counted before the images are read.
    """
    column = own.columns.get(name, Column(pa.string(), integers=True))  # of a stream: it may come up later
    kind = kind_of_label(column.feature)
    if kind == "null":
        return Labels(name, "nulls", given)
    if kind == "class":
        return _of_names(name, column, _columns(name, others()), given)
    if kind == "text":
        return _of_texts(name, column, own, others, given, remote)
    if kind == "bool":
        return Labels(name, "numbers", given)
    if kind == "integer" and given is None and _none_negative(name, own, others, remote):
        return Labels(name, "numbers")
    if remote and given is not None and kind == "integer":
        return _of_integers(name, set(), given, counted=False)
    own_values = _all_integers(name, own, strict=True)
    return _of_integers(name, own_values, given, others)


def read_as_before(labels: Labels, reader: Reader) -> bool:
    """Whether version 0.1.0 gave a split's labels the same numbers.

    It numbered texts by split, without the white space around them, and took -1 for "no label".
    """
    if labels.form == "texts":
        values = {text.strip() for text in _all_texts(labels.column, reader)}
        return labels.classes == tuple(sorted(values))
    if labels.form == "names":
        return all(names == labels.classes for names in labels.names.values())
    return labels.form == "nulls" or (labels.form == "numbers" and (labels.conventional or not labels.was_text))


def _columns(name: str, surveys: Iterable[Survey]) -> list[Column]:
    return [survey.columns[name] for survey in surveys if name in survey.columns]


def _of_names(name: str, own: Column, others: Sequence[Column], given: tuple[str, ...] | None) -> Labels:
    """A ClassLabel's: by name. The list of the first file, and then what other files and splits have beyond it."""
    lists = [list_ for column in (own, *others) for _, list_ in sorted(column.names.items())]
    # The longest comes first, so that the list is the same whichever split is converted first.
    lists = sorted(dict.fromkeys(lists), key=lambda names: (-len(names), names))
    classes = tuple(dict.fromkeys(each for names in lists for each in names))
    if given is not None:
        _check_known(name, set(classes) - set(given))
    return Labels(name, "names", given or classes, own.names)


def _of_texts(
    name: str,
    column: Column,
    own: Survey,
    others: Others,
    given: tuple[str, ...] | None,
    remote: bool,
) -> Labels:
    """Texts: integers where all are, else classes of their own."""
    loose = column.integers
    if own.partial or (given is not None and remote):
        seen = set(column.seen)
        if (loose and not seen) or (seen and _are_integers(seen, loose)):
            return replace(_of_integers(name, set(), given, counted=False), conventional=loose, was_text=True)
        if given is not None:
            return Labels(name, "texts", given, counted=False)
    found = _all_texts(name, own.reader)
    elsewhere = set[str]()
    for survey in others():
        if name in survey.columns and kind_of_label(survey.columns[name].feature) == "text":
            elsewhere |= _all_texts(name, survey.reader)
    if found and _are_integers(found | elsewhere, loose):
        integers = {int(text) for text in found if _is_integer(text, loose)}
        more = {int(text) for text in elsewhere if _is_integer(text, loose)}
        return replace(_of_integers(name, integers, given, elsewhere=more), conventional=loose, was_text=True)
    if given is not None:
        _check_known(name, found - set(given))
    return Labels(name, "texts", given or tuple(sorted(found | elsewhere)), conventional=loose)


def _is_integer(text: str, loose: bool) -> bool:
    if not loose:
        return _INTEGER.fullmatch(text) is not None and int(text) in _INT64
    return _LOOSE.fullmatch(text) is not None and int(text) in _INT64


def _are_integers(texts: set[str], loose: bool) -> bool:
    """Whether texts are integers. Where they are by convention, some that are not are faults, and not names."""
    matches = [_is_integer(text, loose) for text in texts]
    return any(matches) if loose else all(matches)


def _of_integers(
    name: str,
    values: set[int],
    given: tuple[str, ...] | None,
    others: Others = tuple,
    elsewhere: Iterable[int] = (),
    counted: bool = True,
) -> Labels:
    """Integers: as they are, or by value where some are negative or the user named them so."""
    if given is not None:
        by_value = all(_INTEGER.fullmatch(text) for text in given)
        known = {int(text) for text in given} if by_value else set(range(len(given)))
        _check_known(name, {str(value) for value in values - known})
        return Labels(name, "values" if by_value else "numbers", given, counted=counted)
    union = values.union(elsewhere)
    for survey in others():
        if name in survey.columns and kind_of_label(survey.columns[name].feature) in ("integer", "float"):
            union |= _all_integers(name, survey, strict=False)
    if min(union, default=0) >= 0:
        return Labels(name, "numbers")
    return Labels(name, "values", tuple(map(str, sorted(union))))


def _check_known(name: str, strange: set[str]) -> None:
    """
    Raises:
        SourceError: if labels are not in the list that the user gave.
    """
    if strange:
        listed = ", ".join(map(repr, sorted(strange)[:_EXAMPLES])) + (" …" if len(strange) > _EXAMPLES else "")
        raise SourceError(f"column {name!r} holds labels that --classes does not name: {listed}. Add them to the list")


def _none_negative(name: str, own: Survey, others: Others, remote: bool) -> bool:
    """Whether no integer label is negative, as far as that is told without a look at all values.

    Over the network, where no footer tells it, it is taken for granted: a negative one is then a reject.
    """
    columns = [own.columns[name], *_columns(name, others())]
    columns = [column for column in columns if kind_of_label(column.feature) == "integer"]
    return all((column.least or 0) >= 0 for column in columns) and (
        remote or all(column.least is not None or _is_unsigned(column.feature) for column in columns)
    )


def _is_unsigned(feature: Any) -> bool:
    return str(getattr(feature, "dtype", feature)).startswith("uint")


def _all_integers(name: str, survey: Survey, strict: bool) -> set[int]:
    """All values of a column of integers or floats, without those that are none.

    Raises:
        SourceError: if `strict`, for a float that is not whole.
    """
    found: set[int] = set()
    for _, values in survey.reader.values(name):
        values = plain(values)
        if strict and pa.types.is_floating(values.type) and (odd := _not_whole(values)) is not None:
            raise unfit(name, f"holds {odd!r}")
        numbers, _ = _integers(values, name, False)
        found.update(number for number in numbers.unique().to_pylist() if number is not None)
    return found


def _not_whole(values: pa.Array) -> float | None:
    """A float that is no integer; None if there is none. NaN is what pandas writes for "none"."""
    array = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    array = array[~np.isnan(array)]
    odd = array[(np.abs(array) > _WHOLE) | (array != np.floor(array))]
    return float(odd[0]) if len(odd) else None


def _all_texts(name: str, reader: Reader) -> set[str]:
    """All values of a column of texts, but those that are not UTF-8: their rows are rejects."""
    found: set[str] = set()
    for _, values in reader.values(name):
        for content in _bytes(plain(values)).unique().to_pylist():
            if content is not None and (text := _decoded(content)) is not None:
                found.add(text)
    return found


def _bytes(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.large_string()).cast(pa.large_binary()) if not pa.types.is_null(texts.type) else texts


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _texts(values: pa.Array, column: str) -> tuple[pa.Array, dict[int, Fault]]:
    """Texts, and the faults of those that are not UTF-8, which become null."""
    if pa.types.is_null(values.type):
        return values.cast(pa.string()), {}
    try:
        values.validate(full=True)
        return values.cast(pa.string()), {}
    except pa.ArrowInvalid:
        texts = [None if content is None else _decoded(content) for content in _bytes(values).to_pylist()]
        odd = {place for place, text in enumerate(texts) if text is None and values[place].is_valid}
        return pa.array(texts, pa.string()), {p: Fault(column, "the label is text that is not UTF-8") for p in odd}


def _integers(values: pa.Array, column: str, loose: bool) -> tuple[pa.Array, dict[int, Fault]]:
    """int64, and the faults of those that are no integers, which become null."""
    kind = values.type
    if pa.types.is_floating(kind):
        values = pa.compute.if_else(pa.compute.is_nan(values), None, values)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        values = _texts(values, column)[0]
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
        return int(value) if _is_integer(value, loose=True) else None
    return int(value) if math.isfinite(value) and int(value) == value and int(value) in _INT64 else None


def _without(numbers: pa.Array, faults: Mapping[int, Fault]) -> pa.Array:
    places = np.zeros(len(numbers), bool)
    places[list(faults)] = True
    return pa.compute.if_else(pa.array(places), None, numbers)
