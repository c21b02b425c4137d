"""A conversion from its first look at the source to the manifest: plan, map, assemble; resume where one was cut short.

OUT/SPLIT/.wdsremux/plan.json      written before any work: what was asked for, and who bakes what
OUT/SPLIT/.wdsremux/task-*.json    the journal: one record a finished task
OUT/SPLIT/index.json               written last; with it the split is finished
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdsremux import files
from wdsremux.conversion import classes, environment, folder, journal, overlap, repair, space
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines import Done, Engine, make_engine
from wdsremux.conversion.events import Event, Finished, Noted, Planned, Progress, Warned
from wdsremux.conversion.journal import Journal, Request
from wdsremux.conversion.plan import Extent, Plan, Task, make_plan
from wdsremux.conversion.recipes.base import BUILT_IN, Recipe
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.reject_count import RejectCount
from wdsremux.conversion.source import Source
from wdsremux.conversion.source.opening import Asked, open_asked
from wdsremux.conversion.space import Estimate
from wdsremux.conversion.spec import Spec
from wdsremux.errors import ConversionError, OutputError
from wdsremux.format import card, manifest, samples
from wdsremux.format.manifest import Manifest
from wdsremux.format.samples import NO_LABEL

Tell = Callable[[Event], None]


def convert_split(spec: Spec, tell: Tell) -> Manifest:
    """Convert one split, finish what an earlier run began, or mend a finished split of which files are missing.

    Args:
        spec: what is asked for.
        tell: called with every event, in this process.

    Raises:
        WdsremuxError: one sentence; what is finished stays, and the same call goes on from there.
    """
    overlap.check_places(spec.source, spec.out, spec.folder)
    card.check_ours(spec.out)
    engine = make_engine(spec.engine, spec.workers)
    recipe = make_recipe(spec.recipe, spec.settings)
    source = _open(spec)
    overlap.check_files(spec.source, source.local_files, spec.out, spec.folder)
    plan = _plan(spec, source)
    request = Request(source.description, recipe.identity, spec.shaping(source.columns, plan), spec.seed)
    if (sealed := _sealed(spec, request)) is not None:
        tell(Finished(sealed, True, source.size_bytes, spec.folder))
        return sealed
    with _disk_faults(spec.folder), folder.held(spec.folder, spec.overwrite) as work:
        done = folder.finished(spec.folder)
        if done is not None:
            _check_request(spec, request, done)
        lacking = None if done is None else repair.missing(spec.folder, done)
        unlabelled = None
        if done is None or lacking:
            now = engine.environment()
            with card.held(spec.out):  # another split that begins beside this one has to find its classes
                source = _settled(spec, source)
                environment_ = done.environment if done else now
                begun = journal.begin(work, request, plan, environment_, source.stamp, source.classes)
            run = _Run(spec, engine, source.stored(work), recipe, begun, now, tell)
            run.tell_of_source()
            if done and lacking:
                result = _mend(run, done, lacking)
            else:
                result, unlabelled = _finish(run, request)
        else:
            result = done
        journal.clear(work)
        card.write(spec.out)  # each time: a kill may have come between manifest and card
    tell(Finished(result, result is done and not lacking, source.size_bytes, spec.folder, unlabelled))
    return result


def _check_request(spec: Spec, request: Request, done: Manifest) -> None:
    """
    Raises:
        OutputError: if a finished split was asked for otherwise.
    """
    request.check(Request(done.source, done.recipe, done.options, done.seed), spec.folder)
    _check_classes(spec, None if done.classes is None else tuple(done.classes))


def _check_classes(spec: Spec, names: tuple[str, ...] | None) -> None:
    """
    Raises:
        OutputError: if the user asks for other classes than a split was begun with.
    """
    if spec.classes is not None and names != spec.classes:
        raise OutputError(
            f"{spec.folder} was begun with other classes than --classes names now. Ask for the same, choose another "
            "OUT, or begin anew with --overwrite"
        )


def _settled(spec: Spec, source: Source) -> Source:
    """The source under OUT's class list."""
    own = classes.of_split(spec.folder)
    if own is not None and own.stated:
        _check_classes(spec, own.names)
    return classes.settle(source, spec.folder, own, classes.of_others(spec.out, spec.split))


