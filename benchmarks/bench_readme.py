"""Writes the page of benchmarks, and its picture, from what the two benchmarks found.

    python benchmarks/bench_readme.py build/bench-convert.json build/bench-load.json docs/benchmarks.md

The tables stand between two marks in the page, and are replaced whole. The picture is speed.svg beside it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from readme_part import replace_part

BEGIN, END = "<!-- speed: made by benchmarks/bench_readme.py -->", "<!-- end of speed -->"
PICTURE = "speed.svg"
OURS = ("wdsremux", "auto-", "rows-", "dali-")  #: what our own names begin with
#: The few that the picture shows: all that people ask for first. The tables have the others.
PICTURED = (
    *("wdsremux", "img2dataset", "map", "webdataset", "mds", "litdata"),
    *("auto-float", "peer-dali-float", "peer-litdata", "peer-webdataset-v2", "peer-imagefolder", "peer-mosaic"),
)
SIZES = {"small": "400-700 px", "large": "1,500-3,000 px"}

#: What stands in the tables for the names that the benchmarks give.
WORDS = {
    "wdsremux": "**`wdsremux convert`**, 2 workers",
    "wdsremux-1": "**`wdsremux convert`**, 1 worker",
    "wdsremux-fast": "**`wdsremux convert --fast`**, 2 workers",
    "forum": "all rows in one list, `Pool.starmap`, one Parquet file",
    "map": "`Dataset.map(num_proc=2)`, `save_to_disk`",
    "shard": "`IterableDataset.shard`, `to_parquet`",
    "webdataset": "`ShardWriter` fed by a `Pool`",
    "litdata": "LitData `optimize`",
    "mds": "MosaicML `MDSWriter` fed by a `Pool`",
    "ray": "Ray Data",
    "img2dataset": "img2dataset's resizer",
    "auto-float": "**`wdsremux.DataLoader`**, float NCHW",
    "auto-float-cl": "**`wdsremux.DataLoader`**, float channels_last",
    "auto-uint8-cl": "**`wdsremux.DataLoader`**, uint8 channels_last",
    "auto-half-cl": "**`wdsremux.DataLoader`**, half channels_last",
    "rows-float-cl": "**`wdsremux.DataLoader`**, float channels_last, of a set with `--restart-rows`",
    "rows-uint8-cl": "**`wdsremux.DataLoader`**, uint8 channels_last, of a set with `--restart-rows`",
    "dali-float": '**`wdsremux.DataLoader(backend="dali")`**, float NCHW',
    "dali-float-cl": '**`wdsremux.DataLoader(backend="dali")`**, float channels_last',
    "dali-uint8-cl": '**`wdsremux.DataLoader(backend="dali")`**, uint8 channels_last',
    "dali-half-cl": '**`wdsremux.DataLoader(backend="dali")`**, half channels_last',
    "bare-uint8-cl": "decoding, cropping and resizing alone, two threads",
    "peer-webdataset-pil": "webdataset, Pillow, torchvision transforms",
    "peer-webdataset-v2": "webdataset, torchvision v2",
    "peer-webdataset-v2-tuned": "webdataset, TorchCodec, torchvision v2",
    "peer-dali-float": "DALI `readers.webdataset`, NCHW",
    "peer-dali-float-cl": "DALI `readers.webdataset`, NHWC",
    "peer-datasets-webdataset": "`datasets`, streaming our tars",
    "peer-spdl-v2": "SPDL, torchvision v2",
    "peer-spdl-ffmpeg-cl": "SPDL, its own decoder",
    "peer-litdata": "LitData, its own format",
    "peer-mosaic": "MosaicML Streaming, its own format",
    "peer-grain": "grain, ArrayRecord",
    "peer-imagefolder": "torchvision `ImageFolder`",
    "peer-datasets-source": "`datasets` on the unconverted source",
}


def words(name: str) -> str:
    """A contender as a table names it."""
    base, plus, _ = name.partition("+")
    return WORDS.get(base, base) + (", with our codec" if plus else "")


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown; all columns but the first are numbers."""
    first, *others = headings
    lines = [f"| {' | '.join([first, *others])} |", f"|---|{'---:|' * len(others)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def median(entry: Mapping[str, Any], key: str, form: str) -> str:
    """A figure of a contender; nothing where it was not measured."""
    value = entry.get(key)
    return format(value["median"] if isinstance(value, dict) else value, form) if value is not None else ""


def convert_table(size: Mapping[str, Any]) -> str:
    """Of the photographs of one size: the quickest first."""
    found: dict[str, Any] = size["converters"]
    rows = []
    for name in sorted(found, key=lambda name: -found[name]["images_per_s"]["median"]):
        entry = found[name]
        rows.append(
            [
                words(name),
                median(entry, "images_per_s", ",.0f"),
                median(entry, "marginal_images_per_s", ",.0f"),
                median(entry, "cpu_ms", ".2f"),
                f"{entry['peak_pss_bytes'] / 1e6:,.0f}",
                f"{entry['bytes_an_image'] / 1e3:.1f}",
                median(entry, "psnr_db", ".2f"),
            ]
        )
    limits = {name: median(entry, "cpu_ms", ".2f") for name, entry in size["limits"].items()}
    rows.append(["our codec alone, one thread", "", "", limits["codec"], "", "", ""])
    rows.append(["entropy decoding alone", "", "", limits["entropy"], "", "", ""])
    headings = ("converter", "images/s", "steady images/s", "CPU ms per image", "peak MB", "KB per image", "PSNR dB")
    return table(headings, rows)


def load_table(found: Mapping[str, Any]) -> str:
    """Of loaders from a warm page cache: the quickest first."""
    rows = [
        [
            words(name),
            median(found[name], "images_per_s", ",.0f"),
            median(found[name], "first_epoch_images_per_s", ",.0f"),
            median(found[name], "first_batch_s", ".2f"),
            f"{found[name]['peak_pss_bytes'] / 1e6:,.0f}" if found[name].get("peak_pss_bytes") else "",
        ]
        for name in sorted(found, key=lambda name: -found[name]["images_per_s"]["median"])
    ]
    return table(("loader", "images/s", "first epoch", "first batch, s", "peak MB"), rows)


def epoch_rows(document: Mapping[str, Any]) -> Iterator[list[str]]:
    """First epochs from a cold cache and from the store, and the large photographs."""
    places = {
        "cold": "cold page cache",
        "store": "object store: 20 ms per request, 50 MB/s per connection",
        "large": "photographs of 1,500-3,000 px",
    }
    for section, place in places.items():
        for name, entry in document[section].items():
            key = "images_per_s" if section == "large" and "images_per_s" in entry else "first_epoch_images_per_s"
            yield [place, words(name), median(entry, key, ",.0f")]


def speed(convert: Mapping[str, Any], load: Mapping[str, Any]) -> str:
    """All that stands between the marks."""
    machine, versions = load["machine"], load["versions"]
    used = [name for name in versions if name not in ("numpy", "wdsremux")]
    used += [name for name in ("litdata", "mosaicml-streaming", "spdl", "grain") if name not in versions]
    known = {**load["peers"], **convert["peers"], **versions}
    parts = [
        f"![Images per second of converters and loaders]({PICTURE})",
        f"Measured {load['date'][:10]} on two cores of a machine with {machine['cpu']} and no GPU. "
        f"Medians of {load['settings']['rounds']} interleaved rounds ({convert['settings']['peer_rounds']} of other "
        "converters). " + ", ".join(f"{name} {known[name]}" for name in used if name in known) + ".",
    ]
    for size, pixels in SIZES.items():
        if size in convert["sizes"]:
            found = convert["sizes"][size]
            parts += [
                f"**Conversion** of {found['images']:,} photographs of {pixels} to 256 px, quality 90. *images/s* "
                "covers the whole command; *steady images/s* and *CPU ms* exclude start-up; memory is the PSS of all "
                "processes.",
                convert_table(found),
            ]
    parts += [
        f"**Loading**: random resized crops to {load['settings']['size']} px, flip, normalise (not uint8), batches of "
        f"{load['settings']['batch']}, two cores, {load['settings']['images']:,} photographs in the page cache.",
        load_table(load["contenders"]),
    ]
    if rows := list(epoch_rows(load)):
        parts += ["**Other conditions**, first epoch:", table(("data", "loader", "images/s"), rows)]
    return "\n\n".join(parts)


def draw(convert: Mapping[str, Any], load: Mapping[str, Any], picture: Path) -> None:
    """Bars: the best-known converters of small photographs, and loaders."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "speed", "font.size": 8, "svg.fonttype": "none"}
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    panels = (
        ("Converting: steady images/s", convert["sizes"]["small"]["converters"], "marginal_images_per_s"),
        ("Loading: images/s", load["contenders"], "images_per_s"),
    )
    chosen = [[name for name in PICTURED if name in found] for _, found, _ in panels]
    heights = [len(names) for names in chosen]
    figure, axes = pyplot.subplots(2, 1, figsize=(8, 1.2 + 0.2 * sum(heights)), height_ratios=heights)
    for axis, (title, found, key), names in zip(axes, panels, chosen, strict=True):
        names.sort(key=lambda name: found[name][key]["median"])
        values = [found[name][key]["median"] for name in names]
        colours = ["#c44e52" if name.startswith(OURS) else "#8c8c8c" for name in names]
        bars = axis.barh([words(name).replace("*", "").replace("`", "") for name in names], values, color=colours)
        axis.bar_label(bars, fmt=" {:,.0f}")
        axis.set_title(title, loc="left")
        axis.margins(x=0.1, y=0.01)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, metadata={"Date": None})


def main() -> None:
    converted, loaded, page = map(Path, sys.argv[1:4])
    convert, load = (json.loads(path.read_text()) for path in (converted, loaded))
    replace_part(page, BEGIN, END, speed(convert, load))
    draw(convert, load, page.parent / PICTURE)


if __name__ == "__main__":
    main()
