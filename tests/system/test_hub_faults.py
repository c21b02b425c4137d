"""What a Hub, a network and a proxy do in mid-run: the bytes of the undisturbed run, or one sentence and then those.

The real clients, in a process of their own. `tests/support/hub.py` says what each fault is.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.support.client import Client
from tests.support.hub import SECRET, Fault, FaultKind, Hub
from tests.support.hub_sources import revision, write_images, write_parquet, write_tars
from tests.support.reading import digests, read_split
from tests.support.soak import soaking, tries

pytestmark = pytest.mark.system
Tally = Callable[[str, str], None]
Digests = dict[str, dict[str, str]]
PHOTOS = 120
SIZES: dict[str, Any] = {"recipe": "copy", "samples_per_shard": 10, "samples_per_task": 40, "workers": 2}
KINDS = ("parquet", "tars", "images")
STORMS = tries(1, 34)  #: for each kind of source
DOWN_S = 30.0 if soaking() else 4.0

SAME, RESUMED = "same bytes as without it", "a clear error, and the same bytes after the same command"
BUSY = "the Hub answers 403, 429, 500 or 503"
BROKEN = "a connection to the Hub is reset, cut short, slow, or silent for a while"
STRANGE = "an answer is not what was requested (an error page, the whole file, another version)"
GONE = "the Hub is down, the token expires, or a file is gone, for longer than --patience"
RIDDEN_OUT: dict[Any, str] = {  #: fault -> what the README's table calls it
    **dict.fromkeys(("403", "429", "500", "503"), BUSY),
    **dict.fromkeys(("reset", "cut", "stall", "slow"), BROKEN),
    **dict.fromkeys(("short", "length", "page", "whole", "gzip", "other"), STRANGE),
}
STOPPING: tuple[Any, ...] = ("401", "404", "expired", "down")
SLOW = ("stall", "429")  #: two seconds more than others
STOPPED: list[tuple[Any, str]] = (  #: (fault, kind of source)
    [(fault, kind) for fault in ("401", "404", "expired") for kind in KINDS]
    if soaking()
    else [("401", "parquet"), ("expired", "tars"), ("404", "images")]
)


@pytest.fixture(scope="module")
def folders(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same photos as each kind of source; and "other …": another version of each, byte for byte as large."""
    root = tmp_path_factory.mktemp("sources")
    photos = pq.read_table(sorted(sample.glob("data/train-*.parquet"))[0]).slice(0, PHOTOS)
    for name, table in (("", photos), ("other ", otherwise(photos))):
        write_parquet(root / f"{name}parquet", table)
        write_tars(root / f"{name}tars", table)
        write_images(root / f"{name}images", table)
    return {path.name: path for path in root.iterdir()}


def otherwise(photos: pa.Table) -> pa.Table:
    """Photos of the same sizes that are not the same: each has another quantisation table."""
    images = photos.column("image").to_pylist()
    for image in images:
        data = bytearray(image["bytes"])
        at = data.index(b"\xff\xdb") + 60
        data[at] += 1 if data[at] < 255 else -1
        image["bytes"] = bytes(data)
    place = photos.schema.get_field_index("image")
    return photos.set_column(place, photos.schema.field(place), pa.array(images, photos.schema.field(place).type))


@pytest.fixture(scope="module")
def hub(folders: dict[str, Path]) -> Iterator[Hub]:
    with Hub({f"ours/{kind}": folders[kind] for kind in KINDS}) as hub:
        yield hub


@pytest.fixture(autouse=True)
def no_fault(hub: Hub) -> Iterator[None]:
    hub.requests.clear()
    yield
    hub.fail()
    hub.cdn = False


