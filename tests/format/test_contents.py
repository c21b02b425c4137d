"""A tar of ours is read back to the byte, and whatever is wrong with it is found where it begins."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.reading import read_tar
from tests.support.splits import Content, header, picture, tar, write_split
from wdsremux import codec
from wdsremux.errors import FormatError
from wdsremux.format import containers, contents, keys, manifest, samples
from wdsremux.format.containers import StoredSample, tar_layout

TAR = containers.container("tar")
PLACE = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 3))
CONTENT = st.fixed_dictionaries(
    {"jpg": st.binary(max_size=1_600)},
    optional={"cls": st.integers(0, 2**63 - 1).map(lambda label: b"%d" % label), "json": st.binary(max_size=40)},
)
SAMPLES = st.lists(st.tuples(PLACE, CONTENT), max_size=6, unique_by=lambda sample: sample[0])


def walk(data: bytes) -> list[StoredSample]:
    return list(TAR.walk(io.BytesIO(data), Path("a.tar"), len(data)))


def outcome(data: bytes) -> list[StoredSample] | str:
    """The samples, or what is wrong."""
    try:
        return walk(data)
    except FormatError as error:
        return str(error)


def sides(data: bytes) -> tuple[int, int]:
    head = codec.header(data)
    return head.width, head.height


@given(written=SAMPLES)
@example(written=[((0, 0, 0), {"jpg": b""})])
def test_samples_come_back(written: list[tuple[tuple[int, int, int], Content]]) -> None:
    data = tar((keys.key(*place), content) for place, content in written)
    found = walk(data)
    assert [(sample.place, sample.image, sample.label) for sample in found] == [
        (place, content["jpg"], int(content.get("cls", -1))) for place, content in written
    ]
    layout = tar_layout.Layout()
    for sample, (place, content) in zip(found, written, strict=True):
        assert sample.key == keys.key(*place)
        assert sample.members == layout.add(sample.key, {name: len(value) for name, value in content.items()})
        for member in sample.members:
            assert data[member.offset : member.offset + member.size] == content[member.extension]
        assert data[sample.offset : sample.offset + len(sample.image)] == sample.image


@pytest.mark.parametrize("kept", [False, True])
def test_index_and_table_are_rebuilt_to_the_byte(tmp_path: Path, kept: bool) -> None:
    folder = write_split(tmp_path, shards=(5, 1, 4), numbers=(0, 2, 3), kept=kept, parts=2)
    _rebuild(folder)


def test_index_and_table_of_photographs(converted: Path) -> None:
    _rebuild(converted / "train")


def _rebuild(folder: Path) -> None:
    about, tables = manifest.read(folder), []
    for number, shard in enumerate(about.shards):
        path = folder / shard.url
        assert contents.index_of(path, TAR) == path.with_suffix(".idx").read_bytes()
        tables.append(contents.table_of(path, TAR, number, sides))
    file = io.BytesIO()
    samples.write(file, tables, about.nsamples)
    assert file.getvalue() == (folder / samples.NAME).read_bytes()


SMALL = tar([("000001-000002", {"jpg": bytes(range(256)) * 3, "cls": b"7"}), ("000001-000003-1", {"jpg": b"x"})])


def test_every_flipped_bit_outside_of_content_is_found_in_its_block() -> None:
    """A header's checksum, and zeros between the members; content has CRC and SHA-256 elsewhere."""
    sound = walk(SMALL)
    inside = {at for s in sound for m in s.members for at in range(m.offset, m.offset + m.size)}
    for at in sorted(set(range(len(SMALL))) - inside):
        flipped = bytearray(SMALL)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(FormatError, match=r"^a\.tar is damaged at byte \d+: ") as error:
            walk(bytes(flipped))
        named = int(str(error.value).split("byte ")[1].split(":")[0])
        assert named // 512 == at // 512, f"byte {at}: {error.value}"


def test_every_flipped_bit_of_content_is_handed_on_or_found() -> None:
    sound = walk(SMALL)
    for at in (m.offset + i for s in sound for m in s.members for i in range(m.size)):
        flipped = bytearray(SMALL)
        flipped[at] ^= 1 << at % 8
        found = outcome(bytes(flipped))
        if isinstance(found, str):
            assert ".cls does not contain a label" in found
        else:
            assert [s.record for s in found] != [s.record for s in sound]


def test_every_cut_is_found() -> None:
    for size in range(len(SMALL)):
        with pytest.raises(
            FormatError,
            match=r"^a\.tar is damaged at byte \d+: (the two blocks|the file ends|.* extends past|the archive end)",
        ):
            walk(SMALL[:size])


def padded(*parts: bytes) -> bytes:
    """Parts, each filled up to whole blocks, and a tar's end."""
    body = b"".join(part + bytes(-len(part) % 512) for part in parts) + bytes(1024)
    return body + bytes(-len(body) % 10_240)


