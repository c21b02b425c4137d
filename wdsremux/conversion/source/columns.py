"""Features -> which column is the image, which the label, which are kept; and their values out of Arrow tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow as pa
import pyarrow.compute
from datasets import Features

from wdsremux.errors import SourceError

if TYPE_CHECKING:
    from wdsremux.conversion.source import Reader

_IMAGE_DTYPES = ("binary", "large_binary")  # of a column that only its user knows to hold images
_LABEL_DTYPES = ("int", "uint", "string", "large_string")
_LABEL_NAMES = ("label", "labels", "cls")  #: of a column that is no ClassLabel; the last is what tars call it
_ARRAYS = (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)
_TEXTS = (datasets.Translation, datasets.TranslationVariableLanguages, datasets.Json)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are read, by their names in the source."""

    image: str
    label: str | None
    kept: tuple[str, ...]
    vocabulary: tuple[str, ...] | None = None  #: of a label column of strings: its sorted values, by label

    @property
    def names(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys([self.image, *([self.label] if self.label else []), *self.kept]))

    def images(self, table: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Bytes and paths of the images: binary or large_binary [N], string [N]."""
        images = _whole(table.column(self.image))
        content, paths = (pa.compute.struct_field(images, name) for name in ("bytes", "path"))
        return content, _utf8(paths)

    def kept_values(self, table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
        """The kept columns, and why a row has nulls in their place: by its place, where a text is not UTF-8."""
        kept = table.select(list(self.kept))
        try:
            kept.validate(full=True)
            return kept, {}
        except pa.ArrowInvalid:
            faults = {place: fault for place in range(len(kept)) if (fault := _fault(kept, place))}
        places = pa.array([None if place in faults else place for place in range(len(kept))], pa.int64())
        return kept.take(places), faults

    def labels(self, table: pa.Table) -> pa.Array:
        """int64 [N]; null where there is none.

        Raises:
            SourceError: for a string that was not there when the vocabulary was made.
        """
        if self.label is None:
            return pa.nulls(len(table), pa.int64())
        column = _whole(table.column(self.label))
        if self.vocabulary is None:
            return _numbers(column, self.label)
        column = _words(column)
        labels = pa.compute.index_in(column, pa.array(self.vocabulary, pa.string()))
        if labels.null_count != column.null_count:
            strange = column.filter(pa.compute.and_(labels.is_null(), column.is_valid()))[0]
            raise SourceError(
                f"{self.label} {strange.as_py()!r} was not there when the labels were counted. "
                "The source changed: convert it anew with --overwrite"
            )
        return labels.cast(pa.int64())


def choose(
    features: Features, source: str, image: str | None, label: str | None, keep: Sequence[str], made: bool
) -> Columns:
    """Find the columns to read.

    Args:
        features: of the source.
        source: named in errors.
        image: None: the only one of that kind.
        label: None: the only ClassLabel, else a column named "label", "labels" or "cls", else no label.
        keep: columns for the samples' JSON.
        made: whether a recipe may make columns that the source has not.

    Raises:
        SourceError: one sentence saying what is missing or ambiguous.
    """
    image = image or _image_column(features, source)
    _check_there(features, image, source)
    if not isinstance(features[image], datasets.Image) and _dtype(features[image]) not in _IMAGE_DTYPES:
        raise SourceError(f"column {image!r} is {features[image]}, no image. An image is an Image or binary")
    label = label or _label_column(features, source)
    if label is not None:
        _check_there(features, label, source)
        _check_label(features[label], label)
    kept = [name for name in dict.fromkeys(keep) if name in features or not made]
    for name in kept:
        _check_there(features, name, source)
        _check_kept(features[name], name)
    return Columns(image, label, tuple(kept))


def with_classes(columns: Columns, features: Features, reader: Reader) -> tuple[Columns, list[str] | None]:
    """The columns, with a vocabulary if the labels are strings, and the class names by label.

    Raises:
        SourceError: if the labels are strings that cannot be read without the images.
    """
    if columns.label is None:
        return columns, None
    feature = features[columns.label]
    if isinstance(feature, datasets.ClassLabel):
        return columns, list(feature.names)
    if "string" not in _dtype(feature):
        return columns, None
    values: set[str] = set()
    for array in reader.values(columns.label):
        try:
            values.update(value for value in _words(array).unique().to_pylist() if value is not None)
        except pa.ArrowInvalid as error:
            raise SourceError(
                f"column {columns.label!r} holds a label that is not UTF-8. Mend it, or choose another --label-column"
            ) from error
    vocabulary = tuple(sorted(values))
    return replace(columns, vocabulary=vocabulary), list(vocabulary)


def _check_there(features: Features, name: str, source: str) -> None:
    if name not in features:
        raise SourceError(f"{source} has no column {name!r}. Its columns: {', '.join(features)}")


def _image_column(features: Features, source: str) -> str:
    names: list[str] = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(names) == 1:
        return names[0]
    if names:
        raise SourceError(
            f"{source} has {len(names)} image columns: {', '.join(names)}. Choose one with --image-column"
        )
    raise SourceError(
        f"{source} has no image column. Its columns: {', '.join(f'{n} ({_word(f)})' for n, f in features.items())}"
    )


def _label_column(features: Features, source: str) -> str | None:
    names: list[str] = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(names) > 1:
        raise SourceError(
            f"{source} has {len(names)} label columns: {', '.join(names)}. Choose one with --label-column"
        )
    if names:
        return names[0]
    return next((name for name in _LABEL_NAMES if name in features and _is_label(features[name])), None)


def _dtype(feature: Any, other: str = "") -> str:
    """The dtype of a plain value, `other` for anything else."""
    return str(feature.dtype) if isinstance(feature, datasets.Value) else other


def _is_label(feature: Any) -> bool:
    return isinstance(feature, datasets.ClassLabel) or _dtype(feature).startswith(_LABEL_DTYPES)


def _check_label(feature: Any, name: str) -> None:
    if not _is_label(feature):
        raise SourceError(
            f"column {name!r} is {feature}, no single label. A label is a ClassLabel, an integer or a string; "
            f"with --keep {name} it goes into the samples' JSON"
        )


def _check_kept(feature: Any, name: str) -> None:
    """Refuse what JSON cannot hold, at any depth."""
    if isinstance(feature, dict):
        inner = list(feature.values())
    elif isinstance(feature, list):
        inner = feature
    elif isinstance(feature, datasets.List | datasets.LargeList):
        inner = [feature.feature]
    elif isinstance(feature, (datasets.ClassLabel, *_ARRAYS, *_TEXTS)) or "binary" not in _dtype(feature, "binary"):
        return
    else:
        raise SourceError(f"column {name!r} holds {_word(feature)}, which --keep cannot write as JSON. Leave it out")
    for each in inner:
        _check_kept(each, name)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; Arrow's own `combine_chunks` copies even a single chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _words(column: pa.Array) -> pa.Array:
    """Strings as class names: those of a tar are files, which often end with a line break."""
    return pa.compute.utf8_trim_whitespace(column.cast(pa.string()))


def _numbers(column: pa.Array, name: str) -> pa.Array:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise SourceError(f"column {name!r} holds a label of 2**63 or more. Choose another --label-column") from error


def _utf8(texts: pa.Array) -> pa.Array:
    """Texts of which no byte is lost but those that are not UTF-8; parquet does not look whether they are."""
    try:
        texts.validate(full=True)
        return texts
    except pa.ArrowInvalid:
        content = texts.cast(pa.binary()).to_pylist()
        return pa.array([text and text.decode(errors="replace") for text in content], pa.string())


def _fault(kept: pa.Table, place: int) -> str | None:
    """What is wrong with a row's kept values; None if nothing is."""
    for name in kept.column_names:
        try:
            kept[name][place].as_py()
        except UnicodeDecodeError:
            return f"column {name!r} holds text that is not UTF-8"
    return None


def nulled(images: pa.Array, places: Collection[int]) -> pa.Array:
    """Images with nulls at some places."""
    if not places:
        return images
    return images.take(pa.array([None if place in places else place for place in range(len(images))], pa.int64()))


def _word(feature: Any) -> str:
    return _dtype(feature) or type(feature).__name__
