"""One run of a conversion: the tasks that are not done are baked, and what all have made is put together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wdsremux import files
from wdsremux.conversion import environment, portions, repair, space
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines import Done, Engine
from wdsremux.conversion.events import Event, Noted, Planned, Progress, Warned
from wdsremux.conversion.journal import Journal
from wdsremux.conversion.plan import Task
from wdsremux.conversion.recipes.base import Recipe
from wdsremux.conversion.reject_count import RejectCount
from wdsremux.conversion.request import Request
from wdsremux.conversion.source import Source
from wdsremux.conversion.space import Estimate
from wdsremux.conversion.spec import Spec
from wdsremux.conversion.spool import Form
from wdsremux.errors import OutputError, counted
from wdsremux.format import manifest, samples
from wdsremux.format.containers import SampleColumns, container
from wdsremux.format.manifest import Manifest, Shard
from wdsremux.format.samples import NO_LABEL

Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What the steps of one run have in common."""

    spec: Spec
    engine: Engine
    source: Source
    recipe: Recipe
    request: Request
    begun: Journal
    environment: dict[str, Any]  #: that of the workers, now
    tell: Tell

    def finish(self) -> tuple[Manifest, int]:
        """Bake what is not baked yet, and put all together.

        Returns:
            The manifest, and how many samples have no label.

        Raises:
            WdsremuxError: what went wrong; what is finished stays.
        """
        self._tell_of_source()
        self._check_environment(self.begun.changed)
        self._check_source()
        self._bake(self.begun.plan.tasks, self._bakery(None))
        return self._assemble()

    def mend(self, done: Manifest, lacking: frozenset[str]) -> Manifest:
        """Make the missing files of a finished split again.

        Raises:
            WdsremuxError: what went wrong; a file is put in place only if it is what the manifest says.
        """
        self._tell_of_source()
        self._check_environment(environment.difference(done.environment, self.environment))
        what = f"{counted(len(lacking), 'file')} of {self.spec.folder} {'is' if len(lacking) == 1 else 'are'}"
        self.tell(Warned(f"{what} missing or damaged and will be rebuilt"))
        tasks = repair.tasks(self.begun.plan, done, lacking, self.begun.recorded)
        self._bake(tasks, self._bakery(done))
        repair.rebuild(self.spec.folder, done, lacking, self.begun.records)
        return done

    def _bakery(self, mended: Manifest | None) -> Bakery:
        return Bakery(
            source=self.source,
            recipe=self.recipe,
            folder=self.spec.folder,
            work=self.begun.work,
            split=self.spec.selection.split,
            seed=self.spec.seed,
            environment=self.environment,
            form=self._form(),
            shuffle=self.spec.shuffle,
            mended=None if mended is None else {shard.url: shard for shard in mended.shards},
        )

    def _form(self) -> Form:
        """How shards are written."""
        columns, keep, classes = self.source.columns, self.spec.selection.keep, self.source.classes
        named = None if classes is None else tuple(classes)
        kept = columns.stored(keep) if keep else None
        return Form(self.spec.container, SampleColumns(columns.label is not None, named, kept))

    def _tell_of_source(self) -> None:
        """Say what is not taken of the source, and what should be known of it."""
        for text in self.source.warnings:
            self.tell(Warned(text))
        for text in self.source.notes:
            self.tell(Noted(text))

    def _check_environment(self, changed: str) -> None:
        """Say that it changed since the conversion began.

        Raises:
            OutputError: with --strict.
        """
        if not changed:
            return
        if self.spec.strict:
            raise OutputError(
                f"{self.spec.folder} was started in another environment: {changed}. Install the earlier versions, "
                "resume without --strict, or start again with --overwrite"
            )
        self.tell(
            Warned(
                f"the environment changed since this conversion was started: {changed}. The bytes of new shards may "
                "differ"
            )
        )

    def _check_source(self) -> None:
        """Say that its files may have changed since the conversion began.

        Raises:
            OutputError: with --strict.
        """
        if not self.begun.touched:
            return
        what = (
            f"source files were modified after the conversion in {self.spec.folder} was started, with the same names "
            "and sizes. If their content changed, the result mixes old and new images. Use --overwrite to start again"
        )
        if self.spec.strict:
            raise OutputError(f"{what}, or resume without --strict")
        self.tell(Warned(what))

    def _bake(self, tasks: Sequence[Task], bakery: Bakery) -> None:
        """Run those of the tasks that are not done."""
        begun, spec = self.begun, self.spec
        pending = [task for task in tasks if bakery.mended is not None or not begun.has(task, spec.folder)]
        tally, size = RejectCount.of(spec, begun, pending), self.source.size_bytes
        self.tell(Planned(begun.plan, tally.rows, size, spec.engine, spec.workers, self.environment))
        tally.check()
        beside_bytes = container(spec.container).BESIDE_BYTES
        divided = portions.divide(pending, spec.workers, bakery.batch_rows)
        estimate = Estimate.of(divided, self.source, spec.folder, begun.plan.samples_per_shard, beside_bytes)
        if spec.engine == "local":
            steps, spools = sum(map(len, divided)), max(map(portions.most_gathered, divided), default=0)
            space.check_open_files(min(spec.workers, steps), spools)
        with contextlib.closing(self.engine.map(pending, bakery)) as messages:
            for message in messages:
                if isinstance(message, Done):
                    tally.done(message.task)
                    continue
                self.tell(message)
                if isinstance(message, Progress):
                    tally.add(message)
                    estimate.add(message)

    def _assemble(self) -> tuple[Manifest, int]:
        """Put the journal's records together: the sample table, the rejects, and last the manifest."""
        folder, begun, request = self.spec.folder, self.begun, self.request
        shards: list[Shard] = []
        unlabelled = nrejects = ndropped = 0
        with files.atomic(folder / manifest.REJECTS) as file:
            for record in begun.records():
                shards += record.shards
                nrejects += len(record.rejects)
                ndropped += record.ndropped
                file.write(record.rejected())

        def counted() -> Iterator[samples.Table]:
            nonlocal unlabelled
            for table in begun.tables():
                unlabelled += int((table["label"] == NO_LABEL).sum())
                yield table

        nsamples = sum(shard.nsamples for shard in shards)
        with files.atomic(folder / samples.NAME) as file:
            samples.write(file, counted(), nsamples)
        result = Manifest(
            split=self.spec.selection.split,
            nsamples=nsamples,
            nrejects=nrejects,
            ndropped=ndropped,
            classes=self.source.classes,
            source=request.source,
            recipe=request.recipe,
            options=request.options,
            seed=request.seed,
            environment=begun.environment,
            container=self.spec.container,
            shards=shards,
            files={name: {"sha256": files.sha256(folder / name)} for name in (manifest.REJECTS, samples.NAME)},
        )
        with files.atomic(folder / manifest.NAME) as file:
            file.write(result.dumps())
        return result, unlabelled
