"""A conversion from its first look at the source to the manifest: plan, map, assemble; resume where one was cut short.

OUT/SPLIT/.wdsremux/plan.json      written before any work: what was asked for, and who bakes what
OUT/SPLIT/.wdsremux/task-*.json    the journal: one record a finished task
OUT/SPLIT/index.json               written last; with it the split is finished
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from wdsremux import files
from wdsremux.conversion import environment, journal, report
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines import Done, make_engine
from wdsremux.conversion.events import Event, Finished, Planned, Progress, Warned
from wdsremux.conversion.journal import Journal, Request
from wdsremux.conversion.plan import Task, make_plan
from wdsremux.conversion.recipe import make_recipe
from wdsremux.conversion.source import Source, open_source
from wdsremux.conversion.spec import Spec
from wdsremux.errors import FormatError, OutputError, RejectError, VersionError
from wdsremux.format import archive, manifest, samples
from wdsremux.format.manifest import Manifest

_OURS = re.compile(
    r"\.wdsremux|index\.json|samples\.npy|rejects\.jsonl|.*-\d{6,}\.(?:tar|idx)|\..*" + re.escape(files.PARTIAL)
)


def convert_split(spec: Spec, tell: Callable[[Event], None]) -> Manifest:
    """Convert one split, or finish what an earlier run began.

    Args:
        spec: what is asked for.
        tell: called with every event, in this process.

    Raises:
        WdsremuxError: one sentence; what is finished stays, and the same call goes on from there.
    """
    source = open_source(spec.source, spec.split, spec.image_column, spec.label_column)
    plan = make_plan([f.rows for f in source.fragments], spec.seed, spec.samples_per_shard, spec.samples_per_task)
    recipe = make_recipe(spec.recipe, spec.quality, spec.subsampling)
    request = Request(
        source=source.description,
        recipe=recipe.identity,
        options=spec.shaping(plan.samples_per_shard, plan.samples_per_task)
        | {"image_column": source.image_column, "label_column": source.label_column},
        seed=spec.seed,
    )
    with _folder(spec.folder) as work:
        if (done := _finished(spec.folder, request)) is not None:
            report.write_card(spec.out)  # a kill may have come between manifest and card
            tell(Finished(done, True, source.size_bytes))
            return done
        begun = journal.begin(work, request, plan, environment.describe())
        if begun.changed:
            tell(Warned(f"the environment changed since this conversion began: {begun.changed}. Bytes may differ"))
        bakery = Bakery(source, recipe, spec.folder, work, spec.split, spec.seed)
        _bake(spec, begun, bakery, tell)
        result = _assemble(spec, source, request, begun)
    report.write_card(spec.out)
    tell(Finished(result, False, source.size_bytes))
    return result


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Path]:
    """OUT/SPLIT, made and locked; gives the folder of plan and journal.

    Raises:
        OutputError: if it cannot be made, holds files of others, or another process is converting into it.
    """
    try:
        foreign = sorted(p.name for p in folder.iterdir() if not _OURS.fullmatch(p.name)) if folder.exists() else []
        if foreign:
            raise OutputError(
                f"{folder} holds files that are not of a conversion, such as {foreign[0]}. Choose another OUT"
            )
        work = folder / journal.FOLDER
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror}. Choose another OUT") from error
    with files.locked(
        work / "lock", f"another process is converting into {folder}. Wait for it, or choose another OUT"
    ):
        yield work


def _finished(folder: Path, request: Request) -> Manifest | None:
    """The manifest of a split that is whole, with every file of it in its place; None if there is work to do.

    Raises:
        OutputError: if it was made of something else, or otherwise.
    """
    if not (folder / manifest.NAME).exists():
        return None
    try:
        done = manifest.read(folder)
    except VersionError:
        raise
    except FormatError:  # edited or torn: it is made anew from the journal
        return None
    request.check(Request(done.source, done.recipe, done.options, done.seed), folder)
    for shard in done.shards:
        path = folder / shard.url
        if not path.exists() or path.stat().st_size != shard.size_bytes or not _index(path).exists():
            return None
    whole = all((folder / n).exists() and files.sha256(folder / n) == f["sha256"] for n, f in done.files.items())
    return done if whole else None


def _index(shard: Path) -> Path:
    return shard.with_name(archive.index_name(shard.name))


def _bake(spec: Spec, begun: Journal, bakery: Bakery, tell: Callable[[Event], None]) -> None:
    """Run the tasks that have no record yet."""
    done: list[Task] = []
    pending: list[Task] = []
    for task in begun.plan.tasks:
        (done if begun.has(task, spec.folder) else pending).append(task)
    tell(Planned(begun.plan, sum(task.rows for task in done), bakery.source.size_bytes))
    allowed = spec.rejects_allowed(begun.plan.rows)
    rejects = sum(len(begun.record(task.number).rejects) for task in done)
    _check_rejects(rejects, allowed, None)
    with contextlib.closing(make_engine(spec.engine, spec.workers).map(pending, bakery)) as messages:
        for message in messages:
            if not isinstance(message, Done):
                tell(message)
                rejects += len(message.rejects)
                _check_rejects(rejects, allowed, message)


def _check_rejects(rejects: int, allowed: int, last: Progress | None) -> None:
    if rejects <= allowed:
        return
    example = ""
    if last is not None:
        line = last.rejects[-1]
        example = f", for example row {line['row']} of fragment {line['fragment']}: {line['reason']}"
    raise RejectError(
        f"{rejects} rows could not be baked, where {allowed} are allowed{example}. "
        "Look at the source, or allow more with --max-rejects and run the command again"
    )


def _assemble(spec: Spec, source: Source, request: Request, begun: Journal) -> Manifest:
    """Put the journal's records together: the sample table, the rejects, and last the manifest."""
    records = [begun.record(task.number) for task in begun.plan.tasks]
    shards = [shard for record in records for shard in record.shards]
    nsamples = sum(shard.nsamples for shard in shards)
    with files.atomic(spec.folder / samples.NAME) as file:
        samples.write(file, begun.tables(records), nsamples)
    with files.atomic(spec.folder / manifest.REJECTS) as file:
        for record in records:
            for line in record.rejects:
                file.write(json.dumps(line).encode() + b"\n")
    result = Manifest(
        split=spec.split,
        nsamples=nsamples,
        nrejects=sum(len(record.rejects) for record in records),
        ndropped=sum(record.ndropped for record in records),
        classes=source.classes,
        source=request.source,
        recipe=request.recipe,
        options=request.options,
        seed=request.seed,
        environment=begun.environment,
        shards=shards,
        files={name: {"sha256": files.sha256(spec.folder / name)} for name in (manifest.REJECTS, samples.NAME)},
    )
    with files.atomic(spec.folder / manifest.NAME) as file:
        file.write(result.dumps())
    return result
