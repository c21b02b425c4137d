"""The columns of a source -> which one is the image, which the label, which are kept; and their values out of Arrow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute

from wdsremux.conversion.source import arrow_values, features, kept_values
from wdsremux.conversion.source.base import Column, Fault, Survey
from wdsremux.conversion.source.features import NO_COLUMN
from wdsremux.conversion.source.selection import Selection
from wdsremux.errors import SourceError

_IMAGE_NAMES = re.compile(r"(?:.*[_. -])?(?:images?|img|imgs|pictures?|photos?|jpe?g|png|webp)(?:[_. -].*)?", re.I)
_LABEL_NAMES = ("label", "labels", "cls", "class", "target", "targets")  #: of the label; the first that there is


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are read, by their names in the source."""

    image: str
    label: str | None
    kept: tuple[str, ...] = ()
    json: frozenset[str] = field(default_factory=frozenset)  #: those of them whose values are texts of JSON files
    #: of the kept ones, as far as they are known
    features: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys([self.image, *([self.label] if self.label else []), *self.kept]))

    def images(self, table: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Bytes and paths of the images: binary or large_binary [N], string [N]."""
        images = arrow_values.plain(table.column(self.image))
        if not pa.types.is_struct(images.type):
            return arrow_values.content(images), pa.nulls(len(images), pa.string())
        names = [inner.name for inner in images.type]
        content = arrow_values.content(pa.compute.struct_field(images, "bytes"))
        if "path" not in names:
            return content, pa.nulls(len(images), pa.string())
        return content, arrow_values.utf8(arrow_values.plain(pa.compute.struct_field(images, "path")))

    def stored(self, keep: Sequence[str]) -> pa.Schema:
        """The types under which columns are stored where each has its own: those of the source, or JSON.

        Args:
            keep: names of columns to keep, also those that a recipe makes and the source has not.
        """
        known = {name: feature for name, feature in self.features.items() if name not in self.json}
        return features.stored({name: known.get(name, datasets.Json()) for name in keep})

    def kept_values(self, table: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """The kept columns, and the rows of which Python cannot have a value as it is; those hold nulls."""
        return kept_values.exact(table.select(list(self.kept)), self.json)


def choose(found: Survey, selection: Selection, recipe_makes: bool) -> tuple[Columns, list[str]]:
    """Find the columns to read.

    Args:
        found: what a look at the source told of its columns.
        selection: what is to be read. Where it names no image column: the only one of that kind. Where it names no
            label column: the only ClassLabel, else the column that is named like a label, else none.
        recipe_makes: whether the recipe may make columns to keep that the source has not.

    Returns:
        The columns, and what to warn of: columns that look like a label and are not taken.

    Raises:
        SourceError: one clear error saying what is missing or ambiguous.
    """
    columns, source, keep = found.columns, selection.source, selection.keep
    image = selection.image_column or _image_column(columns, source)
    _check_there(columns, image, source)
    if not features.is_image(columns[image].feature):
        raise SourceError(
            f"column {image!r} of {source} is {features.word(columns[image].feature)}, not an image. "
            "Supported: Image, binary, or a struct of bytes and path"
        )
    warnings: list[str] = []
    label = selection.label_column
    if label is None:
        label, warnings = _label_column(columns, image, keep, source)
    elif label == NO_COLUMN and NO_COLUMN not in columns:
        label = None
    if label is not None and not (found.partial and label not in columns):
        _check_there(columns, label, source)
        features.check_label(columns[label], label)
    names = [name for name in dict.fromkeys(keep) if name in columns or not (recipe_makes or found.partial)]
    for name in names:
        _check_there(columns, name, source)
        features.check_kept(columns[name].feature, name)
    late = [name for name in dict.fromkeys(keep) if name not in columns] if found.partial and not recipe_makes else []
    texts = frozenset(n for n in names if found.ragged and isinstance(columns[n].feature, datasets.Json))
    known = {name: columns[name].feature for name in names}
    chosen = Columns(image, label, (*names, *late), texts, known)
    _check_whole(columns, chosen, found.ragged)
    return chosen, warnings


def _check_there(columns: Mapping[str, Column], name: str, source: str) -> None:
    if name not in columns:
        raise SourceError(f"{source} has no column {name!r}. Its columns: {', '.join(columns)}")


def _check_whole(columns: Mapping[str, Column], chosen: Columns, ragged: bool) -> None:
    """See that the chosen columns are in every file, and of one type. Where rows may lack columns, only the label is.

    Raises:
        SourceError: naming the files that differ.
    """
    for name in chosen.names:
        column = columns.get(name, Column(None))
        without = " Give a narrower glob, or omit the column" + (
            f" (--label-column {NO_COLUMN})" if name == chosen.label else ""
        )
        if column.lacking and (name == chosen.label or not ragged):
            raise SourceError(f"{column.lacking} does not have the column {name!r} that other files have.{without}")
        if column.clash:
            raise SourceError(f"column {name!r} differs between files: {column.clash}.{without}")


def _image_column(columns: Mapping[str, Column], source: str) -> str:
    """The column that can only be the image: an Image, else a struct of bytes and path, else a binary column."""
    images = [name for name, column in columns.items() if isinstance(column.feature, datasets.Image)]
    structs = [name for name, column in columns.items() if features.is_struct(column.feature)]
    binaries = [name for name, column in columns.items() if features.is_binary(column.feature)]
    named = [name for name in binaries if _IMAGE_NAMES.fullmatch(name)]
    names = images or structs or named or binaries
    if len(names) == 1:
        return names[0]
    if names:
        raise SourceError(
            f"{source} has {len(names)} image columns: {', '.join(names)}. Choose one with --image-column"
        )
    listed = ", ".join(f"{name} ({features.word(column.feature)})" for name, column in columns.items())
    raise SourceError(f"{source} has no image column. Its columns: {listed or 'none'}")


def _label_column(
    columns: Mapping[str, Column], image: str, keep: Sequence[str], source: str
) -> tuple[str | None, list[str]]:
    """The column that is the label, by its feature or name, and what to warn of.

    Raises:
        SourceError: if several could be it, or the only one that looks like it is none.
    """
    others = {
        name: column for name, column in columns.items() if name != image and not features.is_image(column.feature)
    }
    marked = [name for name, column in others.items() if isinstance(column.feature, datasets.ClassLabel)]
    plain_ = [name for wanted in _LABEL_NAMES for name in others if name.lower() == wanted]
    like = [name for name, column in others.items() if features.looks_like_label(name, column.feature)]
    if len(marked) > 1:
        raise _several(source, marked)
    fit = [name for name in plain_ if features.is_label(others[name].feature)]
    chosen = marked or fit[:1] or plain_[:1]
    if not chosen and len(like) > 1:
        raise _several(source, like)
    chosen = chosen or like
    if not chosen:
        return None, []
    passed = [name for name in dict.fromkeys([*plain_, *like]) if name not in (*chosen, *keep)]
    about = [
        f"column {name!r} ({features.word(others[name].feature)}) also looks like a label, but "
        f"{chosen[0]!r} is used. To use {name!r}, add --label-column {name!r}; to keep its values, add --keep {name!r}"
        for name in passed
    ]
    return chosen[0], about


def image_how(columns: Mapping[str, Column], chosen: Columns, selection: Selection) -> str:
    """Why `choose` took that column for the image, in words that go on after its name."""
    if selection.image_column is not None:
        return "as asked"
    feature = columns[chosen.image].feature
    if isinstance(feature, datasets.Image):
        return "the only Image column"
    if features.is_struct(feature):
        return "the only struct of bytes and path"
    binaries = [name for name, column in columns.items() if features.is_binary(column.feature)]
    return "the only binary column" if len(binaries) == 1 else "the only binary column with the name of an image"


def label_how(columns: Mapping[str, Column], chosen: Columns, selection: Selection) -> str:
    """Why `choose` took that column for the label, in words that go on after its name; or why none is."""
    if selection.label_column is not None:
        return "as asked"
    if chosen.label is None:
        return "no column looks like one"
    feature = columns[chosen.label].feature
    return (
        "the only ClassLabel" if isinstance(feature, datasets.ClassLabel) else f"{features.word(feature)}, by its name"
    )


def _several(source: str, names: Sequence[str]) -> SourceError:
    return SourceError(
        f"{source} has {len(names)} label columns: {', '.join(names)}. Choose one with --label-column, "
        f"or --label-column {NO_COLUMN}"
    )