@dataclass(frozen=True, slots=True)
class _Run:
    """What the steps of one run have in common."""

    spec: Spec
    engine: Engine
    source: Source
    recipe: Recipe
    begun: Journal
    environment: dict[str, Any]
    tell: Tell

    def bakery(self, mended: Manifest | None) -> Bakery:
        return Bakery(
            source=self.source,
            recipe=self.recipe,
            folder=self.spec.folder,
            work=self.begun.work,
            split=self.spec.split,
            seed=self.spec.seed,
            environment=self.environment,
            shuffle=not self.spec.no_shuffle,
            mended=None if mended is None else {shard.url: shard for shard in mended.shards},
        )

    def tell_of_source(self) -> None:
        """Say what is not taken of the source, and what should be known of it."""
        for text in self.source.warnings:
            self.tell(Warned(text))
        for text in self.source.notes:
            self.tell(Noted(text))

    def check_environment(self, changed: str) -> None:
        """Say that it changed since the conversion began.

        Raises:
            OutputError: with --strict.
        """
        if not changed:
            return
        if self.spec.strict:
            raise OutputError(
                f"{self.spec.folder} was begun in another environment: {changed}. Install what it was begun with, "
                "go on without --strict, or begin anew with --overwrite"
            )
        self.tell(Warned(f"the environment changed since this conversion began: {changed}. Bytes may differ"))

    def check_source(self) -> None:
        """Say that its files may have changed since the conversion began.

        Raises:
            OutputError: with --strict.
        """
        if not self.begun.touched:
            return
        what = (
            f"files of the source were written to since {self.spec.folder} was begun, though names and sizes are the "
            "same: if their content changed, it will hold some of either. Begin anew with --overwrite to have it of one"
        )
        if self.spec.strict:
            raise OutputError(f"{what}, or go on without --strict")
        self.tell(Warned(what))


def _open(spec: Spec) -> Source:
    """The source; where an earlier run of the same has pinned its commit, at that one."""
    pinned = None
    if not spec.overwrite:
        done = folder.finished(spec.folder)
        begun = journal.begun(spec.folder / journal.FOLDER)
        before = done.source if done is not None else begun.source if begun is not None else None
        # A short id such as "mnist" is what the Hub has under another name.
        same = before is not None and f"/{before['name']}".endswith(f"/{spec.source}")
        pinned = before["revision"] if before and same else None
    return open_asked(
        Asked(
            source=spec.source,
            split=spec.split,
            config=spec.config,
            revision=spec.revision,
            pinned=pinned,
            image_column=spec.image_column,
            label_column=spec.label_column,
            classes=spec.classes,
            classes_before=_classes_before(spec),
            keep=spec.keep,
            columns_made=not (isinstance(spec.recipe, str) and BUILT_IN.fullmatch(spec.recipe)),
            patience_s=spec.patience,
        )
    )


def _classes_before(spec: Spec) -> tuple[str, ...] | None:
    """The list that OUT has already: what a source that cannot count its classes goes by."""
    lists = classes.of_others(spec.out, spec.split)
    own = None if spec.overwrite else classes.of_split(spec.folder)
    found = [each.names for each in (own, *lists.values()) if each is not None and each.names]
    return found[0] if found else None


def _plan(spec: Spec, source: Source) -> Plan:
    return make_plan(
        [Extent(fragment.rows, fragment.size_bytes) for fragment in source.fragments],
        spec.seed,
        spec.samples_per_shard,
        spec.samples_per_task,
        shuffle=not spec.no_shuffle,
        limit=spec.limit,
    )


