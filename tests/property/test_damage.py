"""A converted set under all kinds of damage, one and several at once, in either container: verify names each file, a
loader gives no wrong sample, and the files that verify named come back to the byte once they are deleted.

Each picture is of one colour, which says its label: a sample whose label is wrong would be seen.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from tests.conftest import jpeg
from tests.support.reading import digests
from tests.support.soak import soaking, tries
from tests.support.splits import reseal
from wdsremux.errors import FormatError, OutputError, WdsremuxError
from wdsremux.format import manifest, samples

COUNT, REJECTED = 48, (7, 30)
STRAYS = ("train-000077", "train-000099")  #: shards that no manifest names
CLASSES = [f"class {label}" for label in range(COUNT)]
SLOW_S = 20.0  #: no damage may keep a loader longer; an epoch takes a tenth of a second
Tally = Callable[[str, str], None]
Sample = tuple[int, str]  #: label, key


def colour(label: int) -> bytes:
    return jpeg(np.full((16, 16, 3), [5 * label, 255 - 5 * label, 60], np.uint8), quality=95)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures in row groups of 8, two of them empty."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("damage-source")
    (folder / "data").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    images = [b"" if i in REJECTED else colour(i) for i in range(COUNT)]
    rows = {"image": [{"bytes": image, "path": None} for image in images], "label": list(range(COUNT))}
    table = pa.table(rows, schema=features.arrow_schema).append_column("number", pa.array(range(COUNT)))
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=8)
    return folder


def convert(source: Path, out: Path, container: str) -> None:
    sizes: dict[str, Any] = {"samples_per_shard": 8, "samples_per_task": 24}
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "max_rejects": 2, "keep": "number", "container": container}
    wdsremux.convert(source, out, **given, **sizes)


@pytest.fixture(scope="module", params=["tar", "parquet"])
def container(request: pytest.FixtureRequest) -> str:
    """Of the shards."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def sound(source: Path, container: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That source converted: two tasks, six shards."""
    out = tmp_path_factory.mktemp("damage") / "out"
    convert(source, out, container)
    return out


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(sound, tmp_path / "out")
    return tmp_path / "out"


# Damages: each does something to the split in a folder, and returns the files that are not what they were


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def shards(folder: Path) -> list[Path]:
    return [path for path in files(folder) if path.suffix in (".tar", ".parquet")]


def flip(folder: Path, rng: random.Random) -> set[str]:
    path = rng.choice(files(folder))
    content = bytearray(path.read_bytes())
    if not content:
        return set()
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return {path.name}


def cut(folder: Path, rng: random.Random) -> set[str]:
    path = rng.choice(files(folder))
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))] if content else b"x")
    return {path.name}


def lengthen(folder: Path, rng: random.Random) -> set[str]:
    path = rng.choice(files(folder))
    path.write_bytes(path.read_bytes() + rng.choice([b"\0", b"\n", b"{}\n", bytes(512), path.read_bytes()]) + b"\0")
    return {path.name}


def overwrite(folder: Path, rng: random.Random) -> set[str]:
    """A run of bytes, such as a disk that lost a sector."""
    path = rng.choice(files(folder))
    content = path.read_bytes()
    start = rng.randrange(len(content) + 1)
    lost = content[:start] + b"\xee" * min(512, len(content) - start) + content[start + 512 :]
    path.write_bytes(lost)
    return {path.name} if lost != content else set()


def remove(folder: Path, rng: random.Random) -> set[str]:
    path = rng.choice(files(folder))
    path.unlink()
    return {path.name}


def swap(folder: Path, rng: random.Random) -> set[str]:
    indexes = [path for path in files(folder) if path.suffix == ".idx"]
    a, b = rng.sample(rng.choice([shards(folder), indexes or shards(folder)]), 2)
    content = a.read_bytes()
    if content == b.read_bytes():
        return set()
    b.replace(a)
    b.write_bytes(content)
    return {a.name, b.name}


def rename(folder: Path, rng: random.Random) -> set[str]:
    path = rng.choice(shards(folder))
    other = path.with_stem(STRAYS[1])
    path.rename(other)
    return {path.name, other.name}


def add(folder: Path, rng: random.Random) -> set[str]:
    path = shards(folder)[0].with_stem(STRAYS[0])
    path.write_bytes(files(folder)[1].read_bytes())
    return {path.name}


Damage = Callable[[Path, random.Random], set[str]]
DAMAGES: list[Damage] = [flip, flip, cut, lengthen, overwrite, remove, swap, rename, add]
OF_WHOLE_FILES: list[Damage] = [cut, lengthen, remove, swap, swap, rename, add]  #: which leave pictures as they are


def damaged(folder: Path, rng: random.Random, most: int, kinds: list[Damage] = DAMAGES) -> set[str]:
    """Do some of these; the names of the files hit that are not, by chance, what they were."""
    before = {path.name: path.read_bytes() for path in files(folder)}
    for _ in range(rng.randint(1, most)):
        if len(files(folder)) > 4:  # enough left for each to be done
            rng.choice(kinds)(folder, rng)
    after = {path.name: path.read_bytes() for path in files(folder)}
    return {name for name in before | after if before.get(name) != after.get(name)}


