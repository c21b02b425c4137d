"""Runs a script of scripts/ with its loaders watched: what they hand out is written down, and they can kill the run.

    WATCH_SCRIPT=with_timm WATCH_FOLDER=FOLDER python tests/support/watched.py ARGUMENTS…

A script elsewhere is given by its absolute path. Settings come by environment, because Lightning starts its other
processes with this one's command line. With WATCH_KILL=RANK:BATCH, the whole run dies by SIGKILL when that rank is
handed that batch of the train split: all other ranks, torchrun's agent, and last this process. Ranks take each step
together, so it is known what the others have done.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import wdsremux


class Watched(wdsremux.DataLoader):
    """Asks for ids beside the fields that are wanted, and keeps them to itself."""

    def __init__(self, *args: Any, fields: tuple[str, ...] = ("image", "label"), **options: Any) -> None:
        super().__init__(*args, fields=(*fields, "id"), **options)
        self._watched_split = options.get("split", "train")
        self._watched_batches = 0

    def __iter__(self) -> Iterator[Any]:
        for *batch, ids in super().__iter__():
            self._watched_batches += 1
            state = self.state_dict()
            _note(self._watched_split, state["epoch"], state["position"], ids.tolist())
            if self._watched_split == "train":
                _perhaps_kill(self._watched_batches)
            yield tuple(batch)


def _note(split: str, epoch: int, position: int, ids: list[int]) -> None:
    folder = Path(os.environ["WATCH_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{os.getpid()}.jsonl", "a") as file:
        line = {"split": split, "epoch": epoch, "position": position, "ids": ids}
        file.write(json.dumps(line) + "\n")


def _perhaps_kill(batches: int) -> None:
    if os.environ.get("WATCH_KILL") != f"{os.environ.get('RANK', 0)}:{batches}":
        return
    if "RANK" in os.environ:
        agent = psutil.Process(os.getppid())
        for process in [agent, *agent.children(recursive=True)]:
            if process.pid != os.getpid():
                process.kill()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    wdsremux.DataLoader = Watched  # type: ignore[misc,assignment]  # its arguments are checked by a decorator
    script = os.environ["WATCH_SCRIPT"]
    if os.path.isabs(script):
        runpy.run_path(script, run_name="__main__")
    else:
        importlib.import_module(script).main()