def _sealed(spec: Spec, request: Request) -> Manifest | None:
    """The manifest of a split that is finished, lacks nothing, and cannot be written to; None of any other.

    Raises:
        OutputError: if it was asked for otherwise.
    """
    if spec.overwrite or not folder.sealed(spec.folder):
        return None
    with _disk_faults(spec.folder):
        done = folder.finished(spec.folder)
        if done is None:
            return None
        _check_request(spec, request, done)
        return None if repair.missing(spec.folder, done) else done


@contextlib.contextmanager
def _disk_faults(folder_: Path) -> Iterator[None]:
    """Turn what the disk says (full, read-only, gone) into one sentence."""
    try:
        yield
    except OSError as error:
        raise ConversionError(
            f"{folder_} cannot be written to: {error.strerror or error}. Run the same command again to go on"
        ) from error


def _finish(run: _Run, request: Request) -> tuple[Manifest, int]:
    """Bake what is not baked yet, and put all together; with the number of samples without a label."""
    run.check_environment(run.begun.changed)
    run.check_source()
    _bake(run, run.begun.plan.tasks, run.bakery(None))
    return _assemble(run, request)


def _mend(run: _Run, done: Manifest, lacking: set[str]) -> Manifest:
    """Make the missing files of a finished split again."""
    run.check_environment(environment.difference(done.environment, run.environment))
    run.tell(Warned(f"{len(lacking)} files of {run.spec.folder} are missing or damaged, and are made again"))
    tasks = repair.tasks(run.begun.plan, done, lacking, run.begun.recorded)
    _bake(run, tasks, run.bakery(done))
    repair.rebuild(run.spec.folder, done, lacking, run.begun.records)
    return done


def _bake(run: _Run, tasks: Sequence[Task], bakery: Bakery) -> None:
    """Run those of the tasks that are not done."""
    begun, spec = run.begun, run.spec
    pending = [task for task in tasks if bakery.mended is not None or not begun.has(task, spec.folder)]
    waiting = {task.number for task in pending}
    records = [
        begun.record(task.number) for task in begun.plan.tasks if begun.recorded(task) and task.number not in waiting
    ]
    rows_done = sum(record.rows for record in records)
    run.tell(Planned(begun.plan, rows_done, run.source.size_bytes))
    tally = RejectCount(spec, begun.plan.rows, rows_done, sum(len(record.rejects) for record in records))
    tally.check(None)
    estimate = Estimate.of(pending, run.source, spec.folder, begun.plan.samples_per_shard)
    if spec.engine == "local":
        space.check_open_files(min(spec.workers, len(pending)))
    with contextlib.closing(run.engine.map(pending, bakery)) as messages:
        for message in messages:
            if isinstance(message, Done):
                continue
            run.tell(message)
            if isinstance(message, Progress):
                tally.add(message)
                estimate.add(message)


def _assemble(run: _Run, request: Request) -> tuple[Manifest, int]:
    """Put the journal's records together: the sample table, the rejects, and last the manifest.

    Returns:
        The manifest, and how many samples have no label.
    """
    spec, begun = run.spec, run.begun
    shards = [shard for record in begun.records() for shard in record.shards]
    nsamples = sum(shard.nsamples for shard in shards)
    unlabelled = 0

    def counted() -> Iterator[samples.Table]:
        nonlocal unlabelled
        for table in begun.tables():
            unlabelled += int((table["label"] == NO_LABEL).sum())
            yield table

    with files.atomic(spec.folder / samples.NAME) as file:
        samples.write(file, counted(), nsamples)
    with files.atomic(spec.folder / manifest.REJECTS) as file:
        for record in begun.records():
            file.write(record.rejected())
    result = Manifest(
        split=spec.split,
        nsamples=nsamples,
        nrejects=sum(len(record.rejects) for record in begun.records()),
        ndropped=sum(record.ndropped for record in begun.records()),
        classes=run.source.classes,
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
    return result, unlabelled
