"""What the commands have in common: --json, -q and -v, help that can be read alone, completion, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, jpeg, tiny_jpeg
from tests.support.plans import hurry, look_at_few
from tests.support.screen import Terminal
from wdsremux import api, cli, commands
from wdsremux.errors import OutputError
from wdsremux.format import underway

Run = Callable[..., tuple[int, str, str]]
COMMANDS: dict[str, Any] = vars(typer.main.get_command(commands.app))["commands"]
#: The console script, under its own name.
SCRIPT = "import sys; sys.argv[0] = 'wdsremux'; from wdsremux.cli import main; main()"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the console script in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wdsremux", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return (caught.value.code, *capsys.readouterr())

    return call


def unfinished(write_source: WriteSource, out: Path) -> None:
    """A split of which 2 of 4 tasks are done."""
    source = write_source([tiny_jpeg(i) for i in range(100)], range(100), rows_a_group=25, split="valid")
    wdsremux.convert(source, out, split="valid", recipe="copy", workers=1, samples_per_task=25, samples_per_shard=5)
    (out / "valid" / "index.json").unlink()
    for record in sorted((out / "valid" / ".wdsremux").glob("task-*.json"))[2:]:
        record.unlink()


def test_info_of_an_unfinished_split(
    run: Run, convert_tiny: ConvertTiny, write_source: WriteSource, tmp_path: Path
) -> None:
    state = "state     unfinished: 50 of 100 rows done in 2 of 4 tasks; run the same conversion again to resume"
    unfinished(write_source, tmp_path / "alone")
    assert run("info", tmp_path / "alone") == (0, f"split     valid\n{state}\n", "")
    out = convert_tiny(3)
    unfinished(write_source, out)
    code, printed, _ = run("info", out)
    assert code == 0
    assert printed.startswith("split     train\n")
    assert f"\n\nsplit     valid\n{state}\n\n`wdsremux preview {out}` shows its images." in printed
    found = json.loads(run("info", out, "--json")[1])
    assert (found["train"]["finished"], found["train"]["nsamples"]) == (True, 3)
    assert found["valid"] == {
        "finished": False,
        "split": "valid",
        "rows": 100,
        "rows_done": 50,
        "tasks": 4,
        "tasks_done": 2,
    }


def test_a_source_and_a_split_in_place_of_a_set(run: Run, convert_tiny: ConvertTiny, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    out = convert_tiny(3)
    for command in ("info", "verify", "bench"):
        code, printed, said = run(command, tmp_path / "photos")
        assert (code, printed) == (1, "")
        assert said == (
            f"wdsremux: {tmp_path}/photos looks like a source, not a converted set. "
            f"Convert it first: wdsremux convert {tmp_path}/photos OUT.\n"
        )
        code, printed, said = run(command, out / "train")
        assert (code, printed) == (1, "")
        assert said == (
            f"wdsremux: {out}/train is itself a split of a converted set. Give the folder of the set, {out}. "
            "Its splits: train.\n"
        )
        if command != "info":
            said = run(command, out, "--split", "val")[2]
            assert said == f"wdsremux: {out} contains no finished split 'val', only train.\n"


def test_verify_json(run: Run, convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(3)
    code, printed, said = run("verify", out, "--json")
    found = json.loads(printed)
    assert (code, said) == (0, "")
    assert found.pop("size_bytes") > 10_240
    assert found == {"sound": True, "damages": [], "splits": 1, "shards": 1, "files": 5}
    (out / "train" / "stray.txt").touch()
    code, printed, _ = run("verify", out, "--json")
    assert code == 1
    what = "is not part of the split. Move it away or delete it"
    assert json.loads(printed)["damages"] == [{"split": "train", "file": "stray.txt", "what": what}]
    code, printed, said = run("verify", out, "-q")
    assert (code, printed) == (1, f"train/stray.txt: {what}\n")
    assert said.startswith("wdsremux: 1 file does not match the manifest (1 split, 1 shard, 5 files, ")


def test_verify_of_a_damaged_manifest(run: Run, convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(3)
    (out / "train" / "index.json").write_text("{}")
    code, printed, _ = run("verify", out)
    assert code == 1
    assert printed.startswith("train/index.json: is not a wdsremux manifest")


def test_bench_json(run: Run, converted: Path) -> None:
    code, printed, said = run(
        "bench", converted, "--split", "test", "--seconds", "0.02", "--size", "32", "--json", "-v"
    )
    assert code == 0
    found = json.loads(printed)
    assert all(way["images_per_s"] > 0 for way in found["ways"])
    assert found["advice"][0].startswith("Fastest")
    assert re.fullmatch(r"wdsremux: torch \S+, device \S+, \d+ decoding threads? on the CPU\n", said)


def test_convert_prints_less_and_more(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(0), b""], columns=None)
    arguments = ("--recipe", "copy", "--workers", 1, "--max-rejects", 1)
    assert run("convert", source, tmp_path / "quiet", *arguments, "-q") == (0, "", "")
    _, printed, said = run("convert", source, tmp_path / "loud", *arguments, "-v")
    assert printed == ""
    assert [line.split(":")[1].strip() for line in said.splitlines()[1:-1]] == ["plan", "engine", "environment"]
    code, printed, said = run("convert", source, tmp_path / "wrong", "--quality", 0, "-q")
    assert (code, printed) == (2, "")
    assert "Invalid quality" in said


def test_quiet_commands_print_what_their_help_says(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    """`convert` and `verify` nothing where all is well, and nothing but what is wrong where it is not."""
    source, out = write_source([tiny_jpeg(0)]), tmp_path / "out"
    assert run("convert", source, out, "-q") == (0, "", "")
    assert run("verify", out, "-q") == (0, "", "")
    assert json.loads(run("verify", out, "-q", "--json")[1])["sound"]
    assert run("info", out, "-q")[:2] == (0, run("info", out)[1])
    assert "decoder" in run("bench", out, "--seconds", 0.02, "--size", 32, "-q")[1]
    (out / "train" / "stray.txt").touch()
    code, printed, said = run("verify", out, "-q")
    assert (code, printed) == (1, "train/stray.txt: is not part of the split. Move it away or delete it\n")
    assert said.startswith("wdsremux: 1 file does not match the manifest")
    helps = {name: next(each.help for each in found.params if each.name == "quiet") for name, found in COMMANDS.items()}
    assert {name for name, text in helps.items() if "Print only errors and warnings. The exit code" in text} == {
        "convert",
        "preview",
        "verify",
    }


def test_verify_and_info_print_more(run: Run, convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(30)
    assert re.fullmatch(r"wdsremux: checked in \d\.\d s with \d+ threads\n", run("verify", out, "-v")[2])
    assert "made with" not in run("info", out)[1]
    assert "made with datasets" in run("info", out, "-v")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_less_and_more_at_once_is_an_error(run: Run, command: str) -> None:
    code, printed, said = run(command, *["x"] * (2 if command == "convert" else 1), "-q", "-v")
    assert (code, printed) == (2, "")
    assert said == "wdsremux: --quiet and --verbose cannot be used together. Choose one of them.\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_can_be_read_alone(command: str) -> None:
    """Each is a whole phrase: a capital in front, a full stop at the end, and some words between."""
    for option in COMMANDS[command].params:
        assert re.fullmatch(r"[A-Z][^.]+ .*\.", option.help), option.name
        assert not re.match(r"(Of|Where|Which|That|Their)\b", option.help), option.name
        assert len(option.help.split()) >= 4, option.name


def test_names_of_arguments(run: Run) -> None:
    assert re.search(r"^Usage: wdsremux convert \[OPTIONS\] \W?SOURCE\W? \W?OUT\W?$", run("convert", "-h")[1], re.M)
    assert "Missing argument 'SOURCE'" in run("convert")[2]
    assert "Missing argument 'OUT'" in run("convert", "a")[2]
    for command in ("info", "verify", "bench"):
        assert re.search(rf"^Usage: wdsremux {command} \[OPTIONS\] \W?OUT\W?$", run(command, "-h")[1], re.M)
        assert "Missing argument 'OUT'" in run(command)[2]


def test_exit_codes_are_documented(run: Run) -> None:
    printed = run("--help")[1]
    assert "..." not in printed.partition("Commands:")[2]
    for line in (
        "0    done",
        "1    an error about a file, the source or OUT",
        "2    a wrong command line",
        "130  stopped by Ctrl-C",
        "143  stopped by SIGTERM",
    ):
        assert f"\n    {line}\n" in printed


@pytest.mark.parametrize(("words", "found"), [("wdsremux ve", "verify"), ("wdsremux convert a b --ov", "--overwrite")])
def test_completion_for_bash(words: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_WDSREMUX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]


@pytest.mark.parametrize("start", [["-m", "wdsremux"], ["-c", SCRIPT]], ids=["module", "script"])
def test_completion_is_of_the_script_however_it_was_started(start: list[str]) -> None:
    # The shell is found among the parents, of which a suite that runs in the background may have none.
    in_shell = ["bash", "-c", '"$@"; exit $?', "bash", sys.executable, *start, "--show-completion", "bash"]
    done = subprocess.run(in_shell, capture_output=True, text=True, check=True)
    assert "_WDSREMUX_COMPLETE=complete_bash" in done.stdout
    assert re.search(r"^complete .* wdsremux$", done.stdout, re.MULTILINE)
    assert "python" not in done.stdout.lower()


def test_completion_can_be_installed(run: Run) -> None:
    assert "--install-completion" in run("--help")[1]


# Ctrl-C, typed on a terminal: the whole group gets it


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.6, 1.0, 1.5])
def test_ctrl_c_while_libraries_load(sample: Path, tmp_path: Path, delay_s: float) -> None:
    """One line, and no traceback of ours, of the server of workers or of a library that was half loaded."""
    arguments = ["convert", str(sample), str(tmp_path / "out"), "--workers", "1", "--samples-per-shard", "1"]
    terminal = Terminal([sys.executable, "-c", f"print('begun', flush=True); {SCRIPT}", *arguments], columns=120)
    terminal.wait_for("begun")
    time.sleep(delay_s)
    terminal.ctrl_c()
    code, (_, *lines) = terminal.finish(), terminal.screen()
    # Where a library was itself running Python code, the interpreter ends by the signal: that is 130 to a shell, too.
    assert code in (130, -signal.SIGINT)
    assert re.fullmatch(r"(\^C)?wdsremux: Stopped.*\.", lines[-1])
    assert all(line.startswith("wdsremux: ") for line in lines[:-1])


def test_ctrl_c_in_mid_run(sample: Path, tmp_path: Path) -> None:
    """It says how many rows are kept, which is where the next run begins; no bar is left."""
    command = [sys.executable, "-m", "wdsremux", "convert", str(sample), str(tmp_path), "--workers", "1"]
    command += ["--samples-per-task", "100", "--samples-per-shard", "5"]
    terminal = Terminal(command, columns=200)
    while not (begun := underway.read(tmp_path / "train")) or not begun.tasks_done:
        assert terminal.process.poll() is None
        time.sleep(0.005)
    terminal.ctrl_c()
    code, lines = terminal.finish(), terminal.screen()
    kept = underway.read(tmp_path / "train")
    assert code == 130
    assert kept is not None
    assert (
        lines[-1] == f"wdsremux: Stopped; {kept.rows_done} of 300 rows are kept. Run the same command again to resume."
    )
    assert "━" in terminal.written.decode()
    assert "━" not in "".join(lines)
    again = Terminal(command, columns=400)
    assert again.finish() == 0
    assert any(f"{kept.rows_done} of them converted by an earlier run" in line for line in again.screen())
    assert again.screen()[-1].endswith(f"see {tmp_path / 'train'}")
    assert "━" not in "".join(again.screen())


def test_ctrl_c_in_python(sample: Path, tmp_path: Path) -> None:
    """The same sentence, and a traceback that is not of our insides."""
    code = (
        "import sys, wdsremux\n"
        "def tell(event):\n"
        "    if isinstance(event, wdsremux.Progress) and event.task > 0: raise KeyboardInterrupt\n"
        "wdsremux.convert(sys.argv[1], sys.argv[2], workers=1, samples_per_task=100, samples_per_shard=5, tell=tell)\n"
    )
    command = [sys.executable, "-c", code, str(sample), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    kept = underway.read(tmp_path / "train")
    assert kept is not None
    assert kept.rows_done == 100
    said = "Stopped; 100 of 300 rows are kept. Run the same command again to resume."
    assert lines[-1] == f"KeyboardInterrupt: {said}"
    assert len(lines) < 10


@pytest.mark.parametrize("error", [None, RuntimeError, ImportError, OSError, wdsremux.WdsremuxError])
def test_ctrl_c_that_a_library_makes_something_else_of(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    write_source: WriteSource,
    tmp_path: Path,
    error: type[Exception] | None,
) -> None:
    """While it is loaded: nothing at all, or another error, as Python itself does within the making of a class."""
    real = api.run

    def swallowed(*arguments: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        if error is not None:
            raise error("half loaded")
        return real(*arguments)

    monkeypatch.setattr(api, "run", swallowed)
    source = write_source([tiny_jpeg(i) for i in range(4)])
    code, printed, said = run("convert", source, tmp_path / "out", "--workers", 1)
    assert (code, printed) == (130, "")
    assert re.fullmatch(r"wdsremux: Stopped.* Run the same command again to (resume|start over)\.\n", said)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it(run: Run, converted: Path) -> None:
    """As one that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run("info", converted)[0] == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("command", ["verify", "info", "bench"])
