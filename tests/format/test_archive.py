"""Keys name places and back; the arithmetic of tar is that of Python's tarfile and of webdataset's writer."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st

from wdsremux.errors import FormatError
from wdsremux.format import archive

NUMBER = st.integers(0, 2**32 - 1)
SAMPLES = st.lists(
    st.dictionaries(st.sampled_from(["jpg", "cls", "json"]), st.binary(max_size=1_600), min_size=1), max_size=6
)


@given(fragment=NUMBER, row=NUMBER, part=NUMBER)
def test_place_is_the_inverse_of_key(fragment: int, row: int, part: int) -> None:
    key = archive.key(fragment, row, part)
    assert archive.place(key) == (fragment, row, part)
    assert not set(key) & set(". /")  # break DALI's index
    assert len(f"{key}.json") <= 100  # the room for a name in a USTAR header


def test_key() -> None:
    assert archive.key(12, 3) == "000012-000003"
    assert archive.key(1_234_567, 3, 2) == "1234567-000003-2"


@given(text=st.from_regex(r"0{0,6}\d{1,9}-0{0,6}\d{1,9}(-\d{1,3})?\n?", fullmatch=True))
@example("000001-000001-0")
@example("0000001-000001")
@example("00000٣-000001")
def test_a_key_has_one_place(text: str) -> None:
    """What is taken for a key is the text that the key of its place has: no two texts for one sample."""
    try:
        place = archive.place(text)
    except FormatError:
        return
    assert archive.key(*place) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "000001",
        "00001-000001",
        "000001-000001-",
        "000001-000001.jpg",
        "../000001-000001",
        "000001-000001\n",
        "-1-000001",
    ],
)
def test_hostile_strings_are_no_keys(text: str) -> None:
    with pytest.raises(FormatError, match="is not a key of a converted sample"):
        archive.place(text)


def write_tar(contents: list[dict[str, bytes]]) -> bytes:
    """As a conversion writes it: webdataset's own writer."""
    file = io.BytesIO()
    with webdataset.TarWriter(file, encoder=False, mtime=0, user="", group="") as writer:
        for row, content in enumerate(contents):
            writer.write({"__key__": archive.key(0, row), **content})
    return file.getvalue()


def lay_out(contents: list[dict[str, bytes]]) -> list[list[archive.Member]]:
    layout = archive.Layout()
    return [
        layout.add(archive.key(0, row), {extension: len(data) for extension, data in content.items()})
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
        content = contents[archive.place(member.name.split(".")[0])[1]][member.extension]
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
    text = archive.index_text(lay_out([{"jpg": b"x" * 600, "cls": b"12"}, {"jpg": b""}]))
    assert text == (
        b"v1.2 2\ncls 512 2 000000-000000.cls jpg 1536 600 000000-000000.jpg\njpg 3072 0 000000-000001.jpg\n"
    )
    assert archive.index_text([]) == b"v1.2 0\n"


def test_names() -> None:
    assert archive.shard_name("train", 12) == "train-000012.tar"
    assert archive.shard_number("a.tar-1-000012.tar") == 12
    assert archive.index_name("a.tar-000001.tar") == "a.tar-000001.idx"
