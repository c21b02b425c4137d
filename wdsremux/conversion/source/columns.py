"""The columns of a source -> which one is the image, which the label, which are kept; and their values out of Arrow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute

from wdsremux.conversion.source import kept_values
from wdsremux.conversion.source.base import Column, Fault, Survey
from wdsremux.errors import SourceError

NO_COLUMN = "none"  #: what --label-column says for a set that is to have no labels
_IMAGE_NAMES = re.compile(r"(?:.*[_. -])?(?:images?|img|imgs|pictures?|photos?|jpe?g|png|webp)(?:[_. -].*)?", re.I)
_LABEL_NAMES = ("label", "labels", "cls", "class", "target", "targets")  #: of the label; the first that there is
#: Names of several parts that speak of a label, such as fine_label, class_id, category_name.
_LABEL_LIKE = re.compile(
    r"(?:.*[_. -])?(?:labels?|cls|class(?:es)?|targets?|categor(?:y|ies))"
    r"(?:[_. -](?:ids?|idx|index|names?|no|number))?",
    re.I,
)
_ARRAYS = (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)
_TEXTS = (datasets.Translation, datasets.TranslationVariableLanguages, datasets.Json)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are read, by their names in the source."""

    image: str
    label: str | None
    kept: tuple[str, ...] = ()
    json: frozenset[str] = field(default_factory=frozenset)  #: those of them whose values are texts of JSON files

    @property
    def names(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys([self.image, *([self.label] if self.label else []), *self.kept]))

    def images(self, table: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Bytes and paths of the images: binary or large_binary [N], string [N]."""
        images = plain(table.column(self.image))
        if not pa.types.is_struct(images.type):
            return _content(images), pa.nulls(len(images), pa.string())
        names = [inner.name for inner in images.type]
        content = _content(pa.compute.struct_field(images, "bytes"))
        if "path" not in names:
            return content, pa.nulls(len(images), pa.string())
        return content, _utf8(plain(pa.compute.struct_field(images, "path")))

    def kept_values(self, table: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """The kept columns, and the rows of which Python cannot have a value as it is; those hold nulls."""
        return kept_values.exact(table.select(list(self.kept)), self.json)


def choose(
    found: Survey, source: str, image: str | None, label: str | None, keep: Sequence[str], made: bool
) -> tuple[Columns, list[str]]:
    """Find the columns to read.

    Args:
        found: what a look at the source told of its columns.
        source: named in errors.
        image: None: the only one of that kind.
        label: None: the only ClassLabel, else the column that is named like a label, else no label; "none": no label.
        keep: columns for the samples' JSON.
        made: whether a recipe may make columns that the source has not.

    Returns:
        The columns, and what to warn of: columns that look like a label and are not taken.

    Raises:
        SourceError: one clear error saying what is missing or ambiguous.
    """
    columns = found.columns
    image = image or _image_column(columns, source)
    _check_there(columns, image, source)
    if not _is_image(columns[image].feature):
        raise SourceError(
            f"column {image!r} of {source} is {_word(columns[image].feature)}, no image. "
            "An image is an Image, binary, or a struct of bytes and path"
        )
    warnings: list[str] = []
    if label is None:
        label, warnings = _label_column(columns, image, keep, source)
    elif label == NO_COLUMN and NO_COLUMN not in columns:
        label = None
    if label is not None and not (found.partial and label not in columns):
        _check_there(columns, label, source)
        check_label(columns[label], label)
    names = [name for name in dict.fromkeys(keep) if name in columns or not (made or found.partial)]
    for name in names:
        _check_there(columns, name, source)
        _check_kept(columns[name].feature, name)
    late = [name for name in dict.fromkeys(keep) if name not in columns] if found.partial and not made else []
    texts = frozenset(n for n in names if found.ragged and isinstance(columns[n].feature, datasets.Json))
    chosen = Columns(image, label, (*names, *late), texts)
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
        without = " Give a narrower glob, or leave the column out" + (
            f" (--label-column {NO_COLUMN})" if name == chosen.label else ""
        )
        if column.lacking and (name == chosen.label or not ragged):
            raise SourceError(f"{column.lacking} has no column {name!r}, which other files have.{without}")
        if column.clash:
            raise SourceError(f"column {name!r} differs between files: {column.clash}.{without}")


def _image_column(columns: Mapping[str, Column], source: str) -> str:
    """The column that can only be the image: an Image, else a struct of bytes and path, else a binary column."""
    images = [name for name, column in columns.items() if isinstance(column.feature, datasets.Image)]
    structs = [name for name, column in columns.items() if _is_struct(column.feature)]
    binaries = [name for name, column in columns.items() if _is_binary(column.feature)]
    named = [name for name in binaries if _IMAGE_NAMES.fullmatch(name)]
    names = images or structs or named or binaries
    if len(names) == 1:
        return names[0]
    if names:
        raise SourceError(
            f"{source} has {len(names)} image columns: {', '.join(names)}. Choose one with --image-column"
        )
    listed = ", ".join(f"{name} ({_word(column.feature)})" for name, column in columns.items())
    raise SourceError(f"{source} has no image column. Its columns: {listed or 'none'}")


def _label_column(
    columns: Mapping[str, Column], image: str, keep: Sequence[str], source: str
) -> tuple[str | None, list[str]]:
    """The column that is the label, by its feature or name, and what to warn of.

    Raises:
        SourceError: if several could be it, or the only one that looks like it is none.
    """
    others = {name: column for name, column in columns.items() if name != image and not _is_image(column.feature)}
    marked = [name for name, column in others.items() if isinstance(column.feature, datasets.ClassLabel)]
    plain_ = [name for wanted in _LABEL_NAMES for name in others if name.lower() == wanted]
    like = [name for name, column in others.items() if looks_like_label(name, column.feature)]
    if len(marked) > 1:
        raise _several(source, marked)
    fit = [name for name in plain_ if _is_label(others[name].feature)]
    chosen = marked or fit[:1] or plain_[:1]
    if not chosen and len(like) > 1:
        raise _several(source, like)
    chosen = chosen or like
    if not chosen:
        return None, []
    passed = [name for name in dict.fromkeys([*plain_, *like]) if name not in (*chosen, *keep)]
    about = [
        f"column {name!r} ({_word(others[name].feature)}) looks like a label, too, and is not taken: {chosen[0]!r} is "
        f"the label. Choose the other with --label-column {name}, or keep it with --keep {name}"
        for name in passed
    ]
    return chosen[0], about


def looks_like_label(name: str, feature: Any) -> bool:
    """Whether a column may be the label, by its name or its feature."""
    marked = isinstance(feature, datasets.ClassLabel) or _holds_labels(feature)
    return marked or _LABEL_LIKE.fullmatch(name) is not None


def _several(source: str, names: Sequence[str]) -> SourceError:
    return SourceError(
        f"{source} has {len(names)} label columns: {', '.join(names)}. Choose one with --label-column, "
        f"or --label-column {NO_COLUMN}"
    )


def _dtype(feature: Any, other: str = "") -> str:
    """The dtype of a plain value, `other` for anything else."""
    return str(feature.dtype) if isinstance(feature, datasets.Value) else other


def _is_image(feature: Any) -> bool:
    return isinstance(feature, datasets.Image) or _is_struct(feature) or _is_binary(feature)


def _is_struct(feature: Any) -> bool:
    """Whether it is what an Image is stored as: a struct of bytes and, mostly, path."""
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"} and _is_binary(feature["bytes"])
    if isinstance(feature, pa.DataType) and pa.types.is_struct(feature):
        inner = {each.name: each.type for each in feature}
        return "bytes" in inner and set(inner) <= {"bytes", "path"} and _is_binary(inner["bytes"])
    return False


def _is_binary(feature: Any) -> bool:
    if isinstance(feature, pa.DictionaryType):
        feature = feature.value_type
    if isinstance(feature, pa.DataType):
        return bool(
            pa.types.is_binary(feature) or pa.types.is_large_binary(feature) or pa.types.is_binary_view(feature)
        )
    return _dtype(feature) in ("binary", "large_binary", "binary_view")


def kind_of_label(feature: Any) -> str | None:
    """Of what kind labels of this feature are: "class", "integer", "bool", "float", "text", "null"; None if unfit."""
    if isinstance(feature, datasets.ClassLabel):
        return "class"
    if isinstance(feature, datasets.Value):
        feature = feature.pa_type
    if isinstance(feature, pa.DictionaryType):
        feature = feature.value_type
    if not isinstance(feature, pa.DataType):
        return None
    kinds = {
        "integer": pa.types.is_integer,
        "bool": pa.types.is_boolean,
        "float": pa.types.is_floating,
        "null": pa.types.is_null,
        "text": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
    }
    return next((kind for kind, is_one in kinds.items() if is_one(feature)), None)


def _is_label(feature: Any) -> bool:
    return kind_of_label(feature) is not None


def _holds_labels(feature: Any) -> bool:
    """Whether it is a list of ClassLabels, at any depth."""
    if isinstance(feature, datasets.List | datasets.LargeList):
        return isinstance(feature.feature, datasets.ClassLabel) or _holds_labels(feature.feature)
    return False


def check_label(column: Column, name: str) -> None:
    """
    Raises:
        SourceError: if values of this column are no single labels.
    """
    if not _is_label(column.feature):
        raise unfit(name, f"is {_word(column.feature)}")


def unfit(name: str, what: str) -> SourceError:
    """The error for a column that looks like the label, or was asked for, and cannot be it."""
    return SourceError(
        f"column {name!r} {what}, no single label. A label is a ClassLabel, an integer, a bool, a whole float or a "
        f"text. Choose another with --label-column, or none with --label-column {NO_COLUMN}; --keep {name} puts it "
        "into the samples' JSON"
    )


def _check_kept(feature: Any, name: str) -> None:
    """Refuse what JSON cannot hold, at any depth."""
    if isinstance(feature, pa.DataType):
        inner = _inner_types(feature)
        if not _is_binary(feature) and not pa.types.is_fixed_size_binary(feature):
            for each in inner:
                _check_kept(each, name)
            return
    elif isinstance(feature, dict):
        inner = list(feature.values())
    elif isinstance(feature, list):
        inner = feature
    elif isinstance(feature, datasets.List | datasets.LargeList):
        inner = [feature.feature]
    elif isinstance(feature, (datasets.ClassLabel, *_ARRAYS, *_TEXTS)) or "binary" not in _dtype(feature, "binary"):
        return
    else:
        raise SourceError(f"column {name!r} holds {_word(feature)}, which --keep cannot write as JSON. Leave it out")
    if isinstance(feature, pa.DataType):
        raise SourceError(f"column {name!r} holds {_word(feature)}, which --keep cannot write as JSON. Leave it out")
    for each in inner:
        _check_kept(each, name)


def _inner_types(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.DictionaryType):
        return [kind.value_type]
    return [kind.field(i).type for i in range(kind.num_fields)]


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array, its dictionary unpacked; Arrow's own `combine_chunks` copies even a single chunk."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _content(images: pa.Array) -> pa.Array:
    """Images as binary or large_binary."""
    images = plain(images)
    if pa.types.is_null(images.type):
        return images.cast(pa.binary())
    return images.cast(pa.large_binary()) if pa.types.is_binary_view(images.type) else images


def _utf8(texts: pa.Array) -> pa.Array:
    """Texts of which no byte is lost but those that are not UTF-8; parquet does not look whether they are."""
    texts = texts.cast(pa.string()) if not pa.types.is_string(texts.type) else texts
    try:
        texts.validate(full=True)
        return texts
    except pa.ArrowInvalid:
        content = texts.cast(pa.binary()).to_pylist()
        return pa.array([text and text.decode(errors="replace") for text in content], pa.string())


def _word(feature: Any) -> str:
    if isinstance(feature, datasets.ClassLabel):
        return "ClassLabel"
    if isinstance(feature, datasets.List | datasets.LargeList):
        return f"List({_word(feature.feature)})"
    if isinstance(feature, pa.DataType):
        return str(feature)
    return _dtype(feature) or type(feature).__name__
