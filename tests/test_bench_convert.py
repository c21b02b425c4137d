"""The parts of the conversion benchmark that decide what it says: references, matching, ratios, failed commands."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bench_bake import bake_bytes, bake_codec
from bench_convert import takes_part
from bench_convert_report import Results, Run, ratio, verdicts
from bench_converters import PEERS
from bench_quality import READERS, Originals, psnr_db, read_tar, resized
from bench_tree import Usage
from PIL import Image

from tests.conftest import BENCHMARKS


def picture(seed: int, width: int = 400, height: int = 300) -> Image.Image:
    """Smooth noise."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize(("height", "width"), [(256, 341), (100, 133), (16, 16), (600, 800)])
def test_the_reference_is_what_pillow_rounds(height: int, width: int) -> None:
    image = picture(0)
    expected = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float64)
    assert np.abs(resized(np.asarray(image, np.float64), height, width) - expected).max() <= 1.0


def write_source(folder: Path, images: Sequence[bytes]) -> None:
    (folder / "data").mkdir(parents=True)
    rows = [{"image": {"bytes": data, "path": None}, "label": number % 2} for number, data in enumerate(images)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data/train-00000-of-00001.parquet")


def write_tar(path: Path, baked: Sequence[tuple[bytes, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, (data, label) in enumerate(baked):
            for name, content in ((f"{number}.jpg", data), (f"{number}.cls", str(label).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def test_pictures_are_found_again_in_any_order_and_judged(tmp_path: Path) -> None:
    images = [jpeg(picture(seed)) for seed in range(6)]
    write_source(tmp_path / "source", images)
    baked = [(bake_bytes(data), number % 2) for number, data in enumerate(images)]
    write_tar(tmp_path / "out/a.tar", baked[::-1])
    originals = Originals(tmp_path / "source")
    judged = originals.judge(read_tar(tmp_path / "out"))
    assert judged["images"] == 6
    assert judged["psnr_db"] > 38
    with pytest.raises(ValueError, match="5 pictures of 5 rows, of a source of 6"):
        originals.judge(iter(baked[1:]))
    with pytest.raises(ValueError, match="6 pictures of 5 rows"):
        originals.judge(iter([*baked[1:], baked[1]]))


def test_psnr_of_a_known_error() -> None:
    flat = np.zeros((4, 4, 3))
    assert psnr_db(flat + 1.0, flat) == pytest.approx(48.13, abs=0.01)


def test_pillow_and_the_codec_make_the_same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # other tests may want more than one
    data = jpeg(picture(1, 703, 401))
    sizes = [Image.open(io.BytesIO(bake(data))).size for bake in (bake_bytes, bake_codec)]
    assert sizes[0] == sizes[1] == (448, 256)


def test_each_format_has_a_reader() -> None:
    assert {peer.format for peer in PEERS.values()} <= set(READERS)


def run(number: int, wall_s: float, others_s: float = 0.0) -> Run:
    """Of which a tenth is paid once."""
    whole, few = (
        Usage(wall_s=part, cpu_s=2 * part, others_cpu_s=others_s, peak_pss_bytes=None) for part in (wall_s, wall_s / 10)
    )
    return Run(number, whole, few)


def results() -> Results:
    """Of two rounds; the forum script took part in the second alone."""
    found = Results.of("400-700 px", "made up", 1000, 100, ["wdsremux", "wdsremux-1", "forum"], ["codec"])
    found.runs["wdsremux"] += [run(1, 1.0), run(2, 1.0)]
    found.runs["wdsremux-1"] += [run(1, 1.9, others_s=1.0), run(2, 1.9)]
    found.runs["forum"] += [run(2, 10.0)]
    found.limits["codec"] += [1.0, 0.0038]
    return found


def test_ratios_pair_quiet_runs_of_the_same_round() -> None:
    found = results()
    assert ratio(found, "wdsremux", "forum", found.images_per_s) == [10.0]
    assert ratio(found, "wdsremux", "wdsremux-1", found.images_per_s) == [pytest.approx(1.9)]
    assert found.spread("wdsremux-1", found.cpu_ms).median == pytest.approx(3.8)


def test_targets_are_met_or_not_or_cannot_be_judged() -> None:
    found = results()
    met = {verdict.words: verdict.met for verdict in verdicts("small", found)}
    assert met == {
        "convert, 1 worker / bare codec, CPU time": True,
        "convert, 2 workers / 1, whole command": True,
        "wdsremux / forum, images/s, whole": True,
        "wdsremux / forum, images/s, marginal": True,
    }
    found.runs["forum"] = [run(2, 10.0, others_s=5.0)]
    assert verdicts("small", found)[-1].met is None
    found.fail("forum", "fell over")
    assert "forum" not in found.names()
    assert len(verdicts("small", found)) == 2


@pytest.mark.parametrize(("rounds", "peers", "part"), [(5, 3, [2, 4, 5]), (1, 3, [1]), (5, 5, [1, 2, 3, 4, 5])])
def test_peers_take_part_in_some_rounds(rounds: int, peers: int, part: list[int]) -> None:
    numbers = range(1, rounds + 1)
    assert [number for number in numbers if takes_part("map", number, rounds, peers)] == part
    assert all(takes_part("wdsremux", number, rounds, peers) for number in numbers)


CARELESS = """
import sys
from pathlib import Path
from bench_tree import become_subreaper, run_tree

become_subreaper()
busy = "import time; [None for _ in iter(lambda: time.process_time() < 1.5, False)]"
parent = f"import signal, subprocess, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); " \\
    f"subprocess.run([sys.executable, '-c', {busy!r}])"
usages = [run_tree([sys.executable, "-c", parent], Path(sys.argv[1]), sample_cpu=sample) for sample in (False, True)]
print(*[usage.cpu_s for usage in usages])
"""


def test_cpu_time_that_no_parent_waits_for_is_found(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CARELESS, str(tmp_path / "child.log")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=BENCHMARKS, timeout=60)
    without, sampled = (float(word) for word in done.stdout.split())
    assert without < 1.0 < sampled < 2.5


FAILING = """
import sys
from pathlib import Path
from bench_tree import RunError, become_subreaper, descendants, run_tree

become_subreaper()
child = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('all is lost'); sys.exit(3)"
try:
    run_tree([sys.executable, "-c", child], Path(sys.argv[1]))
except RunError as error:
    print(error, descendants())
"""


def test_a_failed_command_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAILING, str(tmp_path / "child.log")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=BENCHMARKS, timeout=60)
    assert done.stdout.strip() == "exit code 3; the end of child.log: all is lost []"
