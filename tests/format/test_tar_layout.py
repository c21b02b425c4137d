"""The arithmetic of tar is that of Python's tarfile and of webdataset's writer."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import webdataset
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.format import containers, keys
from wdsremux.format.containers import tar_layout

SAMPLES = st.lists(
    st.dictionaries(st.sampled_from(["jpg", "cls", "json"]), st.binary(max_size=1_600), min_size=1), max_size=6
)


def write_tar(contents: list[dict[str, bytes]]) -> bytes:
    """As a conversion writes it: webdataset's own writer."""
    file = io.BytesIO()
    with webdataset.TarWriter(file, encoder=False, mtime=0, user="", group="") as writer:
        for row, content in enumerate(contents):
            writer.write({"__key__": keys.key(0, row), **content})
    return file.getvalue()


def lay_out(contents: list[dict[str, bytes]]) -> list[list[containers.Member]]:
    layout = tar_layout.Layout()
    return [
        layout.add(keys.key(0, row), {extension: len(data) for extension, data in content.items()})
        for row, content in enumerate(contents)
    ]


@given(contents=SAMPLES)
def test_layout_is_that_of_the_tar(contents: list[dict[str, bytes]]) -> None:
    written = write_tar(contents)
    members = [member for sample in lay_out(contents) for member in sample]
    with tarfile.open(fileobj=io.BytesIO(written)) as tar:
        found = [(m.name, m.offset_data, m.size) for m in tar]
    assert [(m.name, m.offset, m.size) for m in members] == found
    for member in members:
        content = contents[keys.place(member.name.split(".")[0])[1]][member.extension]
        assert written[member.offset : member.offset + member.size] == content


def test_members_cost_one_header_block() -> None:
    """No PAX headers, no owner, no time."""
    with tarfile.open(fileobj=io.BytesIO(write_tar([{"jpg": b"1", "cls": b"2"}]))) as tar:
        members = tar.getmembers()
    assert [m.offset for m in members] == [0, 1_024]
    described: list[Any] = [(m.mtime, m.uid, m.gid, m.uname, m.gname, m.pax_headers, m.isreg()) for m in members]
    assert described == [(0, 0, 0, "", "", {}, True)] * 2


def test_index_text() -> None:
    """Version, count, and four fields a member."""
    text = tar_layout.index_text(lay_out([{"jpg": b"x" * 600, "cls": b"12"}, {"jpg": b""}]))
    assert text == (
        b"v1.2 2\ncls 512 2 000000-000000.cls jpg 1536 600 000000-000000.jpg\njpg 3072 0 000000-000001.jpg\n"
    )
    assert tar_layout.index_text([]) == b"v1.2 0\n"


def test_names() -> None:
    assert containers.shard_name("tar", "train", 12) == "train-000012.tar"
    assert containers.shard_number("a.tar-1-000012.tar") == 12
    assert containers.index_name("a.tar-000001.tar") == "a.tar-000001.idx"
