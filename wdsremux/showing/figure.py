"""Draws what `wdsremux preview` shows, with matplotlib.

┌ stored │ epoch 0 │ 1 │ 2 │ 3 ┐ ┌ stored │ epoch 0 │ 1 │ 2 │ 3 ┐      a row for each sample, in two blocks
└──────────────────────────────┘ └──────────────────────────────┘
samples of each class │ longer sides │ sizes of files │ rejects
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from wdsremux.errors import BackendError, counted, install_command, printable
from wdsremux.loading.augment import Augment
from wdsremux.showing.png import SOFTWARE, Preview
from wdsremux.showing.shown import EPOCHS, Shown, gather

try:
    from matplotlib import font_manager, rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise BackendError(
        f"a preview needs matplotlib, which is not installed. Install it with {install_command('preview')}"
    ) from error

_BLOCKS = 2
_CELL, _ROW = 1.15, 1.4  #: inches of an image's side, and from one row to the next
_HEAD, _FOOT = 0.65, 2.9  #: inches above the first row, and for the counts
_LISTED = 8  #: classes, of the most and of the least frequent
_LONGEST = 28  #: characters of a name
#: Of families that have letters which matplotlib's own lacks; the first that a machine has of them is used.
_FAMILIES = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "WenQuanYi Zen Hei", "PingFang SC", "Yu Gothic")
_BARS = "#4c72b0"


def preview(out: Path, split: str, count: int, augment: Augment, size: int) -> Preview:
    """Of a split; the arguments are those of `gather`."""
    return draw(gather(out, split, count, augment, size))


def draw(shown: Shown) -> Preview:
    """All of it as one image."""
    families = _families()
    with rc_context({"font.family": families, "font.size": 8}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")  # see `_lacking`
        rows = -(-len(shown.names) // _BLOCKS)
        height = rows * _ROW + _HEAD
        figure = Figure(figsize=((_BLOCKS * (1 + EPOCHS) + 1) * _CELL, height + _FOOT), dpi=110)
        above, below = cast(Any, figure).subfigures(2, 1, height_ratios=[height, _FOOT])
        above.suptitle(_cut(shown.title, 110), fontsize=10, y=1 - 0.1 / height, va="top")
        _samples(above, shown, rows)
        _counts(below, shown)
        file = io.BytesIO()
        cast(Any, FigureCanvasAgg)(figure).print_png(file, metadata={"Software": SOFTWARE})
    names = [*shown.names, *(each.name for each in shown.classes if each.name is not None)]
    return Preview(file.getvalue(), _lacking("".join(names), families))


def _lacking(text: str, families: Sequence[str]) -> tuple[str, ...]:
    """What to say of letters that no font of this machine has."""
    known = {code for family in families for code in font_manager.get_font(font_manager.findfont(family)).get_charmap()}
    lacking = {letter for letter in printable(text) if ord(letter) not in known}
    if not lacking:
        return ()
    return (
        f"no font on this machine has {counted(len(lacking), 'letter')} of the names; boxes stand for them. Install "
        "one that does, such as Noto Sans CJK",
    )


def _families() -> list[str]:
    here = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FAMILIES if name in here)]


def _samples(figure: Any, shown: Shown, rows: int) -> None:
    wide = 1 + EPOCHS + 1  # with a narrow one between blocks
    ratios = ([1.0] * (1 + EPOCHS) + [0.3]) * _BLOCKS
    axes = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    top = 1 - _HEAD / (rows * _ROW + _HEAD)
    figure.subplots_adjust(left=0.02, right=1, bottom=0.01, top=top, wspace=0.04, hspace=_ROW / _CELL - 1)
    for cell in axes.flat:
        cell.axis("off")
    for number, name in enumerate(shown.names):
        row = axes[number % rows][number // rows * wide :][: 1 + EPOCHS]
        row[0].set_anchor("NW")
        corner = row[0].get_position(original=True)
        images = [shown.drawn.stored[number], *(each[number] for each in shown.drawn.trained)]
        for cell, pixels in zip(row, images, strict=True):
            cell.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 64 else "antialiased")
        title = f"{_cut(name, _LONGEST)}  ({shown.drawn.keys[number]})"
        line = 0.04 / (rows * _ROW + _HEAD)  # of the figure's height
        figure.text(corner.x0, corner.y1 + line, title, fontsize=7, va="bottom")
        if number % rows == 0:
            for cell, words in zip(row, ["stored", *(f"epoch {epoch}" for epoch in range(EPOCHS))], strict=True):
                box = cell.get_position(original=True)
                middle = (box.x0 + box.x1) / 2
                figure.text(middle, box.y1 + 5 * line, words, fontsize=7, color="#666666", ha="center", va="bottom")


def _counts(figure: Any, shown: Shown) -> None:
    by_class, sides, sizes, rejects = figure.subplots(1, 4, width_ratios=[1.3, 1, 1, 1.1])
    figure.subplots_adjust(left=0.16, right=0.98, bottom=0.17, top=0.88, wspace=0.45)
    _classes(by_class, shown)
    sides.hist(shown.longer_sides, bins=30, color=_BARS)
    sides.set_title("longer side, pixels")
    sizes.hist(shown.file_bytes / 1000, bins=30, color=_BARS)
    sizes.set_title("file size, KB")
    for axes in (sides, sizes):
        axes.set_ylabel("images")
        axes.locator_params(axis="x", nbins=4)
    if shown.reasons:
        words = [f"{count:,} × {_cut(reason, 34)}" for reason, count in shown.reasons[:_LISTED]]
        more = len(shown.reasons) - _LISTED
        _written(rejects, [*words, *([f"… and {counted(more, 'other reason')}"] if more > 0 else [])])
    else:
        _written(rejects, ["none"])
    rejects.set_title("rejected rows")


def _classes(axes: Any, shown: Shown) -> None:
    """Bars for the most frequent, and beneath them for the least."""
    found = shown.classes
    axes.set_title(f"samples per class ({counted(len(found), 'class', 'classes')})")
    if not found:
        _written(axes, ["no labels"])
        return
    left_out = len(found) - 2 * _LISTED
    listed = found if left_out <= 1 else [*found[:_LISTED], *found[-_LISTED:]]
    places = list(range(len(listed)))
    if left_out > 1:
        places = [place + (place >= _LISTED) for place in places]
        axes.text(0, _LISTED, f"  … {left_out:,} more", va="center", fontsize=7, color="#666666")
    axes.barh(places, [each.samples for each in listed], color=_BARS)
    labels = [f"class {each.label}" if each.name is None else _cut(each.name, _LONGEST) for each in listed]
    axes.set_yticks(places, labels, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=4)


def _written(axes: Any, lines: Sequence[str]) -> None:
    axes.axis("off")
    for number, line in enumerate(lines):
        axes.text(0, 0.94 - 0.11 * number, line, transform=axes.transAxes, va="top", fontsize=7)


def _cut(text: str, most: int) -> str:
    """No longer than that, and not taken for a formula."""
    text = printable(text)
    return (text if len(text) <= most else f"{text[: most - 1]}…").replace("$", r"\$")