@pytest.fixture(scope="module")
def client(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    environment = hub.environment(tmp_path_factory.mktemp("home"), SECRET) | {
        "HF_HUB_DOWNLOAD_TIMEOUT": "2"
    }  # for the stall
    with Client(os.environ | environment) as client:
        yield client


@pytest.fixture(scope="module")
def whole(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The digests of each kind of source, converted undisturbed."""
    outs = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, out in outs.items():
        assert client.convert(f"ours/{kind}", out, **SIZES) == ""
    return {kind: digests(out) for kind, out in outs.items()}


def test_each_fault_is_tried() -> None:
    assert sorted([*RIDDEN_OUT, *STOPPING]) == sorted(get_args(FaultKind))


# Ridden out


@pytest.mark.parametrize("fault", RIDDEN_OUT)
def test_a_fault_changes_no_byte(
    client: Client, hub: Hub, folders: dict[str, Path], whole: Digests, tmp_path: Path, tally: Tally, fault: Any
) -> None:
    """Of parquet, read here and there by several workers."""
    last = 17 if soaking() else 8 if fault in SLOW else 11
    hub.fail(Fault(fault, first=8, every=3, last=last, other=folders["other parquet"], retry_after_s=1))
    assert client.convert("ours/parquet", tmp_path, **SIZES) == ""
    assert hub.faults
    assert digests(tmp_path) == whole["parquet"]
    tally(RIDDEN_OUT[fault], SAME)


@pytest.mark.parametrize("fault", [*RIDDEN_OUT] if soaking() else ["whole", "other", "length"])
def test_nor_does_one_in_the_middle_of_a_tar(
    client: Client, hub: Hub, folders: dict[str, Path], whole: Digests, tmp_path: Path, tally: Tally, fault: Any
) -> None:
    """The connection breaks, and that is what befalls the next one."""
    path = "train-1.tar"
    hub.fail(
        Fault("cut", first=1, last=1, path=path, keep_bytes=600_000),
        Fault(fault, first=2, last=2, path=path, other=folders["other tars"], keep_bytes=300_000),
    )
    assert client.convert("ours/tars", tmp_path, **SIZES) == ""
    assert hub.faults == 2
    assert any(request.fault and request.span not in ("", "bytes=0-") for request in hub.requests)
    assert digests(tmp_path) == whole["tars"]
    tally(RIDDEN_OUT[fault], SAME)


def test_nor_do_all_of_them_for_single_images(
    client: Client, hub: Hub, whole: Digests, tmp_path: Path, tally: Tally
) -> None:
    """An image comes whole, so of one version."""
    faults = [fault for fault in RIDDEN_OUT if fault != "other"]
    hub.fail(*(Fault(fault, first=at, last=at, path="train/") for at, fault in enumerate(faults, 1)))
    assert client.convert("ours/images", tmp_path, **SIZES) == ""
    assert {request.fault for request in hub.requests} == {"", *faults}
    assert digests(tmp_path) == whole["images"]
    for fault in faults:
        tally(RIDDEN_OUT[fault], SAME)


@pytest.mark.parametrize("seed", range(STORMS))
@pytest.mark.parametrize("kind", KINDS)
def test_faults_at_random(
    client: Client, hub: Hub, whole: Digests, tmp_path: Path, tally: Tally, kind: str, seed: int
) -> None:
    """One request in five fails, in any way, also of those that ask what there is; files lie on another host."""
    hub.cdn = True
    ways: list[Any] = [fault for fault in RIDDEN_OUT if fault not in ("stall", "other")]
    asking = [Fault(way, rate=0.04, seed=seed * 10 + i, api=True) for i, way in enumerate(ways[1:4])]
    hub.fail(*(Fault(way, rate=0.02, seed=seed * 100 + i) for i, way in enumerate(ways)), *asking)
    assert client.convert(f"ours/{kind}", tmp_path, **SIZES) == ""
    assert digests(tmp_path) == whole[kind]
    assert hub.faults or kind == "tars"  # which takes a few requests only
    for _ in range(hub.faults):
        tally("one request in five fails, at random, in all of these ways", SAME)


def test_a_busy_hub_is_left_alone_for_as_long_as_it_asks(client: Client, hub: Hub, tmp_path: Path) -> None:
    """One worker, so that no other process asks for the same meanwhile."""
    hub.fail(Fault("429", first=8, last=8, retry_after_s=4))
    assert client.convert("ours/parquet", tmp_path, **SIZES | {"workers": 1}) == ""
    refused = next(request for request in hub.requests if request.fault)
    later = [request for request in hub.requests if request.path == refused.path and request.at_s > refused.at_s]
    assert all(request.at_s - refused.at_s > 3.9 for request in later if request.span == refused.span)
    assert any(request.span == refused.span for request in later)


def test_a_hub_that_is_down_for_a_while(client: Client, hub: Hub, whole: Digests, tmp_path: Path, tally: Tally) -> None:
    hub.fail(Fault("down", first=8, last=8, down_s=DOWN_S))
    began_s = time.monotonic()
    assert client.convert("ours/parquet", tmp_path, **SIZES) == ""
    assert time.monotonic() - began_s > DOWN_S
    assert digests(tmp_path) == whole["parquet"]
    tally(f"the Hub is down for {DOWN_S:g} s", SAME)


def test_signed_addresses_that_expire(
    client: Client, hub: Hub, folders: dict[str, Path], whole: Digests, tmp_path: Path, tally: Tally
) -> None:
    """The other host refuses some; new ones are then asked for at the Hub. The token is for the Hub alone."""
    hub.cdn = True
    tar = "train-1.tar"
    for kind, faults in (
        ("parquet", [Fault("403", first=8, every=4)]),
        ("tars", [Fault("cut", last=1, path=tar, keep_bytes=600_000), Fault("403", first=2, last=2, path=tar)]),
    ):
        hub.fail(*faults)
        assert client.convert(f"ours/{kind}", tmp_path / kind, **SIZES) == ""
        assert digests(tmp_path / kind) == whole[kind]
        for _ in [request for request in hub.requests if request.fault == "403"]:
            tally("a signed address of the Hub's files expires", "requested again; same bytes")
    hub.fail()
    hub.publish("ours/private", folders["tars"], access="private")
    assert client.convert("ours/private", tmp_path / "private", **SIZES) == ""
    elsewhere = [request for request in hub.requests if request.path.startswith("/cdn/")]
    assert sum(request.fault == "403" for request in elsewhere) >= 2
    assert all(request.status != 403 or request.fault for request in elsewhere)  # none was used twice
    assert not any(request.token for request in elsewhere)
    assert any(request.token for request in hub.requests)


# One sentence, and then the same


@pytest.mark.parametrize(("fault", "kind"), STOPPED)
def test_what_stops_a_conversion(
    client: Client, hub: Hub, whole: Digests, tmp_path: Path, tally: Tally, kind: str, fault: Any
) -> None:
    """Nothing is half there, and nothing is a reject. When it is over, the same command goes on."""
    path = {"parquet": "00002-of", "tars": "train-1", "images": "class"}[kind]
    hub.fail(Fault(fault, first={"parquet": 2, "tars": 1, "images": 30}[kind], path=path))
    said = client.convert(f"ours/{kind}", tmp_path, patience=1, **SIZES)
    assert re.search(r"^\S*(train|class).* could not be read( for 1 s)?: .*(401|404).*Run the same command again", said)
    assert ("log in" in said) == (fault != "404")
    assert "\n" not in said
    assert not (tmp_path / "train/index.json").exists()
    hub.fail()
    assert client.convert(f"ours/{kind}", tmp_path, **SIZES) == ""
    assert digests(tmp_path) == whole[kind]
    tally(GONE, RESUMED)


def test_patience_is_kept_to(client: Client, hub: Hub, whole: Digests, tmp_path: Path, tally: Tally) -> None:
    """Not stretched by the tries of the Hub's client, which take 23 s."""
    hub.fail(Fault("down", first=8, last=8))
    began_s = time.monotonic()
    said = client.convert("ours/parquet", tmp_path, patience=3, **SIZES)
    took_s = time.monotonic() - began_s
    hub.fail()
    hub.up()
    assert "could not be read for 3 s: " in said
    assert 3 < took_s < 15
    assert client.convert("ours/parquet", tmp_path, **SIZES) == ""
    assert digests(tmp_path) == whole["parquet"]
    tally(GONE, RESUMED)


# The source itself


def test_a_branch_that_moves_in_mid_run(
    client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path, tally: Tally
) -> None:
    before = hub.publish("ours/moving", folders["parquet"])
    assert client.convert("ours/moving", tmp_path / "before", **SIZES) == ""
    hub.requests.clear()
    ended = threading.Event()

    def move() -> None:
        while len(hub.data_requests) < 8 and not ended.wait(0.001):
            pass
        hub.publish("ours/moving", folders["other parquet"])

    mover = threading.Thread(target=move)
    mover.start()
    said = client.convert("ours/moving", tmp_path / "moved", **SIZES)
    ended.set()
    mover.join()
    assert said == ""
    assert len(hub.data_requests) > 8
    assert hub.datasets["ours/moving"].heads["main"] != before
    assert revision(tmp_path / "moved") == before
    assert digests(tmp_path / "moved") == digests(tmp_path / "before")
    tally("the branch moves during a run", "the whole run uses the commit that it began with")


@pytest.mark.parametrize(
    ("number", "place", "sentence"),
    [
        (0, -20, "train-00000-of-00003.parquet cannot be read as parquet: "),
        (2, -20, "train-00002-of-00003.parquet cannot be read as parquet: "),
        (1, 4, "row group 0 of data/train-00001-of-00003.parquet cannot be read as parquet: "),
    ],
    ids=["first footer", "last footer", "row group"],
)
def test_a_file_that_is_damaged_on_the_hub(
    client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path, number: int, place: int, sentence: str
) -> None:
    """That is told at once: no patience mends it."""
    shutil.copytree(folders["parquet"], tmp_path / "damaged")
    file = sorted((tmp_path / "damaged/data").iterdir())[number]
    content = bytearray(file.read_bytes())
    place %= len(content)
    content[place : place + 12] = b"\xff" * 12
    file.write_bytes(content)
    hub.publish("ours/damaged", tmp_path / "damaged")
    began_s = time.monotonic()
    said = client.convert("ours/damaged", tmp_path / "out", **SIZES)
    assert sentence in said
    assert said.endswith("Report it to the owner of the data set, or choose another revision=")
    assert "\n" not in said
    assert time.monotonic() - began_s < 20


def test_images_that_are_not_there(client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    """What the commit itself lacks, or has empty, is a reject with a reason."""
    folder = tmp_path / "listed"
    (folder / "train").mkdir(parents=True)
    photos = sorted(folders["images"].rglob("*.jpg"))[:20]
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / f"train/{number}.jpg")
    (folder / "train/empty.jpg").touch()
    names = [*(f"{number}.jpg" for number in range(20)), "empty.jpg", "gone.jpg"]
    (folder / "train/metadata.csv").write_text(
        "file_name,n\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names))
    )
    hub.publish("ours/listed", folder)
    assert client.convert("ours/listed", tmp_path / "out", max_rejects=2, **SIZES) == ""
    manifest = wdsremux.manifest(tmp_path / "out")
    assert (manifest.nsamples, manifest.nrejects) == (20, 2)
    reasons = (tmp_path / "out/train/rejects.jsonl").read_text()
    assert "no image: there is no such file" in reasons
    assert len(read_split(tmp_path / "out/train")) == 20


def test_a_hub_id_that_is_also_the_name_of_a_folder(
    client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path
) -> None:
    """What a folder's files hash to is no commit."""
    hub.datasets["parquet"] = hub.datasets["ours/parquet"]
    assert client.convert(folders["parquet"], tmp_path, **SIZES) == ""
    said = client.convert("parquet", tmp_path, **SIZES)
    assert "source" in said
    assert "overwrite=True" in said
    assert client.convert("parquet", tmp_path, overwrite=True, **SIZES) == ""
