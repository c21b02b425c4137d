"""Nothing in a source, a converted set, a journal or a state is run, and no name in it leads out of its folder.

Each payload, were it run, would make a folder: `trap` fails the test that finds one.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import pickle
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from tests.support.reading import digests
from tests.support.sources import write_dozen
from tests.support.splits import header, reseal, tar, write_split
from wdsremux.errors import WdsremuxError
from wdsremux.format import manifest, samples

HOME = Path(wdsremux.__file__).parent.parent
OURS = sorted(path for folder in ("wdsremux", "scripts", "benchmarks") for path in (HOME / folder).rglob("*.py"))
Tally = Callable[[str, str], None]
CODE = "code planted in sources, shards, tables, states and journals"
PATHS = "names and links that lead out of the folder of a converted set"


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Trap:
    """Payloads of many kinds, and the place where one that was run leaves its mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    @property
    def pickled(self) -> bytes:
        return pickle.dumps(Payload(self.mark))

    @property
    def npy(self) -> bytes:
        """An array of objects, which numpy pickles."""
        file = io.BytesIO()
        np.save(file, np.array([Payload(self.mark)], object), allow_pickle=True)
        return file.getvalue()

    @property
    def npz(self) -> bytes:
        file = io.BytesIO()
        np.savez(file, np.array([Payload(self.mark)], object), allow_pickle=True)
        return file.getvalue()

    @property
    def pth(self) -> bytes:
        import torch

        file = io.BytesIO()
        torch.save(Payload(self.mark), file)
        return file.getvalue()

    @property
    def yaml(self) -> str:
        return f"---\nlicense: !!python/object/apply:os.mkdir ['{self.mark}']\n---\n"

    @property
    def arrow(self) -> dict[str, str]:
        """Metadata of a field: pyarrow unpickled it up to version 14 (CVE-2023-47248)."""
        return {
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": self.pickled.decode("latin-1"),
        }


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Or all that follows would show nothing."""
    import torch
    import yaml

    ways: list[Callable[[Trap], object]] = [
        lambda trap: pickle.loads(trap.pickled),
        lambda trap: np.load(io.BytesIO(trap.npy), allow_pickle=True),
        lambda trap: np.load(io.BytesIO(trap.npz), allow_pickle=True)["arr_0"],
        lambda trap: torch.load(io.BytesIO(trap.pth), weights_only=False),
        lambda trap: yaml.unsafe_load(trap.yaml.split("---\n")[1]),
    ]
    for number, run in enumerate(ways):
        trap = Trap(tmp_path / f"{number}")
        run(trap)
        assert trap.mark.is_dir(), f"payload {number}"


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    trap = Trap(tmp_path / "mark")
    yield trap
    assert not trap.mark.exists(), "something ran what it should only have read"


def one_sentence(call: Callable[[], object]) -> str:
    """What a call raises, if that is a WdsremuxError; empty if it raises nothing. No other may come out."""
    said = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # `datasets` leaves files of sources that it refuses open
            call()
    except WdsremuxError as error:
        said = str(error)
    assert "\n" not in said
    return said


def convert(source: Path, out: Path, **options: Any) -> manifest.Manifest:
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "max_rejects": "100%"}
    return wdsremux.convert(source, out, **(given | options))


SIZES: dict[str, Any] = {"samples_per_shard": 3, "samples_per_task": 6}


# Sources


@pytest.mark.parametrize("extension", ["pkl", "pickle", "pyd", "pth", "npy", "npz", "PTH", "npy.gz"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_source_tar_with_pickles_in_it(tmp_path: Path, trap: Trap, tally: Tally, extension: str, keep: bool) -> None:
    import gzip

    content = {"pth": trap.pth, "npy": trap.npy, "npz": trap.npz}.get(extension.lower(), trap.pickled)
    content = gzip.compress(trap.npy) if extension == "npy.gz" else content
    parts = []
    for row in range(3):
        for name, data in ((f"{row}.jpg", tiny_jpeg(row)), (f"{row}.{extension}", content)):
            parts += [header(name, len(data)), data, bytes(-len(data) % 512)]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train-0.tar").write_bytes(b"".join(parts) + bytes(10_240))
    options = {"keep": extension} if keep else {}
    one_sentence(lambda: convert(tmp_path / "source", tmp_path / "out", **options))
    tally(CODE, "never executed")


def test_parquet_with_pickles_in_its_columns(write_source: WriteSource, tmp_path: Path, trap: Trap) -> None:
    rows = [tiny_jpeg(0), trap.pickled, trap.npy, trap.pth]
    text = (datasets.Value("string"), [trap.pickled.decode("latin-1")] * 4)
    source = write_source(rows, range(4), columns={"text": text})
    made = convert(source, tmp_path / "out", keep="text")
    assert (made.nsamples, made.nrejects) == (1, 3)


def test_parquet_and_arrow_with_types_that_pyarrow_used_to_unpickle(tmp_path: Path, trap: Trap) -> None:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field("image", struct), pa.field("label", pa.int64(), metadata=trap.arrow)]
    table = pa.table([[{"bytes": tiny_jpeg(0), "path": None}], [0]], schema=pa.schema(fields))
    for kind in ("parquet", "arrow"):
        (tmp_path / kind).mkdir()
        path = tmp_path / kind / f"train.{kind}"
        if kind == "parquet":
            pq.write_table(table, path, store_schema=True)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        one_sentence(functools.partial(convert, path.parent, tmp_path / f"out-{kind}", image_column="image"))


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml", "dataset_infos.json"])
def test_a_dataset_card_with_yaml_tags(
    write_source: WriteSource, tmp_path: Path, trap: Trap, tally: Tally, card: str
) -> None:
    source = write_source([tiny_jpeg(0)], [0])
    (source / card).write_text(trap.yaml)
    one_sentence(lambda: convert(source, tmp_path / "out"))
    with contextlib.suppress(WdsremuxError):
        convert(source, tmp_path / "out")
        (tmp_path / "out" / "README.md").write_text(trap.yaml)  # a later split makes it anew, without a look
        convert(source, tmp_path / "out")
    tally(CODE, "never executed")


@pytest.mark.parametrize("name", ["source.py", "dataset.py", "__init__.py", "conftest.py"])
def test_a_loading_script_beside_the_data(write_source: WriteSource, tmp_path: Path, trap: Trap, name: str) -> None:
    source = write_source([tiny_jpeg(0)], [0])
    (source / name).write_text(f"import os\nos.mkdir({str(trap.mark)!r})\n")
    one_sentence(lambda: convert(source, tmp_path / "out"))
    one_sentence(lambda: convert(source / "data", tmp_path / "out-2"))


def test_postscript_among_the_images(
    write_source: WriteSource, tmp_path: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow has Ghostscript run it, where that is installed."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\nmkdir {trap.mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert convert(write_source([tiny_jpeg(0), eps], [0, 1]), tmp_path / "out").nrejects == 1


def test_a_recipe_is_never_kept_on_disk(write_source: WriteSource, tmp_path: Path) -> None:
    """cloudpickle carries the caller's own function to this run's own workers, and to no file that is read later."""

    def bake(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if 5 in batch["label"]:
            raise ValueError("stops here")
        return batch

    source, out = write_source([tiny_jpeg(i) for i in range(8)], range(8), rows_a_group=2), tmp_path / "out"
    sizes = {"samples_per_shard": 2, "samples_per_task": 2}
    assert "stops here" in one_sentence(lambda: convert(source, out, recipe=bake, recipe_version="1", **sizes))
    left = [path for path in out.rglob("*") if path.is_file()]
    assert any(path.parent.name == ".wdsremux" for path in left)
    for path in left:
        content = path.read_bytes()
        assert not content.startswith(b"\x80"), path
        assert b"cloudpickle" not in content, path


# A converted set


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source of 12 pictures in row groups of 3, and OUT: two tasks, four shards."""
    folder = tmp_path_factory.mktemp("sound")
    write_dozen(folder / "source")
    convert(folder / "source", folder / "out", **SIZES)
    return folder / "source", folder / "out"


