"""What the feature of a column says: whether its values may be images, labels, or JSON.

A feature is one of `datasets`, or a pyarrow.DataType where `datasets` has none for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import datasets
import pyarrow as pa

from wdsremux.conversion.source.base import Column
from wdsremux.errors import SourceError

NO_COLUMN = "none"  #: what --label-column says for a set that is to have no labels
#: Names of several parts that speak of a label, such as fine_label, class_id, category_name.
_LABEL_LIKE = re.compile(
    r"(?:.*[_. -])?(?:labels?|cls|class(?:es)?|targets?|categor(?:y|ies))"
    r"(?:[_. -](?:ids?|idx|index|names?|no|number))?",
    re.I,
)
_ARRAYS = (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)
_TEXTS = (datasets.Translation, datasets.TranslationVariableLanguages, datasets.Json)


def is_image(feature: Any) -> bool:
    """Whether its values may be images."""
    return isinstance(feature, datasets.Image) or is_struct(feature) or is_binary(feature)


def is_struct(feature: Any) -> bool:
    """Whether it is what an Image is stored as: a struct of bytes and, mostly, path."""
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"} and is_binary(feature["bytes"])
    if isinstance(feature, pa.DataType) and pa.types.is_struct(feature):
        inner = {each.name: each.type for each in feature}
        return "bytes" in inner and set(inner) <= {"bytes", "path"} and is_binary(inner["bytes"])
    return False


def is_binary(feature: Any) -> bool:
    """Whether its values are bytes, in any of Arrow's ways."""
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


def is_label(feature: Any) -> bool:
    """Whether its values may be single labels."""
    return kind_of_label(feature) is not None


def holds_labels(feature: Any) -> bool:
    """Whether it is a list of ClassLabels, at any depth."""
    if isinstance(feature, datasets.List | datasets.LargeList):
        return isinstance(feature.feature, datasets.ClassLabel) or holds_labels(feature.feature)
    return False


def _dtype(feature: Any, other: str = "") -> str:
    """The dtype of a plain value, `other` for anything else."""
    return str(feature.dtype) if isinstance(feature, datasets.Value) else other


def word(feature: Any) -> str:
    """What people call it."""
    if isinstance(feature, datasets.ClassLabel):
        return "ClassLabel"
    if isinstance(feature, datasets.List | datasets.LargeList):
        return f"List({word(feature.feature)})"
    if isinstance(feature, pa.DataType):
        return str(feature)
    return _dtype(feature) or type(feature).__name__


def check_kept(feature: Any, name: str) -> None:
    """See that JSON can hold the values of a column, at any depth.

    Raises:
        SourceError: if it cannot.
    """
    if isinstance(feature, pa.DataType):
        inner = _inner_types(feature)
        if not is_binary(feature) and not pa.types.is_fixed_size_binary(feature):
            for each in inner:
                check_kept(each, name)
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
        raise SourceError(f"column {name!r} contains {word(feature)}, which --keep cannot store. Omit it")
    if isinstance(feature, pa.DataType):
        raise SourceError(f"column {name!r} contains {word(feature)}, which --keep cannot store. Omit it")
    for each in inner:
        check_kept(each, name)


def stored(named: Mapping[str, Any]) -> pa.Schema:
    """Types for columns of these features, which its metadata names for `datasets`; JSON where `datasets` has none."""
    known = {name: datasets.Json() if isinstance(feature, pa.DataType) else feature for name, feature in named.items()}
    return datasets.Features(known).arrow_schema


def _inner_types(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.DictionaryType):
        return [kind.value_type]
    return [kind.field(i).type for i in range(kind.num_fields)]


def unfit(name: str, what: str) -> SourceError:
    """The error for a column that looks like the label, or was asked for, and cannot be it."""
    return SourceError(
        f"column {name!r} {what}, not a single label. Supported: a ClassLabel, an integer, a bool, a whole float or "
        f"text. Choose another column with --label-column, or convert without labels with --label-column {NO_COLUMN}; "
        f"--keep {name!r} writes it to the JSON of each sample"
    )


def check_label(column: Column, name: str) -> None:
    """
    Raises:
        SourceError: if values of this column are no single labels.
    """
    if not is_label(column.feature):
        raise unfit(name, f"is {word(column.feature)}")


def looks_like_label(name: str, feature: Any) -> bool:
    """Whether a column may be the label, by its name or its feature."""
    marked = isinstance(feature, datasets.ClassLabel) or holds_labels(feature)
    return marked or _LABEL_LIKE.fullmatch(name) is not None
