"""The class list of OUT: one for all its splits, fixed before any work.

A label means the same class in train and in test only if both splits number classes alike. So the first split that is
converted into OUT fixes the list; another split takes it over, or is refused where it knows classes beyond it.

    whose list holds        the split's own, if it was begun; else that of OUT's other splits; else the source's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wdsremux.conversion import folder, journal
from wdsremux.conversion.source import Source
from wdsremux.errors import OutputError

_EXAMPLES = 5  #: class names that an error shows
ANEW = "Convert again with --overwrite, or choose another output folder"


@dataclass(frozen=True, slots=True)
class ClassList:
    """The classes of a split that is finished or begun."""

    names: tuple[str, ...] | None  #: by number; None: labels are numbers without names, or there are none
    labelled: bool  #: whether the split has labels
    stated: bool = True  #: whether its list was written down: version 0.1.0 did so only at the end


def of_split(split: Path) -> ClassList | None:
    """The classes of OUT/SPLIT; None where nothing was begun.

    Raises:
        VersionError: if it is of a version that this wdsremux does not know.
        OutputError: if its plan is damaged.
    """
    if (done := folder.finished(split)) is not None:
        names = None if done.classes is None else tuple(done.classes)
        return ClassList(names, done.options.get("label_column") is not None)
    before = journal.begun(split / journal.FOLDER)
    if before is None or not (before.states_classes or before.any_done):
        return None
    return ClassList(before.classes, before.labelled, before.states_classes)


def of_others(out: Path, split: str) -> Mapping[str, ClassList]:
    """The classes of OUT's other splits, by name; those without labels say nothing."""
    folders = sorted(path for path in out.iterdir() if path.is_dir() and path.name != split) if out.is_dir() else []
    found = {path.name: of_split(path) for path in folders}
    return {name: each for name, each in found.items() if each is not None and each.labelled and each.stated}


def settle(source: Source, split: Path, own: ClassList | None, others: Mapping[str, ClassList]) -> Source:
    """The source, its labels numbered as OUT numbers them.

    Args:
        source: as opened.
        split: OUT/SPLIT.
        own: the classes that the split was begun with.
        others: those of OUT's other splits.

    Raises:
        OutputError: if OUT has another list, naming the classes.
    """
    if own is not None and own.stated:
        return _under(source, own, str(split), "was started with", own=True)
    lists = {each.names for each in others.values()}
    if len(lists) > 1:
        raise OutputError(
            f"the splits {', '.join(others)} of {split.parent} number their classes differently. Convert them again "
            "with --overwrite, so that all have the same class list, or choose another output folder"
        )
    if own is not None and not source.read_as_before():
        raise OutputError(
            f"{split} was started by a version that numbered the labels of {source.columns.label!r} differently. {ANEW}"
        )
    if not lists:
        return source
    name, found = next(iter(others.items()))
    return _under(source, found, str(split.parent / name), "has", own=False)


def _under(source: Source, found: ClassList, whose: str, verb: str, own: bool) -> Source:
    """The source under a list of classes."""
    labels = source.labels
    if labels is None or labels.form == "nulls":
        return replace(source, adopted=found.names)
    if labels.classes is None and found.names is not None and own:
        return replace(source, labels=labels.named(found.names))
    if (labels.classes is None) != (found.names is None):
        kinds = {True: "numbers without names", False: f"the classes {_shown(found.names or labels.classes or ())}"}
        advice = f"Use the same names with --classes. {ANEW}" if not own else ANEW
        raise OutputError(
            f"{whose} {verb} {kinds[found.names is None]} as labels, but {source.description['name']} has "
            f"{kinds[labels.classes is None]}. {advice}"
        )
    try:
        return replace(source, labels=labels.under(found.names))
    except ValueError as error:
        raise OutputError(
            f"{source.description['name']} has classes that are not in the class list of {whose}: {error}. To keep all "
            f"splits in one output folder, name all classes with --classes when you convert the first split. {ANEW}"
        ) from error


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