@pytest.fixture
def made(sound: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """That source, and a copy of OUT to change."""
    shutil.copytree(sound[1], tmp_path / "out")
    return sound[0], tmp_path / "out"


def use(source: Path, out: Path) -> list[str]:
    """All that reads a converted set; what each of them says."""

    def load() -> None:
        with wdsremux.DataLoader(out, 4, size=8, backend="torchvision", num_threads=1, verify_crc=True) as loader:
            for _ in loader:
                pass

    calls: list[Callable[[], object]] = [
        lambda: wdsremux.verify(out, decode=True),
        lambda: wdsremux.manifest(out),
        load,
        lambda: convert(source, out, **SIZES),
    ]
    return [one_sentence(call) for call in calls]


@pytest.mark.parametrize("seals", [False, True])
@pytest.mark.parametrize("file", ["train-000001.tar", "train-000001.idx", "samples.npy", "rejects.jsonl", "index.json"])
@pytest.mark.parametrize("kind", ["pickled", "npy", "npz"])
def test_pickles_in_place_of_files(
    made: tuple[Path, Path], trap: Trap, tally: Tally, file: str, kind: str, seals: bool
) -> None:
    folder = made[1] / "train"
    (folder / file).write_bytes(getattr(trap, kind))
    if seals and file != "index.json":
        reseal(folder)
    assert wdsremux.verify(made[1]) != []
    use(*made)
    tally(CODE, "never executed")


def test_pickles_in_a_shard(made: tuple[Path, Path], trap: Trap, tally: Tally) -> None:
    """As members that webdataset would unpickle, sealed so that every digest holds."""
    folder = made[1] / "train"
    for extension, content in (("pyd", trap.pickled), ("pth", trap.pth), ("npy", trap.npy), ("json", trap.pickled)):
        key = "000000-000000"
        (folder / "train-000000.tar").write_bytes(tar([(key, {"jpg": tiny_jpeg(0), extension: content})]))
        reseal(folder)
        assert wdsremux.verify(made[1]) != []
        use(*made)
        tally(CODE, "never executed")


@pytest.mark.parametrize(
    "name", ["plan.json", "task-000000.json", "task-000000.npy", "listing.arrow", "task-000000.pkl"]
)
@pytest.mark.parametrize("kind", ["pickled", "npy", "npz"])
def test_pickles_in_the_journal(made: tuple[Path, Path], trap: Trap, tally: Tally, name: str, kind: str) -> None:
    (made[1] / "train" / "index.json").unlink()
    (made[1] / "train" / ".wdsremux" / name).write_bytes(getattr(trap, kind))
    said = use(*made)[-1]
    assert not said or name in said
    tally(CODE, "never executed")


def test_a_listing_with_types_that_pyarrow_used_to_unpickle(tmp_path: Path, trap: Trap) -> None:
    for i in range(3):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / f"{i}.jpg").write_bytes(tiny_jpeg(i))
    work = tmp_path / "out" / "train" / ".wdsremux"
    work.mkdir(parents=True)
    (work / "lock").touch()
    schema = pa.schema([pa.field("image", pa.int64(), metadata=trap.arrow)])
    with pa.OSFile(str(work / "listing.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(pa.table([[0]], schema=schema))
    assert convert(tmp_path / "source", tmp_path / "out").nsamples == 3


@pytest.mark.parametrize("kind", ["pickled", "npy", "pth"])
def test_a_state_that_is_a_pickle(tmp_path: Path, trap: Trap, kind: str) -> None:
    write_split(tmp_path / "out")
    with wdsremux.DataLoader(tmp_path / "out", 2, fields=("id",), backend="torchvision") as loader:
        for state in (getattr(trap, kind), {"format": getattr(trap, kind)}):
            assert "not a state" in one_sentence(functools.partial(loader.load_state_dict, state))
        state = loader.state_dict() | {"epoch": trap.pickled}
        assert "Invalid epoch" in one_sentence(functools.partial(loader.load_state_dict, state))


# Names that lead out


OUTSIDE = b"not ours"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside OUT, which nothing may change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("train-000000.tar", "train-000000.idx", "index.json", "task-000000-x", "letter"):
        (folder / name).write_bytes(OUTSIDE)
    before = _looks(folder)
    yield folder
    assert _looks(folder) == before


def _looks(folder: Path) -> list[tuple[str, bytes, int, int]]:
    found = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    return [(path.name, path.read_bytes(), about.st_mtime_ns, stat.S_IMODE(about.st_mode)) for path, about in found]


@pytest.mark.parametrize("place", ["relative", "absolute", "within"])
@pytest.mark.parametrize("field", ["url", "split", "files"])
def test_names_in_a_manifest(made: tuple[Path, Path], outside: Path, tally: Tally, field: str, place: str) -> None:
    """Its own SHA-256 holds, as it does whenever somebody takes the trouble."""
    folder = made[1] / "train"
    about = manifest.read(folder)
    lead = {"relative": "../../outside", "absolute": str(outside), "within": "train/../../../outside"}[place]
    values = {name: getattr(about, name) for name in manifest.Manifest.__dataclass_fields__}
    shards = about.shards
    if field == "url":
        first = shards[0]
        shards = [
            manifest.Shard(f"{lead}/train-000000.tar", first.nsamples, 8, first.sha256, first.idx_sha256),
            *shards[1:],
        ]
    elif field == "split":
        values["split"] = f"{lead}/train"
    else:
        values["files"] = about.files | {f"{lead}/letter": {"sha256": "0" * 64}}
    (folder / "index.json").write_bytes(manifest.Manifest(**(values | {"shards": shards})).dumps())
    whole = use(*made)
    assert "contains values that no conversion writes" in whole[1]
    assert whole[2]
    assert not whole[3], "the manifest is made anew, from the journal"
    assert wdsremux.verify(made[1]) == []
    tally(PATHS, "refused, or only the link is replaced")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["train-000000.tar", "train-000000.idx", "samples.npy", "rejects.jsonl", "index.json"])
def test_links_in_place_of_files(
    made: tuple[Path, Path], outside: Path, tally: Tally, name: str, overwrite: bool
) -> None:
    """They are read through, as the Hub has them in its cache; what replaces or removes a file does it to the link."""
    source, out = made
    whole = digests(out)
    (out / "train" / name).unlink()
    (out / "train" / name).symlink_to(outside / "letter")
    assert [damage.file for damage in wdsremux.verify(out)] == [name]
    convert(source, out, overwrite=overwrite, **SIZES)
    assert digests(out) == whole
    assert not (out / "train" / name).is_symlink()
    tally(PATHS, "refused, or only the link is replaced")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/proc/self/mem", "pipe", "folder"])
@pytest.mark.parametrize("file", ["train-000000.tar", "train-000000.idx", "samples.npy", "rejects.jsonl", "index.json"])
def test_what_never_ends_in_place_of_files(made: tuple[Path, Path], tally: Tally, file: str, name: str) -> None:
    path = made[1] / "train" / file
    path.unlink()
    if name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    else:
        path.symlink_to(name)
    assert [damage.file for damage in wdsremux.verify(made[1])] == [file]
    use(*made)
    tally(PATHS, "refused, or only the link is replaced")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "link",
    [
        "train/.wdsremux",
        "train/.wdsremux/task-000000-x",
        "train/.wdsremux/.plan.json.partial",
        "train/.wdsremux/task-000000.json",
        "train/.wdsremux/plan.json",
        "train/.wdsremux/lock",
        "train/.index.json.partial",
        "train/.samples.npy.partial",
        ".README.md.partial",
        "._info.json.partial",
        "README.md",
        ".lock",
    ],
)
def test_links_that_were_planted_in_a_set(
    made: tuple[Path, Path], outside: Path, tally: Tally, link: str, overwrite: bool
) -> None:
    """Where a conversion writes, clears away or locks."""
    source, out = made
    path = out / link
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside if not path.suffix and "lock" not in link else outside / "letter")
    (out / "train" / "index.json").unlink()
    one_sentence(lambda: convert(source, out, overwrite=overwrite, **SIZES))
    tally(PATHS, "refused, or only the link is replaced")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("shards", 0, "url"), "../../outside/train-000000.tar"),
        (("shards", 0, "url"), "/etc/train-000000.tar"),
        (("shards", 0, "size_bytes"), -1),
        (("task",), "../../outside/x"),
        (("rejects",), [{"fragment": "x"}]),
        (("rows",), None),
    ],
)
def test_a_hostile_record_in_the_journal(
    made: tuple[Path, Path], outside: Path, path: tuple[Any, ...], value: object
) -> None:
    record = made[1] / "train" / ".wdsremux" / "task-000000.json"
    whole = digests(made[1])
    _set(record, path, value)
    (made[1] / "train" / "index.json").unlink()
    assert re.search(rf"{record} is damaged: .*\. Delete it", use(*made)[-1])
    record.unlink()
    assert not use(*made)[-1]
    assert digests(made[1]) == whole


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tasks", 0, "reads", 0, "fragment"), 10**6),
        (("tasks", 0, "reads", 0, "rows"), 10**9),
        (("tasks", 0, "blocks", 0, "shards"), 10**9),
        (("tasks", 0, "blocks", 0, "first_shard"), -5),
        (("tasks", 0, "number"), "../../outside/x"),
        (("tasks", 0, "reads"), []),
        (("tasks",), {}),
        (("source", "name"), 7),
        (("source",), "x"),
        (("options",), None),
        (("environment",), []),
    ],
)
def test_a_hostile_plan_in_the_journal(
    made: tuple[Path, Path], outside: Path, path: tuple[Any, ...], value: object
) -> None:
    """With nothing done yet, so that all of it would be done as the plan says."""
    folder, whole = made[1] / "train", digests(made[1])
    _set(folder / ".wdsremux" / "plan.json", path, value)
    for leftover in [*folder.glob("[!.]*"), *(folder / ".wdsremux").glob("task-*")]:
        leftover.unlink()
    assert use(*made)[-1]
    convert(made[0], made[1], overwrite=True, **SIZES)
    assert digests(made[1]) == whole


