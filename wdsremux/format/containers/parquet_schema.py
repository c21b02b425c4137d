"""The columns of a Parquet shard, and how each of them is written.

    image   struct<bytes: binary, path: string>     the JPEG file, and KEY.jpg: what `datasets` takes for an Image
    label   int64                                   null where there is none; not there in a set without labels
    …       as in the source                        each kept column, under its own name

The schema's metadata names the features for `datasets`, as `Features.arrow_schema` does, so that labels have their
class names. Images are stored as they are: `parquet_layout` finds each of them by its place in the file.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wdsremux.format.containers.base import SampleColumns

IMAGE, LABEL = "image", "label"
IMAGE_BYTES = "image.bytes"  #: the column of the images' content, as Parquet calls it
FEATURES = b"huggingface"  #: the key of the schema's metadata under which `datasets` looks for features
_PAGE_BYTES = 2**30  #: a page is never cut for its size: a row group has one page a column
STORED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  #: the type of the column of images


def make_schema(columns: SampleColumns) -> pa.Schema:
    """The schema of all shards of a split."""
    fields = [pa.field(IMAGE, STORED)]
    features: dict[str, Any] = {IMAGE: {"_type": "Image"}}
    if columns.labelled:
        fields.append(pa.field(LABEL, pa.int64()))
        named = {"names": list(columns.classes), "_type": "ClassLabel"} if columns.classes else None
        features[LABEL] = named or {"dtype": "int64", "_type": "Value"}
    if columns.kept is not None:
        fields += list(columns.kept)
        features |= _features(columns.kept)
    about = {FEATURES: json.dumps({"info": {"features": features}})}
    return pa.schema(fields, about)


def _features(kept: pa.Schema) -> dict[str, Any]:
    about = (kept.metadata or {}).get(FEATURES)
    found: dict[str, Any] = json.loads(about)["info"]["features"] if about else {}
    return found


def open_writer(file: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of row groups. It collects no metadata: where its end cannot be written, that would be another error."""
    others = [path for path in _leaves(schema) if path != IMAGE_BYTES]
    return pq.ParquetWriter(
        file,
        schema,
        compression=dict.fromkeys(others, "zstd"),  # and none for the images
        use_dictionary=others,
        write_statistics=others,
        data_page_size=_PAGE_BYTES,
        use_content_defined_chunking=False,
    )


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns that hold values, by their paths: those of lists and structs have names that Parquet gives."""
    empty, about = io.BytesIO(), list[pq.FileMetaData]()
    pq.ParquetWriter(empty, schema, metadata_collector=about).close()
    return [about[0].schema.column(i).path for i in range(about[0].num_columns)]
