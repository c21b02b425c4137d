"""Whole conversions over Ray: the same files as with processes, whatever dies on the way."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.killing import PATIENCE_S, wait_until
from tests.support.reading import check_split, digests

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SIZES = ("--samples-per-shard", "10", "--samples-per-task", "50", "--batch-size", "10")
STORE_BYTES = 80 * 2**20
RECIPE = """
import os
import time

def bake(batch):
    time.sleep(float(os.environ.get("SECONDS_A_BATCH", "0.05")))  # so that a test can come between
    return {"image": [image.resize((64, 64)) for image in batch["image"]]}
"""


@dataclass(frozen=True)
class Conversion:
    """A command line, run from a folder of its own."""

    source: Path
    out: Path
    recipe: Path
    workers: int = 2

    def command(self, engine: str) -> Sequence[str]:
        recipe = ("--recipe", f"{self.recipe}:bake")
        convert = (sys.executable, "-m", "wdsremux", "convert", str(self.source), str(self.out))
        return [*convert, "--engine", engine, "--workers", str(self.workers), *SIZES, *recipe]

    @contextlib.contextmanager
    def running(self, engine: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """As a session of its own, of which nothing is left in the end."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        process = subprocess.Popen(
            self.command(engine),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored behind an `&`
            cwd=self.recipe.parent,
            env=environment | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for left in session(process.pid):
                left.kill()
            process.communicate()

    def finish(self, engine: str, **variables: str) -> str:
        """What it says on stderr."""
        with self.running(engine, **variables) as process:
            return finished(process)

    def shards(self) -> int:
        return len(list(self.out.glob("train/*.tar")))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.out)) for path in self.out.rglob("*")}


def finished(process: subprocess.Popen[str], returncode: int = 0) -> str:
    printed, said = process.communicate(timeout=PATIENCE_S)
    assert not printed or "(raylet)" in printed, "Ray reports deaths there, and nobody anything else"
    assert process.returncode == returncode, said
    assert all(line.startswith("wdsremux: ") for line in said.splitlines()), said
    return said


def session(number: int) -> list[psutil.Process]:
    """The processes of a session that still live."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def bakers(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those of Ray's workers that are at a task."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(title.startswith("ray::bake") for title in process.cmdline()[:1]):
                found.append(process)
    return found


@pytest.fixture
def conversion(sample: Path, tmp_path: Path) -> Conversion:
    return made(sample, tmp_path)


def made(sample: Path, folder: Path) -> Conversion:
    (folder / "recipe.py").write_text(RECIPE)
    return Conversion(sample, folder / "out", folder / "recipe.py")


@pytest.fixture(scope="module")
def undisturbed(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """Done with processes."""
    conversion = made(sample, tmp_path_factory.mktemp("undisturbed"))
    conversion.finish("local")
    check_split(conversion.out / "train", 300)
    return conversion


def check_same(one: Conversion, other: Conversion) -> None:
    assert digests(one.out) == digests(other.out)
    assert one.files() == other.files()


def test_over_a_cluster_of_its_own(conversion: Conversion, undisturbed: Conversion) -> None:
    with conversion.running("ray") as process:
        printed, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, printed) == (0, ""), said
        note, *lines = said.splitlines()
        assert note.startswith("wdsremux: files of "), said
        assert all(line.startswith(f"wdsremux: {conversion.source} (train): ") for line in lines), said
        wait_until(lambda: not session(process.pid))
    check_same(conversion, undisturbed)


def test_a_worker_is_killed(conversion: Conversion, undisturbed: Conversion) -> None:
    with conversion.running("ray") as process:
        wait_until(lambda: bakers(session(process.pid)), process)
        bakers(session(process.pid))[0].kill()
        said = finished(process)
        wait_until(lambda: not session(process.pid))
    assert said.count("with WorkerCrashedError while converting") == 1
    check_same(conversion, undisturbed)


def test_begun_with_one_engine_and_ended_with_another(conversion: Conversion, undisturbed: Conversion) -> None:
    """Each time the process that maps is killed, and its workers end by themselves."""
    for number, engine in enumerate(("local", "ray"), 1):
        with conversion.running(engine) as process:
            wait_until(lambda least=10 * number: conversion.shards() >= least, process)  # type: ignore[misc]
            process.kill()
            process.wait()
            began_s = time.monotonic()
            wait_until(lambda: not bakers(session(process.pid)))
            assert time.monotonic() - began_s < 5
        assert not (conversion.out / "train" / "index.json").exists(), "too late: it was finished"
    assert "converted by an earlier run" in conversion.finish("local")
    check_same(conversion, undisturbed)


def test_ctrl_c(conversion: Conversion, undisturbed: Conversion) -> None:
    with conversion.running("ray") as process:
        wait_until(lambda: conversion.shards() >= 5, process)
        os.killpg(process.pid, signal.SIGINT)
        began_s = time.monotonic()
        said = finished(process, 130)
        assert time.monotonic() - began_s < 10
        wait_until(lambda: not session(process.pid))
    assert said.splitlines()[-1].endswith("rows are kept. Run the same command again to resume.")
    conversion.finish("ray")
    check_same(conversion, undisturbed)


def test_memory_runs_out(conversion: Conversion) -> None:
    """By Ray's own watch, which ends workers before the system would."""
    watch = {"RAY_memory_monitor_refresh_ms": "50", "RAY_memory_usage_threshold": "0.0001"}
    with conversion.running("ray", **watch) as process:
        said = finished(process, 1)
        wait_until(lambda: not session(process.pid))
    assert "with OutOfMemoryError while converting" in said
    assert "3 workers died while converting task " in said.splitlines()[-1]
    assert said.endswith("if memory ran out, use fewer workers (--workers).\n")


