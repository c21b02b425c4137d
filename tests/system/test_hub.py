"""Conversions of data sets on a Hub of our own: the same files as from this machine, whatever the network does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.support.client import ROOT, Client
from tests.support.hub import SECRET, Fault, Hub
from tests.support.hub_sources import revision, write_images, write_parquet, write_tars
from tests.support.reading import digests, read_split

pytestmark = pytest.mark.system
PHOTOS = 240  #: of the sample, all in all 15 MB
SIZES: dict[str, Any] = {"recipe": "copy", "samples_per_shard": 10, "samples_per_task": 40, "workers": 2}


@pytest.fixture(scope="module")
def photos(sample: Path) -> pa.Table:
    return pq.read_table(sorted(sample.glob("data/train-*.parquet"))[0]).slice(0, PHOTOS)


@pytest.fixture(scope="module")
def folders(photos: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same photos as each kind of source."""
    root = tmp_path_factory.mktemp("sources")
    write_parquet(root / "parquet", photos)
    write_tars(root / "tars", photos)
    write_images(root / "images", photos)
    for config in ("small", "large"):
        write_parquet(root / "configs" / config, photos.slice(0, 30 if config == "small" else 60))
    (root / "configs" / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: small/data/*\n"
        "- config_name: large\n  data_files: large/data/*\n---\n"
    )
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="module")
def hub(folders: dict[str, Path]) -> Iterator[Hub]:
    with Hub({f"ours/{name}": folder for name, folder in folders.items()}) as hub:
        yield hub


@pytest.fixture(autouse=True)
def no_fault(hub: Hub) -> None:
    hub.fail()
    hub.requests.clear()


@pytest.fixture(scope="module")
def client(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A process to which that is the Hub; not logged in."""
    environment = hub.environment(tmp_path_factory.mktemp("home")) | {"HF_HUB_DOWNLOAD_TIMEOUT": "2"}  # for the stall
    with Client(os.environ | environment) as client:
        yield client


@pytest.fixture(scope="module")
def local(client: Client, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parquet converted from this machine."""
    out = tmp_path_factory.mktemp("local")
    assert client.convert(folders["parquet"], out, **SIZES) == ""
    return out


def same(out: Path, other: Path) -> bool:
    """Whether two splits are the same, but for what index.json says of the source."""
    first, second = digests(out), digests(other)
    first.pop("train/index.json"), second.pop("train/index.json")
    return first == second and len(first) > 2 and about(out) == about(other)


def about(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "train/index.json").read_bytes())
    return found | {"source": None, "sha256": None}


def samples(out: Path) -> list[tuple[bytes, bytes | None]]:
    return sorted((content["jpg"], content.get("cls")) for content in read_split(out / "train").values())


# The same files


def test_parquet_gives_what_it_gives_on_this_machine(
    client: Client, hub: Hub, folders: dict[str, Path], local: Path, tmp_path: Path
) -> None:
    assert client.convert("ours/parquet", tmp_path, **SIZES) == ""
    assert same(tmp_path, local)
    assert revision(tmp_path) == hub.datasets["ours/parquet"].heads["main"]
    assert wdsremux.manifest(tmp_path).source["name"] == "ours/parquet"
    sizes = [path.stat().st_size for path in folders["parquet"].glob("data/*")]
    assert min(sizes) > 3e6
    assert hub.sent_bytes < 1.1 * sum(sizes), hub.sent_bytes / sum(sizes)


@pytest.mark.parametrize("kind", ["503", "403", "reset", "cut", "short", "stall"])
def test_faults_of_the_network_change_no_byte(client: Client, hub: Hub, local: Path, tmp_path: Path, kind: Any) -> None:
    hub.fail(Fault(kind, every=5, first=4, last=4 if kind == "stall" else None))
    assert client.convert("ours/parquet", tmp_path, **SIZES) == ""
    assert hub.faults
    assert same(tmp_path, local)


@pytest.mark.parametrize("kind", ["tars", "images"])
def test_other_kinds_give_the_same_samples(
    client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    assert client.convert(folders[kind], tmp_path / "local", **SIZES) == ""
    assert client.convert(f"ours/{kind}", tmp_path / "hub", **SIZES) == ""
    assert samples(tmp_path / "hub") == samples(tmp_path / "local")
    assert wdsremux.manifest(tmp_path / "hub").classes == wdsremux.manifest(tmp_path / "local").classes


def test_no_body_of_a_tar_ends_too_early(client: Client, hub: Hub, tmp_path: Path) -> None:
    assert client.convert("ours/tars", tmp_path / "whole", **SIZES) == ""
    second = "train-1"
    for fault in (
        Fault("cut", last=2, path=second),
        Fault("short", last=1, path=second),
        Fault("403", last=1, path=second),
    ):
        hub.fail(fault)  # of cuts, the client itself makes good one, and no more
        assert client.convert("ours/tars", tmp_path / fault.kind, **SIZES) == ""
        assert digests(tmp_path / fault.kind) == digests(tmp_path / "whole"), fault.kind
    assert hub.faults == 4


def test_shards_of_a_remote_tar_are_numbered_by_its_size(
    client: Client, folders: dict[str, Path], tmp_path: Path
) -> None:
    assert client.convert("ours/tars", tmp_path, keep="json", shuffle=False, **SIZES) == ""
    sizes = [path.stat().st_size for path in sorted(folders["tars"].iterdir())]
    first = -(-sizes[0] // 1024 // SIZES["samples_per_shard"])
    numbers = [int(path.stem[-6:]) for path in sorted((tmp_path / "train").glob("*.tar"))]
    assert numbers[0] == 0
    assert first in numbers
    assert numbers[-1] > len(numbers)  # there are gaps
    order = [json.loads(content["json"])["json"]["i"] for content in read_split(tmp_path / "train").values()]
    assert order == [*range(0, PHOTOS, 2), *range(1, PHOTOS, 2)]


# Which data set


def test_configs(client: Client, tmp_path: Path) -> None:
    assert client.convert("ours/configs", tmp_path / "small", config="small", **SIZES) == ""
    assert wdsremux.manifest(tmp_path / "small").nsamples == 30
    assert wdsremux.manifest(tmp_path / "small").source["config"] == "small"
    none = client.convert("ours/configs", tmp_path / "none", **SIZES)
    assert none == "ours/configs has 2 configs: small, large. Choose one with config="
    other = client.convert("ours/configs", tmp_path / "other", config="huge", **SIZES)
    assert other == "ours/configs has no config 'huge'. Its configs: small, large"


def test_revisions(client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    commits = {
        name: hub.publish("ours/moving", folders["configs"] / folder, name)
        for name, folder in (("main", "large"), ("v1.0", "small"))
    }
    for name, wanted in ((None, "main"), ("main", "main"), ("v1.0", "v1.0"), (commits["v1.0"], "v1.0")):
        out = tmp_path / str(name)
        assert client.convert("ours/moving", out, revision=name, **SIZES) == ""
        assert revision(out) == commits[wanted]
        assert wdsremux.manifest(out).nsamples == (60 if wanted == "main" else 30)
    for name in ("v2", commits["main"][:7]):
        assert client.convert("ours/moving", tmp_path / "new", revision=name, **SIZES) == (
            f"ours/moving has no revision {name!r}. Give a branch, a tag or a full commit hash"
        )


def test_a_resume_stays_with_its_commit(
    client: Client, hub: Hub, folders: dict[str, Path], local: Path, tmp_path: Path
) -> None:
    before = hub.publish("ours/moved", folders["parquet"])
    hub.fail(Fault("403", first=9, path="data/"))
    stopped = client.convert("ours/moved", tmp_path, patience=0, **SIZES)
    assert "could not be read" in stopped
    assert "Run the same command again to resume" in stopped
    assert not (tmp_path / "train/index.json").exists()
    hub.fail()
    after = hub.publish("ours/moved", folders["configs"] / "small")
    assert client.convert("ours/moved", tmp_path, **SIZES) == ""
    assert revision(tmp_path) == before
    assert same(tmp_path, local)
    assert client.convert("ours/moved", tmp_path, overwrite=True, **SIZES) == ""
    assert revision(tmp_path) == after
    assert wdsremux.manifest(tmp_path).nsamples == 30


# What may not be read, and what is not there


@pytest.mark.parametrize(
    ("access", "sentence"), [("private", "and not a public data set"), ("gated", "is gated. Ask for")]
)
def test_who_may_read(
    client: Client, hub: Hub, folders: dict[str, Path], tmp_path: Path, access: Any, sentence: str
) -> None:
    hub.publish(f"ours/{access}", folders["configs"] / "small", access=access)
    assert sentence in client.convert(f"ours/{access}", tmp_path / "out", **SIZES)
    assert not list(tmp_path.rglob("*.tar"))
    with Client(os.environ | hub.environment(tmp_path / "home", SECRET)) as member:
        assert member.convert(f"ours/{access}", tmp_path / "out", **SIZES) == ""


def test_what_is_not_there(client: Client, tmp_path: Path) -> None:
    for source, options, sentence in (
        ("ours/nothing", {}, "ours/nothing is not a folder on this machine, and not a public data set on the Hub. "),
        ("-/nothing", {}, "-/nothing is not a folder on this machine, and not a valid Hub id: "),
        (
            "ours/parquet",
            {"split": "test"},
            "ours/parquet has no split 'test'. Its splits (from its config 'default'): train",
        ),
    ):
        said = client.convert(source, tmp_path, **options, **SIZES)
        assert said.startswith(sentence)
        assert "\n" not in said


def test_a_hub_that_is_busy_at_first(client: Client, hub: Hub, tmp_path: Path) -> None:
    hub.fail(Fault("429", api=True, last=2))
    assert client.convert("ours/configs", tmp_path, config="small", **SIZES) == ""
    assert hub.faults == 2


def test_a_hub_that_goes_down(client: Client, hub: Hub, local: Path, tmp_path: Path) -> None:
    """Beyond --patience that is one sentence; later the same command goes on. At first contact it is said at once."""
    hub.fail(Fault("down", first=9))
    command = [sys.executable, "-m", "wdsremux", "convert", "ours/parquet", str(tmp_path), "--patience", "3"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    environment = os.environ | hub.environment(tmp_path.with_name("home"))
    stopped = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert stopped.returncode == 1
    sentence = stopped.stderr.splitlines()[-1]
    assert sentence.startswith("wdsremux: ")
    assert "could not be read for 3 s: [Errno 111] Connection refused. Run the same command again" in sentence
    assert "Traceback" not in stopped.stderr
    assert "the Hub cannot be reached: [Errno 111]" in client.convert("ours/parquet", tmp_path / "other", **SIZES)
    hub.fail()
    hub.up()
    assert client.convert("ours/parquet", tmp_path, **SIZES) == ""
    assert same(tmp_path, local)
