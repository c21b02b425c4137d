"""What a look at one tar tells: at all its headers or, of a stream, at its first samples."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from wdsremux.conversion.source.kinds.tars import tar_fields
from wdsremux.conversion.source.kinds.tars.tar_files import DAMAGE, TarFiles, finish
from wdsremux.conversion.source.kinds.tars.tar_members import (
    PassedOver,
    PassOver,
    TarIndex,
    TarMember,
    content_of,
    folder_of,
    is_link,
    key_and_field,
    members,
)
from wdsremux.conversion.source.kinds.tars.tar_samples import check_splits
from wdsremux.errors import SourceError

_SAMPLES_SEEN = 100  #: of a stream
_BYTES_SEEN = 1 << 26  #: of a stream: fewer samples are enough where each is large
_VALUE_BYTES = 1 << 24  #: longest content that is looked at


@dataclass(slots=True)
class TarLook:
    """What the headers of a tar, or the first samples of a stream, tell."""

    rows: int = 0
    indexed: bool = False  #: whether it has to be read by offsets
    first_dot: bool = False  #: whether keys end at the first dot whatever follows
    fields: dict[str, None] = field(default_factory=dict)  #: in the order in which they occur
    together: set[frozenset[str]] = field(default_factory=set)  #: the fields of each sample
    folders: set[str] = field(default_factory=set)  #: in which there are images
    first: dict[str, bytes] = field(
        default_factory=dict
    )  #: a value of each field whose extension does not tell its type
    texts: dict[str, list[bytes]] = field(default_factory=dict)  #: the first ones of each field of texts
    untaken: PassedOver = field(default_factory=PassedOver)
    _sample: set[str] = field(default_factory=set)
    _folder: str = ""

    def begin(self, key: str) -> None:
        """A sample begins."""
        self.end()
        self.rows += 1
        self._folder = folder_of(key)

    def add(self, field_: str) -> None:
        """Another field of this sample."""
        if field_ not in self.fields:
            self.fields[field_] = None
        self._sample.add(field_)
        if self._folder not in self.folders and tar_fields.is_image(field_):
            self.folders.add(self._folder)

    def end(self) -> None:
        """The last sample has ended."""
        if self._sample:
            self.together.add(frozenset(self._sample))
            self._sample.clear()

    def wants(self, field_: str, size_bytes: int) -> bool:
        """Whether a value is to be looked at for the type of its field."""
        fits = size_bytes <= _VALUE_BYTES and field_ not in self.first
        return fits and tar_fields.kind(field_) == tar_fields.DECODED


def look_at_headers(files: TarFiles, number: int, revision: hashlib._Hash) -> TarLook:
    """What all headers of a tar tell; they go into the revision.

    Raises:
        SourceError: if it is damaged, or ends too early.
    """
    look, name, key = TarLook(), files.names[number], None
    keys: set[str] = set()
    numbered: set[str] = set()
    pass_over = look.untaken.of(name)
    try:
        with files.open(number) as tar:
            for member in members(tar, pass_over):
                info = member.info
                revision.update(repr((info.name, info.size, info.mtime)).encode())
                look.indexed |= is_link(info)
                if member.key != key:
                    key = member.key
                    look.indexed |= key in keys
                    keys.add(key)
                    if (stem := member.numbered) is not None:
                        numbered.add(stem)
                    look.begin(key)
                look.add(member.field)
                if info.isreg() and look.wants(member.field, info.size):
                    look.first[member.field] = content_of(tar, info)
            finish(tar, seekable=True)
        look.end()
        if look.indexed or not numbered.isdisjoint(keys):
            look = _regrouped(files, number, look.untaken)
    except (*DAMAGE, OSError) as error:
        raise SourceError(f"{files.files[number]} cannot be read as a tar: {error}") from error
    check_splits(look.folders, name)
    return look


def _regrouped(files: TarFiles, number: int, untaken: PassedOver) -> TarLook:
    """What the headers of a tar tell whose samples are not runs of members."""
    look = TarLook(indexed=True, untaken=untaken)
    with files.open(number) as tar:
        index = TarIndex(tar)
        for key, places in index.samples.items():
            look.begin(key)
            for place in places:
                look.add(place.field)
                if place.offset is not None and look.wants(place.field, place.size_bytes):
                    look.first[place.field] = index.content(place.offset)
    look.end()
    return look


def look_at_first_samples(files: TarFiles, number: int) -> TarLook:
    """What the first samples of a stream tell.

    Raises:
        SourceError: if it is damaged.
    """
    untaken = PassedOver()
    try:
        with files.open(number) as tar:
            found = list(_first_members(tar, untaken.of(files.names[number])))
    except DAMAGE as error:
        raise SourceError(f"{files.names[number]} cannot be read as a tar: {error}. Download it again") from error
    stems = {member.numbered for member, _ in found} - {None}
    bare = {member.key for member, _ in found if member.numbered is None}
    look = TarLook(first_dot=2 * len(stems & bare) >= len(stems) > 0, untaken=untaken)
    last: str | None = None
    for member, content in found:
        key, field_ = key_and_field(member.info.name, look.first_dot) or (member.key, member.field)
        if key != last:
            look.begin(key)
            last = key
        look.add(field_)
        if content is not None:
            look.first.setdefault(field_, content)
            look.texts.setdefault(field_, []).append(content)
    look.end()
    check_splits(look.folders, files.names[number])
    return look


def _first_members(tar: tarfile.TarFile, pass_over: PassOver) -> Iterator[tuple[TarMember, bytes | None]]:
    """The members of the first samples, with the content of those of which it tells something."""
    keys: set[str] = set()
    for member in members(tar, pass_over):
        if member.key not in keys and (len(keys) == _SAMPLES_SEEN or (keys and tar.offset > _BYTES_SEEN)):
            return
        keys.add(member.key)
        told = tar_fields.kind(member.field) in (tar_fields.TEXT, tar_fields.DECODED)
        fits = member.info.isreg() and member.info.size <= _VALUE_BYTES
        yield member, content_of(tar, member.info) if told and fits else None