# A cluster that runs already


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that bakes nothing, and a node with two cores."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES},
    )
    cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def another_node(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Adds a node with one core and environment variables of its own, and removes it in the end."""
    added = []

    def add(**variables: str) -> Any:
        added.append(cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, env_vars=variables))
        return added[-1]

    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


def alive(cluster: Any) -> int:
    """How many nodes it has; those of earlier tests stand in its table still."""
    return sum(node["Alive"] for node in cluster.global_state.node_table())


def test_over_a_cluster_that_runs(cluster: Any, conversion: Conversion, undisturbed: Conversion) -> None:
    """With an OUT relative to a folder in which no node runs."""
    near = replace(conversion, out=Path("out"))
    near.finish("ray", RAY_ADDRESS=cluster.address)
    check_same(conversion, undisturbed)


def test_a_node_is_lost(
    cluster: Any, another_node: Callable[..., Any], conversion: Conversion, undisturbed: Conversion
) -> None:
    """It would bake its task for ever, and has one for sure: there are as many workers as the nodes have cores."""
    node = another_node(SECONDS_A_BATCH=str(PATIENCE_S))
    raylet = next(process.process for [process] in [node.all_processes["raylet"]])
    with replace(conversion, workers=3).running("ray", RAY_ADDRESS=cluster.address) as process:
        wait_until(lambda: bakers(psutil.Process(raylet.pid).children(recursive=True)), process)
        cluster.remove_node(node, allow_graceful=False)
        said = finished(process)
    assert said.count("with NodeDiedError while converting") == 1
    check_same(conversion, undisturbed)


def test_a_node_that_would_bake_other_bytes(
    cluster: Any, another_node: Callable[..., Any], conversion: Conversion
) -> None:
    another_node(ATEN_CPU_CAPABILITY="default")
    with conversion.running("ray", RAY_ADDRESS=cluster.address) as process:
        said = finished(process, 1)
    assert re.search(r"Ray node .* would not write the same bytes as this process: cpu \S+ avx2 -> \S+ plain\.", said)
    assert not conversion.shards()


def test_a_node_without_the_package(
    cluster: Any, another_node: Callable[..., Any], conversion: Conversion, tmp_path: Path
) -> None:
    (tmp_path / "broken" / "wdsremux").mkdir(parents=True)
    (tmp_path / "broken" / "wdsremux" / "__init__.py").write_text("raise ImportError('of another version')")
    another_node(PYTHONPATH=str(tmp_path / "broken"))
    with conversion.running("ray", RAY_ADDRESS=cluster.address) as process:
        said = finished(process, 1)
    assert re.search(r"Ray node .* cannot convert images: .*Install the same packages there as on this machine", said)


def test_a_node_that_does_not_see_out(cluster: Any, conversion: Conversion) -> None:
    """A node for which another file system lies over OUT."""
    wait_until(lambda: alive(cluster) == 2)
    alone = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    conversion.out.mkdir()
    ray = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--num-cpus=1",
        f"--address={cluster.address}",
    ]
    mounted = f"mount -t tmpfs none {shlex.quote(str(conversion.out))} && exec {shlex.join(ray)}"
    node = subprocess.Popen(
        [*alone, "sh", "-c", mounted], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: alive(cluster) == 3, node)
        with conversion.running("ray", RAY_ADDRESS=cluster.address) as process:
            said = finished(process, 1)
    finally:
        for left in session(node.pid):
            left.kill()
        node.wait()
    assert re.search(
        rf"{conversion.out}/train is not on a file system that Ray node .* shares with this machine\.", said
    )
    assert conversion.files() == {
        ".lock",
        "train",
        "train/.wdsremux",
        "train/.wdsremux/lock",
        "train/.wdsremux/plan.json",
    }


def test_nobody_listens(conversion: Conversion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with conversion.running("ray", RAY_ADDRESS=address) as process:
        said = finished(process, 1)
    assert f"a Ray cluster cannot be reached at RAY_ADDRESS={address}: " in said


def test_ray_client_is_refused(conversion: Conversion) -> None:
    with conversion.running("ray", RAY_ADDRESS="ray://127.0.0.1:10001") as process:
        said = finished(process, 1)
    assert "the ray engine does not work through Ray Client" in said