def test_ctrl_c_in_other_commands(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str) -> None:
    def interrupted(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)

    for place in ("format.manifest.read", "format.underway.read_all", "inspection.verify.check"):
        monkeypatch.setattr(f"wdsremux.{place}", interrupted)
    assert run(command, tmp_path) == (130, "", "wdsremux: Stopped.\n")


def test_overwriting_again_would_remove_what_is_kept(write_source: WriteSource, tmp_path: Path) -> None:
    from wdsremux.display import stopped_text

    unfinished(write_source, tmp_path)
    assert stopped_text(tmp_path / "valid") == (
        "Stopped; 50 of 100 rows are kept. Run the same command again to resume."
    )
    assert stopped_text(tmp_path / "valid", overwrite=True) == (
        "Stopped; 50 of 100 rows are kept. Run the same command again without --overwrite to resume."
    )
    for record in (tmp_path / "valid" / ".wdsremux").glob("task-*.json"):
        record.unlink()
    assert stopped_text(tmp_path / "valid").startswith("Stopped before the first task was finished; no rows are kept. ")
    assert stopped_text(tmp_path) == "Stopped. Run the same command again to resume."


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_progress_of_commands_is_for_terminals(converted: Path, command: str) -> None:
    """A line that moves and is gone; nothing of it with -q, and nothing in a pipe."""
    call = [sys.executable, "-m", "wdsremux", command, str(converted), "--split", "test"]
    call += ["--seconds", "0.02", "--size", "32"] if command == "bench" else []
    terminal = Terminal(call)
    assert terminal.finish() == 0
    assert f"{command} " in terminal.written.decode()
    assert "━" in terminal.written.decode()
    if command == "bench":
        assert re.search(r"1 of \d+: \w+, cpu, float32 contiguous", terminal.written.decode())
    assert "━" not in "".join(terminal.screen())
    quiet = Terminal([*call, "-q"])
    assert quiet.finish() == 0
    assert "━" not in quiet.written.decode()
    if command == "verify":  # of `bench`, all that it says in a pipe is in `test_bench_json`
        assert "━" not in subprocess.run(call, capture_output=True, text=True, check=True).stderr


