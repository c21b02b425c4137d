"""The loading benchmark: its store answers as a store does, its ratios are of quiet rounds, its crops lie inside."""

from __future__ import annotations

import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import bench_store
import pytest
from bench_contenders import CONTENDERS, LEFT_OUT
from bench_load_child import Timing, batches_for
from bench_load_report import OTHERS, TARGETS, Results, Run, document, print_report, verdicts
from bench_load_runs import last_error
from bench_load_sets import FORMS
from bench_loaders import RESTARTS, random_box

CONTENT = bytes(range(256)) * 4096  # 1 MB


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """URL of a store that serves one file as /set/a file.bin, and its folder's neighbour not."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served/a file.bin").write_bytes(CONTENT)
    (tmp_path / "secret").write_text("not served")
    server = bench_store.serve({"set": tmp_path / "served"})
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def get(url: str, **headers: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        body: bytes = answer.read()
    return body


def test_the_store_serves_files_and_ranges(store: str) -> None:
    url = f"{store}/set/a%20file.bin"
    assert get(url) == CONTENT
    assert get(url, Range="bytes=10-19") == CONTENT[10:20]
    assert get(url, Range="bytes=1048570-") == CONTENT[1048570:]
    assert get(url, Range="bytes=-7") == CONTENT[-7:]


@pytest.mark.parametrize("path", ["/set/none", "/set/../secret", "/set/%2e%2e/secret", "/other/a", "/"])
def test_the_store_serves_nothing_else(store: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        get(store + path)
    refused.value.close()


def test_the_store_runs_a_command_and_hands_on_its_exit_code(tmp_path: Path) -> None:
    code = "import sys, urllib.request as r; sys.exit(len(r.urlopen(sys.argv[1]).read()))"
    (tmp_path / "file").write_bytes(b"seven b")
    command = [sys.executable, bench_store.__file__, f"set={tmp_path}", "--"]
    command += [sys.executable, "-c", code, "{store}/set/file"]
    assert subprocess.run(command, check=False).returncode == 7


def run(images_per_s: float, others: float = 0.0) -> Run:
    """A run with this rate."""
    timing = Timing(
        import_s=0.1, torch_s=1.0, first_batch_s=1.0, first_epoch_images_per_s=images_per_s, images_per_s=images_per_s
    )
    return Run(timing=timing, others=others)


def test_ratios_are_taken_round_by_round_where_both_were_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(
        warm={
            "auto-float": [run(300), run(600), run(9000)],
            "peer-webdataset-v2": [run(100), run(200), run(1, others=0.5)],
        },
        cold={},
        store={},
        large={},
        peak_pss_bytes={"auto-float": 100, "peer-webdataset-v2": 300},
        failures={"peer-grain": "gone"},
    )
    (verdict,) = verdicts(results)
    assert (verdict.quiet_rounds, verdict.met) == (2, True)
    assert verdict.found is not None
    assert (verdict.found.low, verdict.found.high) == (3.0, 3.0)
    print_report(results)
    printed = capsys.readouterr().out
    assert "peer-grain failed: gone" in printed
    assert all(name in printed for name in LEFT_OUT)
    assert document(results)["contenders"]["auto-float"]["peak_pss_bytes"] == 100


def test_every_target_and_form_is_of_someone() -> None:
    named = {name for target in TARGETS for name in (target.ours, target.peer) if name}
    assert named <= set(CONTENDERS)
    assert len(OTHERS) >= 8
    assert {contender.form for contender in CONTENDERS.values()} <= {"tars", RESTARTS, *FORMS}


def test_crops_lie_inside_the_picture() -> None:
    draw = random.Random(0)
    for width, height in [(256, 341), (400, 256), (10, 1000), (1, 1)] * 50:
        x, y, w, h = random_box(width, height, draw)
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        assert w > 0 < h


def test_two_workers_finish_their_batches_in_pairs() -> None:
    assert [batches_for(images) for images in (1, 512, 513, 2560)] == [2, 2, 4, 10]


def test_a_failure_is_told_in_one_line() -> None:
    log = "Traceback ...\n  File x\nsome.module.OddError: no such thing\nbye\n"
    assert last_error(log) == "some.module.OddError: no such thing"
    assert last_error("only this\n\n") == "only this"
    assert last_error("") == ""
