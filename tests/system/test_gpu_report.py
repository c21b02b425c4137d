"""benchmarks/gpu_report.py: rehearsed whole on the CPU; whatever a part does, the others have their lines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_report import PARTS, report, show
from gpu_report_card import read_log
from gpu_report_part import Settings
from gpu_report_run import Part
from gpu_report_speed import waited
from gpu_report_tests import read_report, summed

from tests.conftest import BENCHMARKS

pytestmark = pytest.mark.system

LIMIT_S = 280  #: two minutes are the aim on two idle cores; tests run on busy ones
HERE = "tests.support.report_parts"


def start(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["env", "CUDA_VISIBLE_DEVICES=", sys.executable, str(BENCHMARKS / "gpu_report.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_a_rehearsal_on_the_cpu(converted: Path, tmp_path: Path) -> None:
    done = start(converted, "--json", tmp_path / "report.json")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "report.json").read_text())
    parts = document["parts"]
    assert list(parts) == [part.name for part in PARTS]
    assert len(parts) == 10
    assert document["settings"]["device"] == "cpu"
    assert {"machine", "versions", "date"} <= document.keys()
    for number, part in enumerate(parts.values(), start=1):
        assert part["state"] in ("measured", "left out"), part
        assert any(line.startswith("left out: ") for line in part["lines"]), "each says what it left out on a CPU"
        assert f"│ {number} {part['title'].split()[0]}" in done.stdout
    found = {name: part["findings"] for name, part in parts.items()}
    assert sum(found["card"]["nvImageCodec"]["figures"]["shares"].values()) == pytest.approx(1)
    for name in ("dali, cpu", "bare dali"):
        (run,) = found["dali"][name]["figures"]["runs"]
        assert run["images_per_s"] > 0
        assert run["cpu_cores"] > 0
    assert found["dali"]["ours/bare"]["figures"]["speed"] > 0
    assert found["parity"]["tests"]["figures"]["counts"] == {"passed": 1}
    assert found["parity"]["tests"]["figures"]["recorded"]
    assert found["faults"]["tests"]["figures"]["counts"] == {"passed": 2}
    assert found["torchcodec"]["profile"]["figures"]["top"]
    assert len([line for line in parts["threads"]["lines"] if "images/s" in line]) == 4
    assert 0 <= found["train"]["decode cpu"]["figures"]["waited_share"] <= 1


def test_whatever_a_part_does_the_others_have_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["fails", "raises", "crashes", "sleeps", "finds_nothing", "lacks_a_library", "lacks_the_set", "measured"]
    limits = {"sleeps": 3.0}
    parts = tuple(Part(name, f"part {name}", f"{HERE}:{name}", limits.get(name, 60)) for name in names)
    settings = Settings(out=str(tmp_path), device="cpu", batch=1, size=1)
    without = Settings(out=None, no_set="no set today", device="cpu", batch=1, size=1)
    outcomes = report(parts[:6], settings, tmp_path / "report.json")
    outcomes |= report(parts[6:], without, None)
    lines = {name: outcome.lines for name, outcome in outcomes.items()}
    assert lines == {
        "fails": ["failed: bad: no such luck", "good: fine"],
        "raises": ["before: kept", "failed: exit code 1: RuntimeError: not foreseen"],
        "crashes": ["before: kept", "failed: ended by SIGSEGV"],
        "sleeps": ["before: kept", "failed: not done within its 3 s"],
        "finds_nothing": ["failed: it found nothing"],
        "lacks_a_library": [
            "left out: inside: none_such cannot be imported",
            "left out: all of it: no_such_library cannot be imported (No module named 'no_such_library')",
        ],
        "lacks_the_set": ["left out: speed: no set today"],
        "measured": ["speed: 2 images/s on cpu"],
    }
    states = {name: outcome.state for name, outcome in outcomes.items()}
    assert list(states.values()) == ["failed"] * 5 + ["left out"] * 2 + ["measured"]
    assert "ValueError: no such luck" in outcomes["fails"].findings["bad"].figures["traceback"]
    written = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert {name: part["lines"] for name, part in written.items()} == {name: lines[name] for name in names[:6]}
    show(outcomes, "a report")
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"part {name}" in printed for name in names)
    assert _ended(int((tmp_path / "child").read_text()))


def _ended(process: int) -> bool:
    """Whether a process is gone, or is about to be."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_exit_code_tells_of_a_failure(tmp_path: Path) -> None:
    """A folder that is no set: what needs one fails by name, and what needs none is there."""
    (tmp_path / "train").mkdir()
    done = start(tmp_path, "--only", "simclr,train", "--json", tmp_path / "report.json")
    assert done.returncode == 1
    parts = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {"simclr": "measured", "train": "failed"}
    assert "contains no finished split" in parts["train"]["findings"]["decode cpu"]["text"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such-folder",), "has no split train. Give a folder that `wdsremux convert` made"),
        (("--only", "speed"), "Invalid part (got speed). Supported: card, dali, "),
        (("--device", "cuda"), "finds no CUDA device; leave out --device for a rehearsal on the CPU."),
    ],
)
def test_what_is_wrong_is_said_at_once(arguments: tuple[str, ...], sentence: str) -> None:
    done = start(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert sentence in done.stderr


def test_what_nvimagecodec_logs() -> None:
    """As nvImageCodec 0.9 writes it: the hardware took six of eight images, and another decoder the other two."""
    log = read_log(
        "\x1b[0;32m[INFO] \x1b[0m[nvjpeg-ext] HW decoder available num_hw_engines=1 num_cores_per_hw_engine=7\n"
        "\x1b[0;32m[INFO] \x1b[0m[nvimgcodec] create nvjpeg_hw_decoder load_hint 1 load_hint_policy 2\n"
        "\x1b[0;32m[INFO] \x1b[0m[nvimgcodec] ImageGenericDecoder::decode num_samples=8\n"
        "\x1b[0;32m[INFO] \x1b[0m[nvimgcodec] decode num_samples=8\n"
        "\x1b[0;32m[INFO] \x1b[0m[nvimgcodec] nvjpeg_hw_decoder selecting max batch size to 14 mini_bs=7\n"
        "\x1b[0;32m[INFO] \x1b[0m[nvimgcodec] 0: nvjpeg_cuda_decoder process #3\n"
        "\x1b[0;32m[INFO] \x1b[0m[nvimgcodec] 0: nvjpeg_cuda_decoder process #5\n"
    )
    assert log.shares() == {"nvjpeg_hw_decoder": 0.75, "nvjpeg_cuda_decoder": 0.25}
    assert log.quotes[0] == "[nvjpeg-ext] HW decoder available num_hw_engines=1 num_cores_per_hw_engine=7"
    assert len(log.quotes) == 3


def test_what_pytest_reports() -> None:
    cases = read_report(
        '<testsuites><testsuite><testcase name="a"><properties><property name="mean" value="0.5"/></properties>'
        '</testcase><testcase name="b"><failure message="assert 1 == 2&#10;more"/></testcase>'
        '<testcase name="c"><skipped message="DALI cannot be loaded"/></testcase></testsuite></testsuites>'
    )
    text, figures = summed(cases, "")
    assert text == "1 failed, 1 passed, 1 skipped; mean at most 0.50; b: assert 1 == 2"
    assert figures["recorded"] == {"a": {"mean": 0.5}}
    assert figures["skipped"] == ["DALI cannot be loaded"]


def test_the_share_of_waiting_is_that_of_the_last_epoch() -> None:
    line = (
        "epoch {}: loss 1.0\n  Bottleneck: JPEG decoding, {} images/s. 256 images, 3 MB in 1.0 s, of which {}% was "
        "spent waiting for data (reading 0.1 s).\n"
    )
    figures = waited(line.format(1, "1,000", 12.5) + line.format(2, "2,500", 3.0))
    assert figures == {"images_per_s": 2500.0, "waited_share": 0.03, "bound_by": "JPEG decoding"}
    with pytest.raises(ValueError, match=r"^train\.py printed no line of stats$"):
        waited("test accuracy: 1")