def test_verify_tells_python(convert_tiny: ConvertTiny) -> None:
    out, told = convert_tiny(100), list[tuple[int, int]]()
    assert wdsremux.verify(out, tell=lambda done, total: told.append((done, total))) == []
    assert len(told) == 3
    assert told[-1][0] == told[-1][1]


def test_preview(run: Run, convert_tiny: ConvertTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = convert_tiny(30)
    monkeypatch.chdir(tmp_path)
    assert run("preview", out) == (0, f"{out} (train) is shown in preview.png\n", "")
    made = (tmp_path / "preview.png").read_bytes()
    assert made == wdsremux.preview(out).png
    assert run("preview", out, "-n", 3, "-o", "preview.png", "-q") == (0, "", "")  # one of ours is replaced
    assert (tmp_path / "preview.png").read_bytes() != made


def test_plan(run: Run, write_source: WriteSource, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    look_at_few(monkeypatch)
    source = write_source([tiny_jpeg(number) for number in range(30)], range(30))
    code, printed, said = run(
        "plan", source, "--json", "--train-speed", 100, "--epochs", 3, "--no-shuffle", "--workers", 1
    )
    figures = json.loads(printed)
    assert (code, said) == (0, "")
    assert figures["size_bytes_interval"][0] <= figures["size_bytes"] <= figures["size_bytes_interval"][1]
    assert (figures["train_images_per_s"], figures["epochs"], figures["workers"]) == (100, 3, 1)
    assert [each["options"] for each in figures["alternatives"]] == [{"recipe": "resize:28"}]
    code, printed, said = run("plan", source, "--workers", 1, "-v")
    assert code == 0
    assert printed.startswith("source    source, split train: 30 rows in 1 fragment")
    assert re.fullmatch(r"wdsremux: planned in \d+\.\d s\n", said)
    assert run("plan", source, "--split", "nowhere")[:2] == (1, "")
    assert run("plan", source, "--overwrite")[0] == 2
    assert "--label-column" in run("plan", source, "--label-column", "image")[2]


def test_preview_replaces_nothing_else(run: Run, convert_tiny: ConvertTiny, tmp_path: Path) -> None:
    out, other = convert_tiny(30), tmp_path / "holiday.png"
    other.write_bytes(jpeg(np.zeros((8, 8, 3), np.uint8)))
    before = other.read_bytes()
    code, _, said = run("preview", out, "-o", other)
    assert code == 1
    assert f"{other} was not made by `wdsremux preview`" in said
    with pytest.raises(OutputError, match="was not made by"):
        wdsremux.preview(out).save(other)
    assert other.read_bytes() == before
    (tmp_path / "folder.png").mkdir()
    assert run("preview", out, "-o", tmp_path / "folder.png")[0] == 1
    assert "is not a folder" in run("preview", out, "-o", tmp_path / "nowhere" / "a.png")[2]
    assert run("preview", out, "-o", tmp_path / "a.jpg")[0] == 2
