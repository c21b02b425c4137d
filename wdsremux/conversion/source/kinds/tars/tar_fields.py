"""What the fields of a tar's samples hold, as their extensions say, and their values as Arrow has them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from datasets.features.features import cast_to_python_objects
from datasets.filesystems import EXTENSION_TO_COMPRESSION_FS_FILE_CLS as DECOMPRESSORS
from datasets.packaged_modules.webdataset.webdataset import DECODERS, WebDataset
from datasets.table import cast_array_to_feature

LABELS = frozenset({"label", "labels", "cls", "class", "target"})  #: last pieces of a field that is a label
IMAGE, AUDIO, VIDEO, JSON, TEXT, DECODED, BINARY = "image", "audio", "video", "json", "text", "decoded", "binary"
_INTEGERS = frozenset(name for name, decoder in DECODERS.items() if decoder is int)  #: cls, id, …
_TEXTS = LABELS | _INTEGERS | {"txt", "text", "transcript", "caption", "captions"}
# Not among those that are decoded: pth, which is a pickle whatever its loader refuses; ten and tb, in whose loader
# a crafted negative length makes an endless loop.
_DECODABLE = frozenset({"npy", "mp", "msg", "cbor"})
_MEDIA = (
    (VIDEO, frozenset(WebDataset.VIDEO_EXTENSIONS)),  # first: as in `datasets`, mpeg is a video
    (AUDIO, frozenset(WebDataset.AUDIO_EXTENSIONS)),
    (IMAGE, frozenset(WebDataset.IMAGE_EXTENSIONS)),
    (JSON, frozenset({"json", "jsn"})),
    (TEXT, _TEXTS),
    (DECODED, _DECODABLE),
)
_LONGEST_BYTES = 1 << 26  #: of a field that is unpacked or decoded
_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

Problems = Mapping[int, str]  #: what is wrong with a value, by its place


@dataclass(frozen=True, slots=True)
class Value:
    """A field of a sample."""

    field: str
    path: str  #: KEY.FIELD
    content: bytes


@functools.lru_cache(maxsize=1 << 16)
def kind(field: str) -> str:
    """Of what kind a field is, as its extension says: IMAGE, TEXT, …"""
    pieces = field.lower().split(".")
    packed = f".{pieces[-1]}" in DECOMPRESSORS
    extension = pieces[-2] if packed and len(pieces) > 1 else pieces[-1]
    found = next((name for name, extensions in _MEDIA if extension in extensions), BINARY)
    return BINARY if packed and found in (IMAGE, AUDIO, VIDEO) else found


def is_image(field: str) -> bool:
    return kind(field) == IMAGE


def is_label(field: str) -> bool:
    return field.rpartition(".")[2].lower() in LABELS


def is_integer(field: str) -> bool:
    """Whether a text is an integer by convention."""
    return field.rpartition(".")[2].lower() in _INTEGERS


def feature(field: str, first: bytes | None = None) -> Any:
    """What a field holds, as `datasets` calls it.

    Args:
        field: its name.
        first: a value, for the fields whose extension does not tell.
    """
    plain = {
        IMAGE: datasets.Image,
        AUDIO: datasets.Audio,
        VIDEO: datasets.Video,
        JSON: datasets.Json,
        TEXT: functools.partial(datasets.Value, "string"),
        BINARY: functools.partial(datasets.Value, "binary"),
    }
    if (found := kind(field)) in plain:
        return plain[found]()
    try:
        type_ = _decoded(field, _unpacked(field, first or b"")).type
        return datasets.Features.from_arrow_schema(pa.schema([("value", type_)]))["value"]
    except Exception:  # decoders raise what content provokes, and ImportError; as bytes, nothing of it is lost
        return datasets.Value("binary")


def columns_of(fields: Sequence[str], together: frozenset[frozenset[str]]) -> Mapping[str, str]:
    """The column of each field, named after the first.

    Images that differ only in the last piece (jpg, png) form one column, and so do fields that differ only in capitals.

    Args:
        fields: in the order in which they occur.
        together: the fields of each sample. What a sample has at once is of different columns.
    """
    pairs = {(a, b) for fields_ in together for a in fields_ for b in fields_ if _likeness(a) == _likeness(b)}
    found: dict[str, str] = {}
    groups: dict[tuple[bool, str], list[list[str]]] = {}
    for field in fields:
        group = groups.setdefault(_likeness(field), [])
        free = [column for column in group if not any((field, other) in pairs for other in column)]
        if len(free) != 1:  # with two that it could belong to, it belongs to none
            group.append([])
            free = [group[-1]]
        free[0].append(field)
        found[field] = free[0][0]
    return found


def _likeness(field: str) -> tuple[bool, str]:
    """Equal for fields that may be of one column."""
    return (True, field.rpartition(".")[0].lower()) if is_image(field) else (False, field.lower())


def array(feature: Any, values: Sequence[Value | None]) -> tuple[pa.Array, Problems]:
    """Values of a column as Arrow has them, and what is wrong with some, by place; those are null.

    Args:
        feature: of the column, as `datasets` calls it.
        values: in the order of the rows.
    """
    if isinstance(feature, datasets.Image | datasets.Audio | datasets.Video):
        nulls = pa.array([value is None for value in values], pa.bool_())
        contents = pa.array([value and value.content for value in values], pa.binary())
        paths = pa.array([value and utf8(value.path) for value in values], pa.string())
        return pa.StructArray.from_arrays([contents, paths], fields=list(_STRUCT), mask=nulls), {}
    problems: dict[int, str] = {}
    found: list[Any] = []
    for place, value in enumerate(values):
        try:
            found.append(None if value is None else _loaded(feature, value))
        except _Unfit as error:
            problems[place] = f"{utf8(value.path) if value else ''} {error}"
            found.append(None)
    if isinstance(feature, datasets.Json):
        return pa.array(found, pa.string()), problems
    if isinstance(feature, datasets.Value) and feature.dtype in ("string", "binary"):
        return pa.array(found, feature.pa_type), problems
    type_ = datasets.Features({"value": feature}).arrow_schema.field("value").type
    return pa.concat_arrays([pa.nulls(1, type_) if each is None else each for each in found]), problems


def texts(field: str, contents: Iterable[bytes]) -> Iterator[str]:
    """Those of some contents that are texts, if the field holds texts."""
    for content in contents if kind(field) == TEXT else ():
        with contextlib.suppress(_Unfit):
            yield _text(_unpacked(field, content))


def utf8(text: str) -> str:
    """A name out of a tar, with U+FFFD for the bytes in it that are not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


