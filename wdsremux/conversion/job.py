"""A conversion from its first look at the source to the manifest: plan, map, assemble; resume where one was cut short.

OUT/SPLIT/.wdsremux/plan.json      written before any work: what was asked for, and who bakes what
OUT/SPLIT/.wdsremux/task-*.json    the journal: one record a finished task
OUT/SPLIT/index.json               written last; with it the split is finished
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wdsremux.conversion import classes, folder, journal, overlap, situation, space
from wdsremux.conversion.engines import Engine, make_engine
from wdsremux.conversion.events import Finished
from wdsremux.conversion.plan import Extent, Plan, bytes_read, make_plan
from wdsremux.conversion.recipes.base import Recipe
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.recipes.names import BUILT_IN
from wdsremux.conversion.request import Request
from wdsremux.conversion.run import Run, Tell
from wdsremux.conversion.situation import Incomplete, ReadOnly, Unfinished, Whole
from wdsremux.conversion.source import Source
from wdsremux.conversion.source.opening import open_source
from wdsremux.conversion.source.selection import Settled
from wdsremux.conversion.spec import Spec
from wdsremux.errors import OutputError
from wdsremux.format import card
from wdsremux.format.manifest import Manifest


@dataclass(frozen=True, slots=True)
class _Job:
    """What is asked for, once the source was looked at."""

    spec: Spec
    engine: Engine
    recipe: Recipe
    source: Source
    plan: Plan
    request: Request

    @property
    def bytes_source(self) -> int | None:
        """Of what is converted of the source; None where that is not known."""
        return bytes_read(self.plan, extents(self.source))


def convert_split(spec: Spec, tell: Tell) -> Manifest:
    """Convert one split, finish what an earlier run began, or mend a finished split of which files are missing.

    Args:
        spec: what is asked for.
        tell: called with every event, in this process.

    Raises:
        WdsremuxError: one sentence; what is finished stays, and the same call goes on from there.
    """
    overlap.check_places(spec.selection.source, spec.out, spec.folder)
    card.check_ours(spec.out)
    engine = make_engine(spec.engine, spec.workers)
    recipe = make_recipe(spec.recipe, spec.settings)
    source = open_for(spec)
    overlap.check_files(spec.selection.source, source.local_files, spec.out, spec.folder)
    return _convert(_job(spec, engine, recipe, source), tell)


def convert_source(spec: Spec, source: Source, tell: Tell) -> Manifest:
    """Convert a source that is open already, whatever `spec` calls it; else as `convert_split`."""
    engine = make_engine(spec.engine, spec.workers)
    return _convert(_job(spec, engine, make_recipe(spec.recipe, spec.settings), source), tell)


def _convert(job: _Job, tell: Tell) -> Manifest:
    spec = job.spec
    with space.disk_faults(spec.folder), situation.held(spec.folder, spec.overwrite) as found:
        match found:
            case ReadOnly(done):
                finished = _as_it_is(job, done)
            case Whole(done):
                finished = _as_it_is(job, done)
                _tidy(spec)
            case Incomplete(done, lacking):
                finished = _mended(job, done, lacking, tell)
                _tidy(spec)
            case Unfinished():
                finished = _finished(job, tell)
                _tidy(spec)
    tell(finished)
    return finished.manifest


def _job(spec: Spec, engine: Engine, recipe: Recipe, source: Source) -> _Job:
    """Plan; nothing is written."""
    plan = plan_for(spec, source)
    request = Request(source.description, recipe.identity, spec.shaping(source.columns, plan), spec.seed)
    return _Job(spec, engine, recipe, source, plan, request)


def _as_it_is(job: _Job, done: Manifest) -> Finished:
    """Nothing is left to do."""
    _check_request(job, done)
    return Finished(done, True, job.bytes_source, job.spec.folder)


def _mended(job: _Job, done: Manifest, lacking: frozenset[str], tell: Tell) -> Finished:
    """The missing files are made again."""
    _check_request(job, done)
    result = _begun(job, tell, done.environment).mend(done, lacking)
    return Finished(result, False, job.bytes_source, job.spec.folder)


def _finished(job: _Job, tell: Tell) -> Finished:
    """What is not baked yet is baked, and all put together."""
    result, unlabelled = _begun(job, tell, None).finish()
    return Finished(result, False, job.bytes_source, job.spec.folder, unlabelled)


def _begun(job: _Job, tell: Tell, before: dict[str, Any] | None) -> Run:
    """The run that goes on from what an earlier one left, or is the first.

    Args:
        job: what is asked for.
        tell: is called with every event.
        before: the environment of a finished split; None where none is finished.
    """
    spec, now = job.spec, job.engine.environment()
    work = spec.folder / journal.FOLDER
    with card.held(spec.out):  # another split that begins beside this one has to find its classes and container
        folder.check_container(spec.out, spec.selection.split, spec.container)
        source = _settled(spec, job.source)
        begun = journal.begin(
            work, job.request, job.plan, now if before is None else before, source.stamp, source.classes
        )
    return Run(spec, job.engine, source.stored(work), job.recipe, job.request, begun, now, tell)


def _tidy(spec: Spec) -> None:
    """Clear what attempts have left, and say in the dataset card what is there: a kill may have come before that."""
    journal.clear(spec.folder / journal.FOLDER)
    card.write(spec.out)


def _check_request(job: _Job, done: Manifest) -> None:
    """
    Raises:
        OutputError: if a finished split was asked for otherwise.
    """
    job.request.check(Request(done.source, done.recipe, done.options, done.seed), job.spec.folder)
    _check_classes(job.spec, None if done.classes is None else tuple(done.classes))


def _check_classes(spec: Spec, names: tuple[str, ...] | None) -> None:
    """
    Raises:
        OutputError: if the user asks for other classes than a split was begun with.
    """
    if spec.selection.classes is not None and names != spec.selection.classes:
        raise OutputError(
            f"{spec.folder} was started with a different class list than --classes names now. Use the same list, "
            "choose another output folder, or start again with --overwrite"
        )


def _settled(spec: Spec, source: Source) -> Source:
    """The source under OUT's class list."""
    own = classes.of_split(spec.folder)
    if own is not None and own.stated:
        _check_classes(spec, own.names)
    return classes.settle(source, spec.folder, own, classes.of_others(spec.out, spec.selection.split))


