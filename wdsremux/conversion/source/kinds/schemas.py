"""Schemas of the files of a split -> its columns: what they all agree on, and where they do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import datasets
import pyarrow as pa
from datasets import Features
from datasets.features.features import generate_from_dict

from wdsremux.conversion.source.base import Column
from wdsremux.conversion.source.features import kind_of_label
from wdsremux.errors import counted

_HUB = b"huggingface"  #: key of the metadata in which `datasets` writes a table's features


class Merged:
    """The columns of a split's files, taken up one by one in their order."""

    def __init__(self, stated: Mapping[str, Any] | None, partitions: Mapping[str, pa.DataType]) -> None:
        """
        Args:
            stated: features that the dataset card states; they hold for what the files leave open.
            partitions: columns that the files' paths state.
        """
        self._stated, self._partitions = dict(stated or {}), partitions
        self._files: list[str] = []
        self._places: dict[str, list[int]] = {}  #: numbers of the files that have a column
        self._features: dict[str, list[tuple[Any, str]]] = {}  #: the different ones, each with a file that has it
        self._names: dict[str, dict[int, tuple[str, ...]]] = {}
        self._known: dict[bytes, dict[str, Any]] = {}  #: by serialised schema: most files have the same

    def add(self, schema: pa.Schema, file: str) -> None:
        """Take up the next file."""
        number = len(self._files)
        self._files.append(file)
        serialised = schema.serialize().to_pybytes()
        if serialised not in self._known:
            self._known[serialised] = _features(schema, self._stated)
        features = self._known[serialised]
        for name, feature in features.items():
            self._places.setdefault(name, []).append(number)
            seen = self._features.setdefault(name, [])
            if all(not _same(feature, other) for other, _ in seen):
                seen.append((feature, file))
            if isinstance(feature, datasets.ClassLabel):
                self._names.setdefault(name, {})[number] = tuple(feature.names)

    def columns(self, least: Callable[[str], int | None] = lambda name: None) -> Mapping[str, Column]:
        """All columns, in the order in which the files bring them up."""
        found = {name: self._column(name, least(name)) for name in self._features}
        for name, kind in self._partitions.items():
            if name not in found:
                found[name] = Column(datasets.Value(str(kind)))
        return found

    def _column(self, name: str, least: int | None) -> Column:
        features = self._features[name]
        valued = [(feature, file) for feature, file in features if kind_of_label(feature) != "null"]
        feature = valued[0][0] if valued else features[0][0]
        places = self._places[name]
        lacking = None
        if len(places) < len(self._files) and name not in self._partitions:
            lacking = next(file for number, file in enumerate(self._files) if number not in set(places))
        clash = None
        for other, file in valued[1:]:
            if not _compatible(feature, other):
                clash = f"{_told(feature)} in {valued[0][1]} but {_told(other)} in {file}"
                break
        return Column(feature, self._names.get(name, {}), least, lacking=lacking, clash=clash)


def _features(schema: pa.Schema, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The feature of each column, by its file's own metadata, the card, or its type; a type that has none as it is."""
    own = _own(schema)
    return {field.name: _feature(field, own.get(field.name), stated.get(field.name)) for field in schema}


def _own(schema: pa.Schema) -> Mapping[str, Any]:
    """What `datasets` wrote into the file about its columns."""
    try:
        found = json.loads((schema.metadata or {}).get(_HUB, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):  # it is another's, and tells us nothing
        return {}
    return found if isinstance(found, dict) else {}


def _feature(field: pa.Field, own: Any, stated: Any) -> Any:
    if stated is not None:
        return stated
    if own is not None:
        try:
            return generate_from_dict(own)
        except (ValueError, TypeError, KeyError, AttributeError):  # a feature of another version of `datasets`
            return field.type
    try:
        return Features.from_arrow_schema(pa.schema([field]))[field.name]
    except (ValueError, TypeError, KeyError, NotImplementedError, pa.ArrowException):
        return field.type


def _same(one: Any, other: Any) -> bool:
    return bool(type(one) is type(other) and one == other)


def _compatible(one: Any, other: Any) -> bool:
    """Whether values of two features may be read as of one: the same kind of label, or the same but for details."""
    kind = kind_of_label(one)
    return kind == kind_of_label(other) and (kind is not None or type(one) is type(other))


def _told(feature: Any) -> str:
    if isinstance(feature, datasets.ClassLabel):
        return f"a ClassLabel with {counted(len(feature.names), 'class', 'classes')}"
    return str(feature.dtype) if isinstance(feature, datasets.Value) else str(feature)
