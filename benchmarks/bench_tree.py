"""A command and all processes that come of it: wall time, CPU time of all, peak memory of all together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench_machine import busy_cpu_s, environment

PR_SET_CHILD_SUBREAPER = 36  #: of prctl(2)
SAMPLE_PERIOD_S = 0.2
RUN_TIMEOUT_S = 300  #: the slowest takes a tenth of it
LEFTOVER_TIMEOUT_S = 60  #: how long processes may live on after the command that started them


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a command and everything it started took."""

    wall_s: float  #: until the command itself ended
    cpu_s: float  #: user and system, of all processes
    others_cpu_s: float  #: what everybody else took of the same cores meanwhile
    peak_pss_bytes: int | None  #: of all processes together; None if not sampled


def become_subreaper() -> None:
    """Make every orphan below this process its child.

    When a command ends before the fork server that it started, the server becomes an orphan, and its CPU time
    and that of the workers it forked would be lost. A subreaper gets to wait for every one; nothing counts
    twice, because `wait4` gives a process's time and that of those children which it has itself waited for.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit(f"prctl(PR_SET_CHILD_SUBREAPER) failed: {os.strerror(ctypes.get_errno())}.")


class RunError(Exception):
    """A command failed, or left processes behind that would not end; nothing of it runs any more."""


def run_tree(command: list[str], log: Path, sample_memory: bool = False, sample_cpu: bool = False) -> Usage:
    """Run a command, and wait for it and for every process it leaves behind.

    This process must be a subreaper, and have no other children.

    Args:
        command: the program's path and its arguments.
        log: gets what the command prints.
        sample_memory: whether to look at the memory of all processes, which costs some CPU time.
        sample_cpu: whether to look for CPU time that cannot be had by waiting, see `Sampler.lost_cpu_s`.

    Raises:
        RunError: if the command failed or took too long.
    """
    to_log = [
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    sampler = Sampler(sample_memory)
    busy_s = busy_cpu_s(os.sched_getaffinity(0))
    start = time.perf_counter()
    main = os.posix_spawn(command[0], command, environment(), file_actions=to_log)
    if sample_memory or sample_cpu:
        sampler.start()
    try:
        wall_s, cpu_s = wait_for_all(main, start)
    except RunError as error:
        kill_all()
        raise RunError(f"{error}; the end of {log.name}: {last_line(log)}") from None
    finally:
        sampler.stop()
    cpu_s += sampler.lost_cpu_s
    others_cpu_s = max(0.0, busy_cpu_s(os.sched_getaffinity(0)) - busy_s - cpu_s)
    peak_bytes = sampler.peak_bytes if sample_memory else None
    return Usage(wall_s=wall_s, cpu_s=cpu_s, others_cpu_s=others_cpu_s, peak_pss_bytes=peak_bytes)


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "nothing"


def wait_for_all(main: int, start: float) -> tuple[float, float]:
    """Reap children until none is left: seconds from `start` to the end of `main`, CPU seconds of all.

    Raises:
        RunError: if `main` failed or took too long, or something outlived it; then children may be left.
    """
    wall_s, cpu_s = 0.0, 0.0
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(RUN_TIMEOUT_S)
    try:
        while True:
            child, status, usage = os.wait4(-1, 0)
            cpu_s += usage.ru_utime + usage.ru_stime
            if child == main:
                wall_s = time.perf_counter() - start
                signal.alarm(LEFTOVER_TIMEOUT_S)
                if status != 0:
                    raise RunError(f"exit code {os.waitstatus_to_exitcode(status)}")
    except ChildProcessError:
        return wall_s, cpu_s
    finally:
        signal.alarm(0)


def give_up(signal_number: int, frame: object) -> None:
    """A process does not end, and its CPU time cannot be had."""
    raise RunError(f"took over {RUN_TIMEOUT_S} s, or left a process behind for {LEFTOVER_TIMEOUT_S} s")


def kill_all() -> None:
    """End everything below this process, and reap it."""
    while processes := descendants():
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait4(-1, 0)


class Sampler:
    """Looks at everything below this process five times a second.

    PSS, because forked workers share most of what they map: a page of n processes counts as 1/n in each.
    """

    def __init__(self, memory: bool) -> None:
        self.peak_bytes = 0
        self._memory = memory
        self._lost_s: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def lost_cpu_s(self) -> float:
        """CPU seconds, as last seen, of processes whose parent ignores SIGCHLD, as Ray's does.

        The kernel clears such a child away when it ends, and its time appears in nobody's account.
        """
        return sum(self._lost_s.values())

    def _look(self) -> None:
        while not self._ended.wait(SAMPLE_PERIOD_S):
            processes = descendants()
            if self._memory:
                self.peak_bytes = max(self.peak_bytes, sum(pss_bytes(process) for process in processes))
            careless = {process for process in processes if ignores_children(process)}
            for process in processes if careless else ():
                with contextlib.suppress(OSError):
                    parent, cpu_s = parent_and_cpu_s(process)
                    if parent in careless:
                        self._lost_s[process] = cpu_s

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; nothing to do if it was never started."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()


def parent_and_cpu_s(process: int) -> tuple[int, float]:
    """A process's parent, and its CPU seconds with those of the children it has waited for."""
    # The name, in parentheses, may hold anything; state and parent follow it (proc(5): fields 3 and 4, times 14 to 17).
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def ignores_children(process: int) -> bool:
    """Whether a process ignores SIGCHLD."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGCHLD - 1) & 1)
    return False


def descendants() -> list[int]:
    """Processes below this one. None escapes: an orphan's new parent is this process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        process = int(stat.parent.name)
        with contextlib.suppress(OSError):  # it has ended
            children.setdefault(parent_and_cpu_s(process)[0], []).append(process)
    found = list(children.get(os.getpid(), []))
    for process in found:  # grows while it is read
        found += children.get(process, [])
    return found


def pss_bytes(process: int) -> int:
    """Proportional set size of one process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
