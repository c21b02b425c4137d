"""Who takes part in bench_load.py, and by which name."""

from __future__ import annotations

from functools import partial

from bench_loaders import RESTARTS, Contender, bare, ours
from bench_peers_own import datasets_source, grain, image_folder, litdata, mosaic
from bench_peers_tars import (
    dali_readers_webdataset,
    datasets_webdataset,
    spdl,
    webdataset_pil,
    webdataset_v2,
)

V2 = "torchvision.transforms.v2"


def _ours(backend: str, dtype: str = "float32", channels_last: bool = False, form: str = "tars") -> Contender:
    stream = partial(ours, backend=backend, dtype=dtype, channels_last=channels_last, form=form)
    return Contender(
        stream=stream, imports=("wdsremux",), form=form, peer=False, dtype=dtype, channels_last=channels_last
    )


def _dali(channels_last: bool) -> Contender:
    stream = partial(dali_readers_webdataset, channels_last=channels_last)
    imports = ("nvidia.dali.fn", "nvidia.dali.types", "nvidia.dali.plugin.pytorch")
    return Contender(stream=stream, imports=imports, channels_last=channels_last)


CONTENDERS: dict[str, Contender] = {
    "auto-float": _ours("auto"),
    "auto-float-cl": _ours("auto", channels_last=True),
    "auto-uint8-cl": _ours("auto", dtype="uint8", channels_last=True),
    "auto-half-cl": _ours("auto", dtype="float16", channels_last=True),
    "rows-float-cl": _ours("auto", channels_last=True, form=RESTARTS),
    "rows-uint8-cl": _ours("auto", dtype="uint8", channels_last=True, form=RESTARTS),
    "dali-float": _ours("dali"),
    "dali-float-cl": _ours("dali", channels_last=True),
    "dali-uint8-cl": _ours("dali", dtype="uint8", channels_last=True),
    "dali-half-cl": _ours("dali", dtype="float16", channels_last=True),
    "bare-uint8-cl": Contender(stream=bare, imports=("wdsremux.codec",), peer=False, dtype="uint8", channels_last=True),
    "peer-webdataset-pil": Contender(stream=webdataset_pil, imports=("webdataset", "torchvision.transforms")),
    "peer-webdataset-v2": Contender(stream=partial(webdataset_v2, tuned=False), imports=("webdataset", V2)),
    "peer-webdataset-v2-tuned": Contender(
        stream=partial(webdataset_v2, tuned=True), imports=("webdataset", V2, "torchcodec.decoders")
    ),
    "peer-dali-float": _dali(channels_last=False),
    "peer-dali-float-cl": _dali(channels_last=True),
    "peer-datasets-webdataset": Contender(stream=datasets_webdataset, imports=("datasets", V2)),
    "peer-spdl-v2": Contender(
        stream=partial(spdl, ffmpeg=False), imports=("spdl.io", "spdl.pipeline", "torchvision.io", V2)
    ),
    "peer-spdl-ffmpeg-cl": Contender(
        stream=partial(spdl, ffmpeg=True), imports=("spdl.io", "spdl.pipeline"), channels_last=True
    ),
    "peer-litdata": Contender(stream=litdata, imports=("litdata", V2), form="litdata"),
    "peer-mosaic": Contender(stream=mosaic, imports=("streaming", V2), form="mosaic"),
    "peer-grain": Contender(stream=grain, imports=("grain.python", "torchvision.io", V2), form="records"),
    "peer-imagefolder": Contender(stream=image_folder, imports=("torchvision.datasets", V2), form="folder"),
    "peer-datasets-source": Contender(stream=datasets_source, imports=("datasets", V2), form="arrow"),
}

#: Who takes part besides, and why there is no figure.
LEFT_OUT = {
    "peer-ffcv": "does not install: its build needs OpenCV's C++ headers and libturbojpeg's pkg-config file,"
    " and it has no wheels",
    "store: auto-float-cl": "takes a folder and no URL: a store is mounted, or copied first",
    "store: peer-dali": "reads files only",
}

COLD = (
    "auto-float-cl",
    "peer-webdataset-v2",
    "peer-dali-float-cl",
    "peer-litdata",
    "peer-mosaic",
    "peer-imagefolder",
)
STORE = ("peer-webdataset-v2", "peer-datasets-webdataset", "peer-litdata", "peer-mosaic")