def _set(file: Path, path: tuple[Any, ...], value: object) -> None:
    values = inner = json.loads(file.read_bytes())
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    file.write_bytes(json.dumps(values).encode())


# What our own code never does

#: By module, what it may do that no other may, and why.
ALLOWED = {
    "wdsremux/conversion/recipes/shipping.py": {"pickle", "cloudpickle"},  # the caller's own function, to workers
    "wdsremux/conversion/engines/attempts.py": {"pickle"},  # a Bakery, from the process that began the worker
    "wdsremux/conversion/engines/local.py": {"pickle"},
    "wdsremux/conversion/engines/ray_worker.py": {"pickle"},
    "wdsremux/conversion/recipes/lookup.py": {"exec", "compile"},  # FILE.py of --recipe
}
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "marshal", "shelve", "dill", "joblib", "jsonpickle", "imp"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.exec", "extractall", "extract"}
CALLS |= {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "runpy.run_path", "pandas.read_pickle"}


def _found(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").partition(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            found |= _calls(node)
    return found


def _calls(node: ast.Call) -> set[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    found = {name, name.rpartition(".")[2] if name.rpartition(".")[2] in ("extractall",) else name} & CALLS
    if name in ("np.load", "numpy.load") and _is(given.get("allow_pickle"), True):
        found.add("np.load(allow_pickle=True)")
    if name in ("np.load", "numpy.load") and "allow_pickle" not in given:
        found.add("np.load without allow_pickle=False")
    if name == "torch.load" and not _is(given.get("weights_only"), True):
        found.add("torch.load without weights_only=True")
    if _is(given.get("shell"), True):
        found.add("shell=True")
    if "trust_remote_code" in given:
        found.add("trust_remote_code")
    return found


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(HOME)))
def test_no_module_of_ours_runs_what_it_reads(path: Path) -> None:
    assert _found(path) == ALLOWED.get(str(path.relative_to(HOME)), set()) & _found(path)


def test_what_is_allowed_is_needed() -> None:
    """So that the list does not outlive its reasons."""
    for name, allowed in ALLOWED.items():
        assert _found(HOME / name) == allowed, name


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f)",
        "tar.extractall(x)",
        "subprocess.run(x, shell=True)",
        "load_dataset(x, trust_remote_code=True)",
        "os.system(x)",
    ],
)
def test_the_look_at_our_code_sees_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "module.py").write_text(text)
    assert _found(tmp_path / "module.py")


def test_trust_remote_code_is_named_nowhere() -> None:
    assert not [path for path in OURS if "trust_remote_code" in path.read_text()]


def test_the_table_is_read_by_numpy_without_pickles() -> None:
    text = Path(samples.__file__).read_text()
    assert "allow_pickle=False" in text


def test_tarfile_takes_nothing_out() -> None:
    """What reads tars reads their members' bytes, and makes no file of them."""
    assert not [path for path in OURS if ".extractall(" in path.read_text() or "tar.extract(" in path.read_text()]
