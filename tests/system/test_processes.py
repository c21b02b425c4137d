"""A loader among processes: forked, spawned, interrupted, left alone at exit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

#: What all scripts begin with. A script says what it found on stdout; whatever else it prints is a fault.
HEAD = """
import multiprocessing, os, signal, sys, threading, time, warnings
import torch, wdsremux
from wdsremux.errors import StateError
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
torch.set_num_threads(1)  # threads of OpenMP that the parent has started are waited for in a forked child, without end

def opened(**options):
    return wdsremux.DataLoader({out!r}, 20, size=32, backend={backend!r}, num_threads=2, **options)

def digest(batches):
    return round(sum(float(images.double().sum()) for images, _ in batches), 6)
"""


def begun(script: str, out: Path, backend: str) -> subprocess.Popen[str]:
    code = HEAD.format(out=str(out), backend=backend) + script
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], wanted: int = 0) -> str:
    try:
        printed, complaints = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"hangs; so far: {process.communicate()}")
    assert process.returncode == wanted, complaints
    if wanted == 0:
        assert complaints == ""
    return printed


FORK = """
with opened() as loader:
    whole = digest(loader)
    loader.set_epoch(0)
    batches = iter(loader)
    first = [next(batches), next(batches)]
    child = os.fork()
    if child == 0:
        for use in (lambda: next(batches), lambda: next(iter(loader))):
            try:
                use()
            except StateError as error:
                print(error, flush=True)
        with opened() as own:
            print("child", digest(own) == whole, flush=True)
        loader.close()
        os._exit(0)  # as multiprocessing ends its children; at another exit DALI looks for threads it left behind
    print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print("parent", digest([*first, *batches]) == whole)
"""


def test_a_fork_in_mid_epoch(converted: Path, backend: str) -> None:
    """The child is told, and makes its own; the parent goes on."""
    sentence = "this loader is already in use in the parent process. Create a new one in this process"
    assert ended(begun(FORK, converted, backend)).splitlines() == [
        sentence,
        sentence,
        "child True",
        "exit 0",
        "parent True",
    ]


FORK_BEFORE = """
loader = opened()
wanted = len(loader)
children = []
for rank in range(2):
    child = os.fork()
    if child == 0:
        print(len(list(loader)) == wanted, flush=True)
        loader.close()
        os._exit(0)
    children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(children, len(list(loader)) == wanted)
loader.close()
"""


def test_a_loader_not_yet_begun_may_be_forked(converted: Path, backend: str) -> None:
    assert ended(begun(FORK_BEFORE, converted, backend)).splitlines() == ["True", "True", "[0, 0] True"]


BESIDE_TORCHS = """
class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return i * i

with opened() as loader:
    for number, _ in enumerate(loader):
        if number % 5 == 0:
            forked = torch.utils.data.DataLoader(Squares(), 4, num_workers=2, multiprocessing_context="fork")
            assert [batch.tolist() for batch in forked] == [[0, 1, 4, 9], [16, 25, 36, 49]]
    print(number + 1 == len(loader))
"""


def test_beside_torchs_own_with_forked_workers(converted: Path, backend: str) -> None:
    assert ended(begun(BESIDE_TORCHS, converted, backend)) == "True\n"


def test_spawned_processes_make_their_own(converted: Path, backend: str, tmp_path: Path) -> None:
    script = tmp_path / "spawns.py"
    body = """
def work(wanted, queue):
    with opened() as own:
        queue.put(digest(own) == wanted)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    with opened() as loader:
        batches = iter(loader)
        first = next(batches)
        try:
            context.Process(target=print, args=(loader,)).start()
        except TypeError as error:
            print(error)
        wanted = digest([first, *batches])
        child = context.Process(target=work, args=(wanted, queue))
        child.start()
        child.join()
        print(child.exitcode, queue.get())
"""
    script.write_text(HEAD.format(out=str(converted), backend=backend) + body)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    refusal, outcome = ended(process).splitlines()
    assert refusal.startswith("this loader has started, and its threads and open files cannot be copied or pickled. ")
    assert outcome == "0 True"


INTERRUPTED = """
def again(lost):
    # Python drops what comes while it removes a thread from its own lists: one Ctrl-C in thousands.
    if isinstance(lost.exc_value, KeyboardInterrupt) and lost.object.__module__ == "_weakrefset":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        sys.__unraisablehook__(lost)

sys.unraisablehook = again
signal.signal(signal.SIGINT, signal.default_int_handler)
loader = opened()
try:
    print("begun", flush=True)
    while True:
        for _ in loader:
            pass
except KeyboardInterrupt:
    left = [thread.name for thread in threading.enumerate() if thread.name == "wdsremux-feed"]
    print("feeds", left, len(list(loader)) == len(loader), flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["loader.close()", "pass", "raise"])
def test_an_interrupt_ends_it_at_once(converted: Path, backend: str, end: str) -> None:
    """Wherever Ctrl-C comes; whether the loader is closed afterwards or not; and it may be used again."""
    process = begun(INTERRUPTED.replace("{end}", end), converted, backend)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert process.stdout.readline().endswith("True\n")
        ended(process, wanted=-signal.SIGINT if end == "raise" else 0)
        assert time.monotonic() - sent < 30
    finally:
        if process.poll() is None:  # it would keep a core busy to the end of all tests
            process.kill()
            process.communicate()


@pytest.mark.parametrize("end", ["next(iter(loader))", "batches = iter(loader); next(batches)", "list(loader)"])
def test_a_script_may_end_without_closing(converted: Path, backend: str, end: str) -> None:
    assert ended(begun(f"loader = opened()\n{end}\nprint('end')", converted, backend)) == "end\n"


IMPORTS = {
    "DALI before": "import nvidia.dali\natexit.register(check)\nimport torch, wdsremux\n",
    "DALI after": "import torch, wdsremux\natexit.register(check)\nimport nvidia.dali\n",
    "DALI by the loader": "import torch, wdsremux\natexit.register(check)\n",
}
LEFT = """
loaders = [wdsremux.DataLoader({out!r}, 20, size=64, backend="dali", augment=kind) for kind in ("train", "eval")]
batches = [iter(loader) for loader in loaders]
for each in batches:
    next(each)
"""
CHECK = """
import atexit, threading
def check():
    print(sum(thread.name == "wdsremux-feed" for thread in threading.enumerate()))
"""


@pytest.mark.parametrize("order", IMPORTS)
def test_a_script_with_two_loaders_of_dali_may_end_in_mid_epoch(converted: Path, order: str) -> None:
    """At its exit DALI asserts that nothing makes pipelines any more: our threads have ended by then."""
    code = CHECK + IMPORTS[order] + LEFT.format(out=str(converted))
    for _ in range(3):
        script = [sys.executable, "-c", code]
        process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert ended(process) == "0\n"
