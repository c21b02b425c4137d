"""Which number each class has, settled once, over all splits of a source: the form and the list of `Labels`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from wdsremux.conversion.source.arrow_values import plain
from wdsremux.conversion.source.base import Column, SourceReader, Survey
from wdsremux.conversion.source.features import kind_of_label, unfit
from wdsremux.conversion.source.labels import INTEGER, Labels, bytes_of, decoded, integers_of, is_integer
from wdsremux.errors import SourceError

_WHOLE = 2**53  #: floats beyond it leave integers out
_EXAMPLES = 5  #: values that an error names

Others = Callable[[], Sequence[Survey]]  #: looks at the other splits of a source, when that is needed


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


def read_as_before(labels: Labels, reader: SourceReader) -> bool:
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
        integers = {int(text) for text in found if is_integer(text, loose)}
        more = {int(text) for text in elsewhere if is_integer(text, loose)}
        return replace(_of_integers(name, integers, given, elsewhere=more), conventional=loose, was_text=True)
    if given is not None:
        _check_known(name, found - set(given))
    return Labels(name, "texts", given or tuple(sorted(found | elsewhere)), conventional=loose)


def _are_integers(texts: set[str], loose: bool) -> bool:
    """Whether texts are integers. Where they are by convention, some that are not are faults, and not names."""
    matches = [is_integer(text, loose) for text in texts]
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
        by_value = all(INTEGER.fullmatch(text) for text in given)
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
        raise SourceError(
            f"column {name!r} contains labels that --classes does not name: {listed}. Add them to the list"
        )


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
            raise unfit(name, f"contains {odd!r}")
        numbers, _ = integers_of(values, name, False)
        found.update(number for number in numbers.unique().to_pylist() if number is not None)
    return found


def _not_whole(values: pa.Array) -> float | None:
    """A float that is no integer; None if there is none. NaN is what pandas writes for "none"."""
    array = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    array = array[~np.isnan(array)]
    odd = array[(np.abs(array) > _WHOLE) | (array != np.floor(array))]
    return float(odd[0]) if len(odd) else None


def _all_texts(name: str, reader: SourceReader) -> set[str]:
    """All values of a column of texts, but those that are not UTF-8: their rows are rejects."""
    found: set[str] = set()
    for _, values in reader.values(name):
        for content in bytes_of(plain(values)).unique().to_pylist():
            if content is not None and (text := decoded(content)) is not None:
                found.add(text)
    return found
