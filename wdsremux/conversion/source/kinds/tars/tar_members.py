"""The members of a tar, and the samples that they make up.

A sample is all members with one key. The key is the name up to the first dot, as `datasets` has it, and pieces behind
it that are only digits: 0.05.png and 0.05.cls are the sample 0.05 (datasets#7150, webdataset#237). But where the bare
name is a key itself, they are numbered views: 1.0.jpg, 1.1.jpg and 1.cls are the sample 1.
"""

from __future__ import annotations

import posixpath
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from wdsremux.conversion.source.kinds.tars.tar_fields import is_image
from wdsremux.conversion.source.kinds.tars.tar_files import TarHeader
from wdsremux.errors import printable

HIDDEN = "hidden"
STRAY = "in no sample"
_NAMES_KEPT = 100_000  #: of members that are not taken: 10 MB
_NO_FILES = (tarfile.DIRTYPE, b"V", b"D")  #: folders; a GNU tar's volume label, and its list of a folder
_LINKS_FOLLOWED = 8  #: from a link to a link

PassOver = Callable[[str, tarfile.TarInfo], None]  #: told the reason and the header of each member that is in no sample


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar that is a field of a sample."""

    info: tarfile.TarInfo
    key: str
    field: str

    @property
    def numbered(self) -> str | None:
        """The key that it would have if digits were no part of keys; None where that is no other."""
        start = self.key.rfind("/") + 1
        end = self.key.find(".", start)
        return None if end < 0 else self.key[:end]


@dataclass(slots=True)
class PassedOver:
    """Names of members that are in no sample, by the reason."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def of(self, tar: str) -> PassOver:
        def pass_over(reason: str, info: tarfile.TarInfo) -> None:
            kept = self.names.setdefault(reason, [])
            if len(kept) < _NAMES_KEPT:
                kept.append(f"{tar}/{info.name}")

        return pass_over


def key_and_field(name: str, first_dot: bool = False) -> tuple[str, str] | None:
    """The sample of a member, and what it is in it; None of a name without an extension.

    Args:
        name: of the member.
        first_dot: whether the key ends at the first dot whatever follows.
    """
    start = name.rfind("/") + 1
    end = name.find(".", start + 1)
    if end < 0 or name[start] == ".":
        return None
    while not first_dot and (following := name.find(".", end + 1)) > 0:
        piece = name[end + 1 : following]
        if not (piece.isascii() and piece.isdigit()):
            break
        end = following
    return name[:end], name[end + 1 :]


def folder_of(key: str) -> str:
    """Where a sample lies in its tar."""
    folder = key.rpartition("/")[0]
    return posixpath.normpath(folder).strip("/").removeprefix(".") if folder else ""


def members(tar: tarfile.TarFile, pass_over: PassOver | None = None, first_dot: bool = False) -> Iterator[TarMember]:
    """The fields of samples, in their order: regular files, links, and devices that are called images."""
    for info in _headers(tar):
        name = info.name
        hidden = name.startswith((".", "__"), name.rfind("/") + 1)
        found = None if hidden else key_and_field(name, first_dot)
        if found is not None and (info.isreg() or is_link(info) or is_image(found[1])):
            yield TarMember(info, found[0], sys.intern(found[1]))
        elif pass_over is not None:
            pass_over(HIDDEN if hidden else STRAY, info)


def _headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Of all members but folders."""
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would keep all headers: 1 GB for a million files
        if info.type not in _NO_FILES:
            yield info


def is_link(info: tarfile.TarInfo) -> bool:
    return info.islnk() or info.issym()


def content_of(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """Of a regular file."""
    return tar.fileobject(tar, info).read()


def no_content(info: tarfile.TarInfo, why: str) -> str:
    """What to say of a member that is no regular file."""
    name = printable(info.name)
    if is_link(info):
        return f"{name} is a link to {printable(info.linkname)}, {why}"
    return f"{name} is a device, a pipe or the like, no file"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field of a sample is found in a tar that is read by offsets."""

    field: str
    offset: int | None  #: of its header, in bytes; of a link: of what it leads to; None: there is no content
    size_bytes: int = 0  #: of a regular file
    problem: str = ""  #: why there is no content


class TarIndex:
    """Where the members of each sample are. For tars whose samples lie apart, and those with links or numbered views.

    It is made where the tar is read, and holds one tar: 300 bytes a member.
    """

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._offsets: dict[str, int] = {}  #: of regular files, by name
        self._links: dict[str, str] = {}  #: what links lead to, by name
        bare: set[str] = set()  #: keys without digits behind their first dot
        found: list[tuple[str, str | None, Place, str | None]] = []
        for member in members(tar, lambda _, info: self._know(info)):
            self._know(member.info)
            if (numbered := member.numbered) is None:
                bare.add(member.key)
            found.append((member.key, numbered, _place(member), _link(member.info)))
        self.samples: dict[str, list[Place]] = {}  #: by key, in the order in which the keys occur
        for key, numbered, place, link in found:
            if link is not None:
                place = replace(place, offset=self._followed(link))
            if numbered in bare:
                place = replace(place, field=sys.intern(f"{key[len(numbered) + 1 :]}.{place.field}"))
                key = numbered
            self.samples.setdefault(key, []).append(place)

    def content(self, offset: int) -> bytes:
        """Of the regular file whose header is at an offset."""
        self._tar.fileobj.seek(offset)
        return content_of(self._tar, TarHeader.fromtarfile(self._tar))

    def _know(self, info: tarfile.TarInfo) -> None:
        if info.isreg():
            self._offsets[_normal(info.name)] = info.offset
        elif is_link(info):
            # A hard link's target is a name in the tar, a symbolic one's starts from its folder.
            folder = posixpath.dirname(info.name) if info.issym() else ""
            self._links[_normal(info.name)] = _normal(posixpath.join(folder, info.linkname))

    def _followed(self, link: str) -> int | None:
        """The offset of the file that a link leads to; None if it leads out of the tar, or around in it."""
        for _ in range(_LINKS_FOLLOWED):
            link = self._links.get(link, link)
            if link in self._offsets:
                return self._offsets[link]
        return None


def _place(member: TarMember) -> Place:
    info = member.info
    if info.isreg():
        return Place(member.field, info.offset, info.size)
    return Place(member.field, None, problem=no_content(info, "which is no file of this tar"))


def _link(info: tarfile.TarInfo) -> str | None:
    """The name of a link; None if it is none."""
    return _normal(info.name) if is_link(info) else None


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")