KEY = "000001-000002"
SOUND = (header(f"{KEY}.jpg", 3), b"abc")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "byte 0: the two blocks of zeros that end a tar file are missing"),
        (b"\x1f\x8b" + bytes(600), "byte 0: the header has a wrong checksum"),
        (padded(*SOUND)[:-512], "byte 1536: the archive ends here, but the file has 9728 bytes"),
        (padded(*SOUND) + b"more", "byte 1536: the archive ends here, but the file has 10244 bytes"),
        (padded(*SOUND)[:-1] + b"!", "byte 10239: nonzero bytes at the end of the archive"),
        (padded(header(f"{KEY}.jpg", 3), b"abcdef"), rf"byte 515: nonzero bytes after {KEY}\.jpg"),
        (padded(header(f"{KEY}.jpg", 8**11 - 1)), rf"byte 512: {KEY}\.jpg of 8589934591 bytes extends past the end"),
        (padded(header(f"{KEY}.jpg", 8**11)), "byte 0: not a regular file in USTAR format"),
        (padded(header(f"{KEY}.jpg", 0, type=b"2", linkname="/etc/passwd")), "byte 0: not a regular file"),
        (padded(header(f"{KEY}.png", 0)), rf"byte 0: a member that no conversion writes, '{KEY}\.png'"),
        (padded(header(f"{'a' * 90}/{KEY}.jpg", 0)), "byte 0: a member that no conversion writes"),
        (padded(header("../../etc/passwd.jpg", 0)), "byte 0: a member that no conversion writes"),
        (padded(header("passwd.jpg", 0)), "byte 0: 'passwd' is not a key of a converted sample"),
        (padded(header("000001-000002-0.jpg", 0)), "byte 0: '000001-000002-0' is not a key"),
        (padded(header("4294967296-000002.jpg", 0)), "byte 0: sample 4294967296-000002 has values that are too large"),
        (padded(header(f"{KEY}.cls", 1), b"1"), f"byte 0: sample {KEY} has no .jpg"),
        (padded(*SOUND, *SOUND), rf"byte 1024: {KEY}\.jpg occurs twice"),
        (
            padded(header(f"{KEY}.cls", 2), b"-1", *SOUND),
            rf"byte 512: {KEY}\.cls does not contain a label \(got b'-1'\)",
        ),
        (padded(header(f"{KEY}.cls", 0), *SOUND), rf"byte 512: {KEY}\.cls does not contain a label \(got b''\)"),
        (padded(header(f"{KEY}.cls", 19), b"9" * 19, *SOUND), rf"byte 512: {KEY}\.cls does not contain a label"),
    ],
)
def test_what_no_conversion_writes(data: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=f"^a.tar is damaged at {sentence}"):
        walk(data)


@given(noise=st.binary(max_size=2_000), at=st.integers(0, len(SMALL)))
def test_noise_is_never_more_than_a_sentence(noise: bytes, at: int) -> None:
    for data in (noise, SMALL[:at] + noise, SMALL[:at] + noise + SMALL[at + len(noise) :]):
        found = outcome(data)
        assert not isinstance(found, str) or found.startswith("a.tar is damaged at byte ")


def test_a_hostile_size_takes_no_memory(tmp_path: Path) -> None:
    """A header that asks for 8 GB, and a tar of 200 MB of which only one sample may be in memory at a time."""
    path = tmp_path / "train-000000.tar"
    path.write_bytes(padded(header(f"{KEY}.jpg", 8**11 - 1)))
    content = {"jpg": bytes(2**20)}
    large = tmp_path / "large.tar"
    large.write_bytes(tar((keys.key(0, row), content) for row in range(200)))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="extends past the end of the file"):
            contents.index_of(path, TAR)
        assert len(contents.table_of(large, TAR, 0, lambda _: (1, 1))) == 200
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_table_of_what_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    path.write_bytes(tar([(KEY, {"jpg": picture(0)[:-2]}), ("000001-000003", {"jpg": b"text"})]))
    with pytest.raises(FormatError, match=r"^train-000000\.tar is damaged at byte \d+: 000001-000003\.jpg is not a"):
        contents.table_of(path, TAR, 0, sides)


@pytest.mark.parametrize(
    "read", [lambda path: contents.index_of(path, TAR), lambda path: contents.table_of(path, TAR, 0, sides)]
)
def test_what_cannot_be_read(tmp_path: Path, read: object) -> None:
    assert callable(read)
    for path in (tmp_path, tmp_path / "none.tar"):
        with pytest.raises(FormatError, match=r"is not a regular file|cannot be read: No such file"):
            read(path)


def test_table_is_of_the_contract(tmp_path: Path) -> None:
    folder = write_split(tmp_path, shards=(4,))
    table = contents.table_of(folder / "train-000000.tar", TAR, 3, sides)
    assert table.dtype == samples.SAMPLE
    assert np.array_equal(table["shard"], [3] * 4)
    assert list(table["label"]) == [int(c.get("cls", -1)) for c in read_tar(folder / "train-000000.tar").values()]