class _Unfit(ValueError):
    """A value that is not what its column holds."""


def _loaded(feature: Any, value: Value) -> Any:
    """A value: str, bytes, or an array of length 1.

    Raises:
        _Unfit: if it cannot be made one.
    """
    content = _unpacked(value.field, value.content)
    if isinstance(feature, datasets.Json):
        return _json(content)
    if isinstance(feature, datasets.Value) and feature.dtype == "binary":
        return value.content
    if isinstance(feature, datasets.Value) and feature.dtype == "string" and kind(value.field) == TEXT:
        return _text(content)
    try:
        return cast_array_to_feature(_decoded(value.field, content), feature)
    except Exception as error:  # the decoders of `datasets` raise what content provokes, and ImportError
        raise _Unfit(f"cannot be decoded as {feature}") from error


def _text(content: bytes) -> str:
    """Exact, but for one line break at the end, which editors and `echo` leave."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _Unfit("holds text that is not UTF-8") from error
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _json(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
        json.loads(text)
    except UnicodeDecodeError as error:
        raise _Unfit("holds text that is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _Unfit("holds no JSON") from error
    return text


def _unpacked(field: str, content: bytes) -> bytes:
    """The content of a compressed member that is decoded; any other as it is."""
    decompress = DECOMPRESSORS.get(f".{field.rpartition('.')[2].lower()}")
    if decompress is None or kind(field) == BINARY:
        return content
    try:
        with decompress(io.BytesIO(content), mode="rb") as file:
            unpacked: bytes = file.read(_LONGEST_BYTES + 1)
    except Exception as error:  # of five libraries, each with errors of its own
        raise _Unfit("cannot be unpacked") from error
    if len(unpacked) > _LONGEST_BYTES:
        raise _Unfit(f"takes more than {_LONGEST_BYTES} bytes, unpacked")
    return unpacked


def _decoded(field: str, content: bytes) -> pa.Array:
    """A value as `datasets` decodes it, as an array of length 1."""
    pieces = field.lower().split(".")
    extension = next(piece for piece in reversed(pieces) if f".{piece}" not in DECOMPRESSORS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of headers written by Python 2
        return pa.array(cast_to_python_objects([DECODERS[extension](content)], only_1d_for_numpy=True))