def open_for(spec: Spec) -> Source:
    """The source; where an earlier run of the same has pinned its commit, at that one."""
    recipe_makes = not (isinstance(spec.recipe, str) and BUILT_IN.fullmatch(spec.recipe))
    return open_source(spec.selection, Settled(_commit_before(spec), _classes_before(spec)), recipe_makes)


def _commit_before(spec: Spec) -> str | None:
    """What an earlier run has recorded as the revision of the same source."""
    if spec.overwrite:
        return None
    done, begun = folder.finished(spec.folder), journal.begun(spec.folder / journal.FOLDER)
    before = done.source if done is not None else begun.source if begun is not None else None
    # A short id such as "mnist" is what the Hub has under another name.
    same = before is not None and f"/{before['name']}".endswith(f"/{spec.selection.source}")
    return before["revision"] if before and same else None


def _classes_before(spec: Spec) -> tuple[str, ...] | None:
    """The list that OUT has already: what a source that cannot count its classes goes by."""
    lists = classes.of_others(spec.out, spec.selection.split)
    own = None if spec.overwrite else classes.of_split(spec.folder)
    found = [each.names for each in (own, *lists.values()) if each is not None and each.names]
    return found[0] if found else None


def plan_for(spec: Spec, source: Source) -> Plan:
    """All tasks of what is asked for."""
    return make_plan(
        extents(source),
        spec.seed,
        spec.samples_per_shard,
        spec.samples_per_task,
        shuffle=spec.shuffle,
        limit=spec.limit,
    )


def extents(source: Source) -> list[Extent]:
    """Of its fragments."""
    return [Extent(fragment.rows, fragment.size_bytes) for fragment in source.fragments]