@pytest.mark.parametrize("most", [1, 6])
def test_verify_names_what_was_damaged_and_nothing_else(sound: Path, tmp_path: Path, tally: Tally, most: int) -> None:
    """Without a sound manifest it names that; the others are then not known to be anything."""
    for number in range(tries(30, 2_500)):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        shutil.copytree(sound, tmp_path / "out")
        hit = damaged(tmp_path / "out" / "train", random.Random(f"{most} {number}"), most)
        if "index.json" in hit and "samples.npy" not in hit:
            hit = {"index.json"}
        if not hit >= {"index.json", "samples.npy"}:
            named = {damage.file for damage in wdsremux.verify(tmp_path / "out")}
            assert named == hit, f"round {number}"
            tally("files of a converted set damaged, lost, swapped, renamed or added", "verify names each of them")


def test_a_cut_at_every_kind_of_length(sound: Path, out: Path, tally: Tally) -> None:
    """Around blocks of 512 bytes, where a tar's headers and contents meet; in the soak also at each seventh byte."""
    for path in files(out / "train"):
        content = path.read_bytes()
        edges = {at + by for at in range(0, len(content), 512) for by in (-1, 0, 1)} | {len(content) - 1, 10, 100}
        every = sorted(at for at in edges if 0 <= at < len(content))
        chosen = sorted({*every, *range(0, len(content), 7)}) if soaking() else every[:: max(1, len(every) // 6)]
        for size in chosen:
            path.write_bytes(content[:size])
            assert [damage.file for damage in wdsremux.verify(out)] == [path.name], f"{size} bytes of {path.name}"
            tally("files of a converted set damaged, lost, swapped, renamed or added", "verify names each of them")
        path.write_bytes(content)
    assert digests(out) == digests(sound)


# What an editor can do who also puts the manifest's own digest right

EDITS: dict[str, Any] = {
    "nsamples": 47,
    "nrejects": 0,
    "classes": CLASSES[:5],
    "split": "test",
    "files": {"samples.npy": {"sha256": "0" * 64}, "rejects.jsonl": {"sha256": "0" * 64}},
}


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_manifest_that_is_sealed_again(out: Path, tally: Tally, field: str) -> None:
    folder = out / "train"
    about = manifest.read(folder)
    values = {name: getattr(about, name) for name in manifest.Manifest.__dataclass_fields__} | {field: EDITS[field]}
    (folder / manifest.NAME).write_bytes(manifest.Manifest(**values).dumps())
    assert wdsremux.verify(out) != []
    tally("a manifest or table edited, and each SHA-256 corrected to match", "verify finds the contradiction")


@pytest.mark.parametrize("field", ["url", "nsamples", "size_bytes", "sha256", "idx_sha256", "container"])
def test_an_edited_shard_that_is_sealed_again(out: Path, tally: Tally, field: str) -> None:
    folder = out / "train"
    about = manifest.read(folder)
    values = {name: getattr(about, name) for name in manifest.Manifest.__dataclass_fields__}
    first, second, *others = about.shards
    other = "".join({"tar", "parquet"} - {about.container})
    edits = {
        "url": str(Path(first.url).with_stem("train-000055")),
        "nsamples": first.nsamples + 1,
        "size_bytes": first.size_bytes + 1,
        "sha256": second.sha256,
        "idx_sha256": second.idx_sha256 or second.sha256,  # one that no Parquet shard has
    }
    edited = {name: getattr(first, name) for name in manifest.Shard.__dataclass_fields__}
    if field == "container":
        values[field], edited["url"] = other, str(Path(first.url).with_suffix(f".{other}"))
    else:
        edited[field] = edits[field]
    described = [manifest.Shard(**edited), second, *others]
    values |= {"shards": described, "nsamples": sum(shard.nsamples for shard in described)}
    (folder / manifest.NAME).write_bytes(manifest.Manifest(**values).dumps())
    assert wdsremux.verify(out) != []
    tally("a manifest or table edited, and each SHA-256 corrected to match", "verify finds the contradiction")


# Back to the byte


def test_deleting_what_verify_names_and_converting_again_gives_the_same_bytes(
    source: Path, sound: Path, container: str, tmp_path: Path, tally: Tally
) -> None:
    """With the manifest damaged, the others are named once it is there again."""
    whole = digests(sound)
    for number in range(tries(3, 150)):
        out, rng = tmp_path / f"out-{number}", random.Random(number)
        shutil.copytree(sound, out)
        journal = rng.random() >= 0.3
        if not journal:
            shutil.rmtree(out / "train" / ".wdsremux")
        damaged(out / "train", rng, 6)
        for _ in range(4):
            for damage in _damages(out):
                (out / "train" / damage).unlink(missing_ok=True)
            said = _said(source, out, container)
            for path in files(out / "train") if said else ():  # without a manifest; it says to move them away
                assert "contains files that wdsremux did not write, such as train-0000" in said or not journal
                if not journal or path.stem in STRAYS:
                    path.unlink()
            if digests(out) == whole:
                break
        assert digests(out) == whole, f"round {number}"
        assert wdsremux.verify(out) == []
        shutil.rmtree(out)
        tally(
            "files of a converted set damaged, those that verify names deleted, and the conversion repeated",
            "the same bytes",
        )


def _said(source: Path, out: Path, container: str) -> str:
    """What a conversion refuses with; nothing if it does not."""
    try:
        convert(source, out, container)
    except OutputError as error:
        return str(error)
    return ""


def _damages(out: Path) -> list[str]:
    try:
        return [damage.file for damage in wdsremux.verify(out)]
    except FormatError:  # neither manifest nor table: no finished split, and nothing to go by but the sizes
        return sorted(path.name for path in files(out / "train"))


# The loader


def epoch(out: Path, **options: Any) -> dict[int, Sample]:
    """What a loader gives in an epoch, by sample id; fails if a picture is not that of its label."""
    given: dict[str, Any] = {"size": 16, "augment": None, "dtype": torch.uint8, "backend": "torchvision"}
    given |= {"num_threads": 1, "fields": ("image", "label", "key", "id"), "tail": "even"}
    found: dict[int, Sample] = {}
    with wdsremux.DataLoader(out, 12, **given | options) as loader:
        for images, labels, keys, ids in loader:
            seen = images[:, 0].float().mean((1, 2))
            assert float((seen - 5 * labels).abs().max()) < 3, "a picture with another's label"
            found |= zip(ids.tolist(), zip(labels.tolist(), keys, strict=True), strict=True)
    return found


@pytest.mark.filterwarnings("ignore:.*window:UserWarning")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_loader_names_the_damage_or_gives_what_is_right(
    sound: Path, tmp_path: Path, tally: Tally, on_error: str
) -> None:
    truth = epoch(sound)
    assert len(truth) == COUNT - len(REJECTED)
    for number in range(tries(20, 1_500)):
        out, rng = tmp_path / "out", random.Random(f"load {number}")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(sound, out)
        crc = rng.random() < 0.7  # without it, a damaged picture may be decoded to another
        hit = damaged(out / "train", rng, rng.choice([1, 1, 1, 6]), DAMAGES if crc else OF_WHOLE_FILES)
        begun = time.monotonic()
        said = ""
        try:
            found = epoch(out, verify_crc=crc, on_error=on_error, shuffle=rng.random() < 0.5)
        except WdsremuxError as error:
            said = str(error)
        if said:
            unfinished = "index.json" in hit and "train is not finished: " in said  # nor can it be told from that
            assert unfinished or any(name in said for name in hit), f"round {number}: {hit}: {said}"
        else:
            assert found.items() <= truth.items(), f"round {number}: {hit}"
            assert on_error == "skip" or found == truth, f"round {number}: {hit}"
        assert time.monotonic() - begun < SLOW_S
        tally("training from a damaged set", "the file is named, or every sample is right")


@pytest.mark.parametrize("column", samples.SAMPLE.names or ())
def test_a_loader_takes_no_table_in_which_a_bit_was_flipped(out: Path, tally: Tally, column: str) -> None:
    path, rng = out / "train" / samples.NAME, random.Random(column)
    table = np.load(path)
    table[column][rng.randrange(len(table))] ^= 1
    np.save(path, table)
    with pytest.raises(FormatError, match=r"samples\.npy was changed after the conversion: its SHA-256 differs"):
        epoch(out)
    tally("training from a damaged set", "the file is named, or every sample is right")


def opened(out: Path) -> wdsremux.DataLoader:
    return wdsremux.DataLoader(out, 12, size=8, backend="torchvision", num_threads=1, verify_crc=True)


@pytest.mark.parametrize("column", samples.SAMPLE.names or ())
def test_a_table_of_nonsense_that_is_sealed_again(out: Path, tally: Tally, column: str) -> None:
    """Whoever edits the table and puts all digests right can have it say anything; it cannot crash a loader."""
    folder, rng = out / "train", random.Random(column)
    largest = np.iinfo(samples.SAMPLE[column]).max
    table = np.load(folder / samples.NAME)
    for number in range(tries(4, 500)):
        hostile = table.copy()
        for _ in range(rng.randint(1, 3)):
            value = rng.choice([0, 1, largest, largest // 2, rng.randint(0, int(largest))])
            hostile[column][rng.randrange(len(table))] = value
        if (hostile == table).all():
            continue
        np.save(folder / samples.NAME, hostile)
        reseal(folder)
        named = wdsremux.verify(out, decode=True)
        assert named != [], f"round {number}"
        begun = time.monotonic()
        with contextlib.suppress(WdsremuxError), opened(out) as loader:
            for images, _ in loader:
                assert images.isfinite().all()
        assert time.monotonic() - begun < SLOW_S
        tally("a manifest or table edited, and each SHA-256 corrected to match", "verify finds the contradiction")
