"""Write the notebooks of examples/ with their outputs: run their cells, which stand below, in a kernel of their own.

    pip install nbclient ipykernel
    python scripts/docs_notebooks.py examples

All paths in them are relative, so what they read and write lies in build/.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

NOTEBOOKS = {
    "convert.ipynb": """
# %% [markdown]
# Convert on a small machine

This notebook converts a small set of photographs. It works in the same way for a data set of any size, on two CPU cores
and in sessions that end after some hours: run the notebook again, and each conversion resumes.

Install wdsremux from a checkout, with `pip install ".[notebook,sample]"`.
# %%
import sys

sys.path.append("../scripts")  # the folder of the script that makes the sample
from sample_source import write_sample

SOURCE = "../build/notebook-source"  # or your own folder, or a Hub id
OUT = "../build/notebook-256"  # on a disk that outlives the session

write_sample(SOURCE, train=300, test=60)
# %% [markdown]
## Try it first

`limit` converts a part of the source, taken evenly from all of it. Use another output folder: a set that was converted
with a limit cannot be extended.
# %%
import wdsremux

wdsremux.convert(SOURCE, "../build/notebook-trial", limit=50, progress=False)
# %% [markdown]
## Convert both splits

Splits that belong together go into the same folder. If the session ends, run the cell again: finished work is kept.
# %%
wdsremux.convert(SOURCE, OUT, split="train", progress=False)
wdsremux.convert(SOURCE, OUT, split="test", progress=False)
# %% [markdown]
## Look at the result

The manifest says what a split holds and where it came from.
# %%
manifest = wdsremux.manifest(OUT, "train")
print(f"{manifest.nsamples} images, {manifest.nrejects} rejected, {len(manifest.shards)} shards")
print(f"classes: {', '.join(manifest.classes)}")
# %% [markdown]
A stored image has a short side of 256 pixels; its aspect ratio is kept.
# %%
loader = wdsremux.DataLoader(OUT)
image, label = loader.dataset[0]
print(image.size, loader.classes[label])
image
# %% [markdown]
## Check the files

`verify` reads every file and returns what is damaged. To repair a set, delete these files and
convert again.
# %%
wdsremux.verify(OUT)
""",
    "train.ipynb": """
# %% [markdown]
# Train, and look at augmented batches

This notebook trains a small network on a converted set, after looking at what the network will see. It runs on a GPU if
there is one.

Install wdsremux from a checkout, with `pip install ".[examples,notebook,sample]"`.
# %%
import sys

sys.path.append("../scripts")  # the folder of the script that makes the sample
from sample_source import write_sample

import wdsremux

SOURCE, OUT = "../build/notebook-source", "../build/notebook-256"

write_sample(SOURCE, train=300, test=60)
for split in ("train", "test"):  # does nothing if the set is complete
    wdsremux.convert(SOURCE, OUT, split=split, progress=False)
# %% [markdown]
## Look at a batch

Ask for `uint8` images, which are not normalized, to display them.
# %%
import torch
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid


def show(**options):
    options = {"batch_size": 12, "size": 96, "dtype": torch.uint8} | options
    with wdsremux.DataLoader(OUT, **options) as loader:
        images, _ = next(iter(loader))
    return to_pil_image(make_grid(images.cpu(), nrow=6, padding=1))


show(augment="eval", shuffle=False)
# %% [markdown]
By default, a training batch has random crops and flips:
# %%
show(augment="train", shuffle=False)
# %% [markdown]
Turn on more with `wdsremux.Augment`. This is the augmentation of SimCLR:
# %%
colors = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "jitter": 0.8}
simclr = wdsremux.Augment(**colors, grayscale=0.2, blur=0.5)
show(augment=simclr, shuffle=False)
# %% [markdown]
## Train
# %%
from torchvision.models import resnet18

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
train = wdsremux.DataLoader(OUT, batch_size=32, size=64)
test = wdsremux.DataLoader(OUT, batch_size=32, size=64, split="test", augment="eval", shuffle=False)
model = resnet18(num_classes=train.num_classes).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
criterion = torch.nn.CrossEntropyLoss()

for epoch in range(train.epoch, 6):
    model.train()
    for images, labels in train:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        correct = sum((model(images).argmax(1) == labels).sum().item() for images, labels in test)
    print(f"epoch {epoch}: {correct} of {len(test.dataset)} test images are correct")
# %% [markdown]
To stop and resume within an epoch, save `train.state_dict()` in your checkpoint, as `train_minimal.py` does.

A loader keeps threads and memory from epoch to epoch. Close it when you have finished.
# %%
train.state_dict()
# %%
train.close()
test.close()
""",
}
MOST_BYTES = 300_000


def cells(text: str) -> list[tuple[str, str]]:
    """(kind, source) of the cells of a notebook."""
    _, *parts = re.split(r"^# %%( \[markdown\])?\n", text, flags=re.MULTILINE)
    marks, sources = parts[::2], parts[1::2]
    return [("markdown" if mark else "code", text.strip("\n")) for mark, text in zip(marks, sources, strict=True)]


def run(name: str, folder: Path) -> str:
    """A notebook as a file holds it, after its cells have been run in this folder."""
    nbformat: Any = importlib.import_module("nbformat")
    nbclient: Any = importlib.import_module("nbclient")
    v4 = nbformat.v4
    made = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    notebook = v4.new_notebook(
        cells=[made[kind](source, id=f"cell-{number}") for number, (kind, source) in enumerate(cells(NOTEBOOKS[name]))],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )
    notebook.nbformat_minor = 5
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, record_timing=False).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/jpeg" in output.get("data", {}):  # the same picture, and smaller
                output["data"].pop("image/png", None)
    nbformat.validate(notebook)
    return f"{nbformat.writes(notebook)}\n"


def main() -> None:
    folder = Path(sys.argv[1])
    for name in NOTEBOOKS:
        text = run(name, folder)
        if str(folder.resolve().parent) in text or str(Path.home()) + "/" in text or len(text) > MOST_BYTES:
            sys.exit(f"error: {name} holds a path of this machine, or more than {MOST_BYTES:,} bytes")
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
