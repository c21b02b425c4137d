"""What earlier runs left behind: gone on with where it is of this conversion, else cleared away."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from tests.support.reading import digests
from wdsremux import files
from wdsremux.conversion import folder, journal
from wdsremux.conversion.plan import Extent, make_plan
from wdsremux.errors import OutputError


@pytest.fixture
def source(write_source: WriteSource) -> Path:
    return write_source([tiny_jpeg(i) for i in range(40)], range(40), rows_a_group=10)


def convert(source: Path, out: Path, *, seed: int = 0) -> None:
    wdsremux.convert(source, out, recipe="copy", samples_per_shard=10, samples_per_task=20, workers=1, seed=seed)


def test_records_without_their_plan_are_not_gone_on_with(source: Path, tmp_path: Path) -> None:
    """Their shards are of the sizes that they name, and of another conversion; and nothing says that they are ours."""
    convert(source, tmp_path / "wanted", seed=1)
    out = tmp_path / "out"
    convert(source, out)
    (out / "train/index.json").unlink()
    (out / "train/.wdsremux/plan.json").unlink()
    with pytest.raises(OutputError, match="contains files that wdsremux did not write"):
        convert(source, out, seed=1)
    for path in (out / "train").glob("*.*"):
        if path.is_file():
            path.unlink()
    convert(source, out, seed=1)
    assert digests(out) == digests(tmp_path / "wanted")


@pytest.mark.parametrize("zero", [-0.0, False])
@pytest.mark.parametrize(("name", "path"), [("task-000000.json", ["task"]), ("plan.json", ["tasks", 0, "number"])])
def test_what_equals_a_number_of_a_task_and_is_none_is_damage(
    source: Path, tmp_path: Path, name: str, path: list[Any], zero: object
) -> None:
    out = tmp_path / "out"
    convert(source, out)
    (out / "train/index.json").unlink()
    file = out / "train/.wdsremux" / name
    values = json.loads(file.read_text())
    place = values
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]] == zero
    place[path[-1]] = zero
    file.write_text(json.dumps(values))
    with pytest.raises(OutputError, match=rf"{name} is damaged: "):
        convert(source, out)


def test_what_a_killed_run_left_is_cleared_away(source: Path, tmp_path: Path) -> None:
    """Also where nothing else is left to do."""
    out = tmp_path / "out"
    convert(source, out)
    before = sorted(out.rglob("*"))
    (out / "train/.samples.npy.partial").write_bytes(b"half")
    (out / "train/.wdsremux/.task-000001.json.partial").write_bytes(b"half")
    (out / "train/.wdsremux/task-000001-abcdefgh").mkdir()
    (out / "train/.wdsremux/task-000001-abcdefgh/train-000001.tar").write_bytes(b"half")
    convert(source, out)
    assert sorted(out.rglob("*")) == before


def test_a_removal_that_is_cut_short_leaves_the_plan(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is gone by then, what is left is never without the plan that it was made by."""
    out = tmp_path / "out"
    convert(source, out)
    remove = Path.unlink
    left = []

    def watched(path: Path, missing_ok: bool = False) -> None:
        remove(path, missing_ok)
        left.append({p.name for p in out.rglob("*") if p.is_file()} - {"lock", ".lock"})

    monkeypatch.setattr(Path, "unlink", watched)
    with folder.held(out / "train", overwrite=True):
        pass
    assert "index.json" not in left[0]
    assert all("plan.json" in names for names in left[:-1])
    assert left[-1] == {"README.md", "_info.json"}


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a/b/c")
    files.make_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "file")


@pytest.mark.parametrize("limit", [None, 25])
@pytest.mark.parametrize("rows", [[], [3, 40, 0, 7], [5, None, 9]])
def test_a_plan_is_written_as_json_would_write_it(rows: list[int | None], limit: int | None) -> None:
    plan = make_plan([Extent(count, 90_000) for count in rows], 0, 4, 8, limit=limit)
    head = {"version": 2, "source": {"name": "é", "tasks": []}, "options": {}, "classes": None}
    whole = head | {"tasks": [asdict(task) for task in plan.tasks]}
    assert "".join(journal._written(head, plan.tasks)) == json.dumps(whole, indent=1)
