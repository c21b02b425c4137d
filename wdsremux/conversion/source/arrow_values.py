"""Columns of a table as plain Arrow arrays: one chunk, no dictionary, no view."""

from __future__ import annotations

import pyarrow as pa


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array, its dictionary unpacked; Arrow's own `combine_chunks` copies even a single chunk."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def content(images: pa.Array) -> pa.Array:
    """Images as binary or large_binary."""
    images = plain(images)
    if pa.types.is_null(images.type):
        return images.cast(pa.binary())
    return images.cast(pa.large_binary()) if pa.types.is_binary_view(images.type) else images


def utf8(texts: pa.Array) -> pa.Array:
    """Texts of which no byte is lost but those that are not UTF-8; parquet does not look whether they are."""
    texts = texts.cast(pa.string()) if not pa.types.is_string(texts.type) else texts
    try:
        texts.validate(full=True)
        return texts
    except pa.ArrowInvalid:
        as_bytes = texts.cast(pa.binary()).to_pylist()
        return pa.array([text and text.decode(errors="replace") for text in as_bytes], pa.string())
