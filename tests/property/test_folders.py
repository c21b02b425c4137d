"""The law of folders: every file is a row, describes one, or is named with the reason why it is not taken; and the
label of a picture is the folder right under its split that tells pictures apart."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Opened, Survey
from wdsremux.conversion.source.finding import listing
from wdsremux.conversion.source.finding.tree import CARDS
from wdsremux.conversion.source.kinds.images import image_survey as images
from wdsremux.errors import SourceError

FOLDERS = ["cat", "Dog", "train", "Train", "TEST", "val", "dev", "a.b", "c d", "test_1", "train images", "ä[1]*", "_x"]
SPLITTING = ["train", "Test"]
CLASSES = ["cat", "Dog", "train"]
HIDDEN = [".git", "__pycache__"]
PICTURES = ["1.jpg", "2.JPG", "train_1.png", "test.jpg", "a b.jpeg", "x.tar.jpg"]
FILES = ["1.txt", "1.TXT", "2.json", "1.cls"]
OTHERS = ["notes.txt", "x.tar.md", "LICENSE", ".DS_Store", "README.md", "no extension", "train.csv", "label.image"]
SPLITS = {
    "train": ["train", "training"],
    "validation": ["validation", "valid", "val", "dev"],
    "test": ["test", "testing", "eval", "evaluation"],
}

PLACES = [[[*FOLDERS, *HIDDEN]], [SPLITTING, CLASSES], [CLASSES, SPLITTING], [["data"], SPLITTING, FOLDERS]]


def file(levels: Sequence[Sequence[str]]) -> st.SearchStrategy[str]:
    """A file in folders of these names, level by level, the last ones again for those below."""
    folders = st.tuples(*map(st.sampled_from, levels)) | st.lists(st.sampled_from(levels[-1]), max_size=3)
    names = st.sampled_from(PICTURES) | st.sampled_from(PICTURES) | st.sampled_from(FILES + OTHERS)
    return st.tuples(folders.map("/".join), names).map("/".join)


files_ = st.sampled_from(PLACES).flatmap(lambda levels: st.lists(file(levels), min_size=1, max_size=14))
link = st.tuples(file(PLACES[0]), st.sampled_from([".", "..", "gone", "1.jpg", "cat", "../cat"]))


def tidy(name: str) -> str:
    return name.strip("/")


def build(root: Path, files: Sequence[str], links: Sequence[tuple[str, str]], described: Sequence[str]) -> None:
    for name in files:
        path = root / tidy(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    for name, target in links:
        path = root / f"{tidy(name)}.link.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(target)
    for folder in described:
        names = sorted(name for name in os.listdir(root / folder) if "1" in name and (root / folder / name).is_file())
        lines = ["file_name,n", *(f'"{name}",7' for name in names if not name.startswith("."))]
        (root / folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def walked(root: Path, at: str = "", above: tuple[str, ...] = ()) -> set[str]:
    """Every file at any depth; of a folder that links to one above, the link."""
    real = os.path.realpath(root / at)
    if any(f"{path}/".startswith(f"{real}/") for path in above):
        return {at}
    found = set()
    for name in os.listdir(root / at):
        inner = f"{at}/{name}".strip("/")
        if (root / inner).is_dir():
            found |= walked(root, inner, (*above, real))
        else:
            found.add(inner)
    return found


def opened_splits(root: Path) -> Mapping[str, tuple[Opened, Survey]] | None:
    """All splits; None if the folder holds no pictures."""
    try:
        first = listing.find(str(root), root, "none")
    except SourceError as error:
        if "has no split" not in str(error):
            raise
        names = str(error).rpartition(": ")[2].split(", ")
    else:
        assert first is None
        return None
    found = {}
    for split in names:
        opened = listing.find(str(root), root, split)
        assert opened is not None
        found[split] = opened, images.survey(opened, retry.Faults((OSError,)))
    return found


def rows(survey: Survey) -> list[tuple[str, str | None]]:
    """Paths and classes."""
    labelled = "label" in survey.columns
    found = []
    for fragment in survey.fragments:
        for piece in survey.reader.pieces(fragment, ["image", "label"] if labelled else ["image"], 7):
            assert not piece.faults
            for row in piece.table.to_pylist():
                label = row.get("label")
                found.append((row["image"]["path"], None if label is None else survey.columns["label"].names[0][label]))
    return found


def inner_folder(path: str, split: str) -> list[str]:
    """The folders of a picture without the one that is its split."""
    folders = path.split("/")[:-1]
    at = next((at for at, name in enumerate(folders) if name.lower() in SPLITS[split]), None)
    return folders if at is None else folders[:at] + folders[at + 1 :]


def expected_classes(pictures: Mapping[tuple[str, str], None], divided: bool) -> dict[tuple[str, str], str | None]:
    folders = {(s, p): inner_folder(p, s) if divided else p.split("/")[:-1] for s, p in pictures}
    levels = list(zip(*folders.values(), strict=False))  # as deep as the folder that is least deep
    common = next((depth for depth, names in enumerate(levels) if len(set(names)) > 1), len(levels))
    classes = {key: parts[common] if len(parts) > common else None for key, parts in folders.items()}
    return classes if len({name for name in classes.values() if name}) > 1 else dict.fromkeys(classes)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=files_,
    links=st.just([]) | st.lists(link, max_size=2),
    describe=st.integers(0, 3).map(lambda number: number == 0),
)
@example(files=["train/1.jpg", "Train/train/1.jpg", "dev/1.jpg"], links=[], describe=True)
@example(files=["cat/train/1.jpg", "cat/TEST/1.jpg", "Dog/train/1.jpg"], links=[("cat/x", "..")], describe=False)
@example(files=["cat/1.jpg", "train/1.jpg", "train/1.txt", "notes.txt"], links=[("x", "cat")], describe=False)
def test_nothing_is_lost(files: list[str], links: list[tuple[str, str]], describe: bool) -> None:
    root = Path(tempfile.mkdtemp(prefix="folders-")).resolve()
    try:
        described = {tidy(name).rpartition("/")[0] for name in files} if describe else set()
        build(root, files, links, [folder for folder in sorted(described) if "." not in folder[:1]])
        check(root)
    finally:
        shutil.rmtree(root)


def check(root: Path) -> None:
    try:
        found = opened_splits(root)
    except SourceError as error:
        event("refused")
        if len(str(error).splitlines()) != 1:
            raise
        return
    if found is None:
        event("no pictures")
        return
    event("splits" if len(found) > 1 else "one split")
    opened = next(iter(found.values()))[0]
    uses: dict[str, int] = {}
    taken: dict[tuple[str, str], str | None] = {}
    for split, (of_split, survey) in found.items():
        paths = {opened.relative(path): label for path, label in rows(survey)}
        taken.update({(split, path): label for path, label in paths.items()})
        metadata = [name for name in of_split.names if name.endswith("/metadata.csv") or name == "metadata.csv"]
        left = (name for names in (*survey.untaken.values(), *survey.unread.values()) for name in names)
        for name in (*paths, *metadata, *left):
            uses[name] = uses.get(name, 0) + 1
        assert of_split.untaken == opened.untaken
    for names in opened.untaken.values():
        for name in names:
            uses[name] = uses.get(name, 0) + 1
    check_uses(root, uses)
    if not any(name.endswith("metadata.csv") for of_split, _ in found.values() for name in of_split.names):
        assert taken == expected_classes(dict.fromkeys(taken), opened.how.startswith("the folder"))


def check_uses(root: Path, uses: Mapping[str, int]) -> None:
    """Each file is used or named once."""
    folders = [name for name in uses if name.endswith("/")]
    for name in walked(root):
        times = uses.get(name, 0) + sum(f"{name}/".startswith(folder) for folder in folders)
        assert times == (os.path.basename(name) not in CARDS or times), f"{name} is used or named {times} times"
