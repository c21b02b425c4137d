"""Starts the training scripts as a user does: alone or under torchrun, each process with one thread; and reads logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.dists import Environment

SCRIPTS = Path(__file__).parents[2] / "scripts"
WATCHED = Path(__file__).parent / "watched.py"
TIMEOUT_S = 240


@dataclass(frozen=True, slots=True)
class Seen:
    """What one rank was handed at one step."""

    split: str
    epoch: int
    position: int  #: in the epoch, over all ranks, after it
    ids: list[int]
    process: str  #: the log it stands in


def start(
    script: str | Path,
    *arguments: object,
    ranks: int = 0,
    folder: Path | None = None,
    watch: Path | None = None,
    kill: str | None = None,
    environment: Environment | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end.

    Args:
        script: the name of one of scripts/, without ".py"; or the path of another.
        arguments: of it.
        folder: to run it in; None: this process's own.
        ranks: processes under torchrun; 0: plainly, without torchrun.
        watch: folder for logs of what its loaders hand out.
        kill: "RANK:BATCH", when to kill it all; see watched.py.
        environment: to run it in; None: this process's own.
    """
    path = WATCHED if watch else script if isinstance(script, Path) else SCRIPTS / f"{script}.py"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
    variables = environment.variables() if environment else dict(os.environ)
    variables = {name: value for name, value in variables.items() if not name.startswith("WATCH_")}
    variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if watch:
        variables |= {"WATCH_SCRIPT": str(script), "WATCH_FOLDER": str(watch)} | ({"WATCH_KILL": kill} if kill else {})
    python = str(environment.python) if environment else sys.executable
    command = [python, *launcher, str(path), *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def output(
    script: str | Path,
    *arguments: object,
    ranks: int = 0,
    folder: Path | None = None,
    watch: Path | None = None,
    environment: Environment | None = None,
) -> str:
    """What a run that must succeed printed."""
    done = start(script, *arguments, ranks=ranks, folder=folder, watch=watch, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def seen(folder: Path) -> list[Seen]:
    """All lines of all logs in a folder."""
    return [
        Seen(**json.loads(line), process=path.stem)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def ids(lines: Iterable[Seen], split: str, epoch: int) -> list[int]:
    """The ids of an epoch, in the order of steps, over all ranks."""
    wanted = [line for line in lines if (line.split, line.epoch) == (split, epoch)]
    return [i for line in sorted(wanted, key=lambda line: (line.position, line.process)) for i in line.ids]


def loss_of_test(text: str) -> float:
    found = re.search(r"test accuracy: .*, loss ([\d.]+)", text)
    assert found is not None, text
    return float(found[1])


def weights(text: str) -> str:
    found = re.search(r"weights sha256 ([0-9a-f]{64})", text)
    assert found is not None, text
    return found[1]
