"""What beside source, recipe, options and seed shapes bytes: library versions and the CPU's capability."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from wdsremux import codec

_LIBRARIES = ("datasets", "numpy", "pillow", "pyarrow", "simplejpeg", "torch", "wdsremux", "webdataset")
MIXED = "mixed_environment"  #: key in the manifest's environment, true where a conversion went on in another one


def describe() -> dict[str, Any]:
    """The environment of this process, as it stands in plan and manifest."""
    import torch  # only here: see `codec.resize`

    # torch's uint8 resize gives the same with AVX2 and AVX-512, and others (within 1 of 255) without either.
    wide = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    libraries = {name: version(name) for name in _LIBRARIES}
    return libraries | {
        "libjpeg": codec.libjpeg_version(),
        "cpu": f"{platform.machine()} {'avx2' if wide else 'plain'}",
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What changed, as "torch 2.14.0 -> 2.14.1, …"; empty if nothing did."""
    names = sorted((before.keys() | now.keys()) - {MIXED})
    return ", ".join(f"{n} {before.get(n)} -> {now.get(n)}" for n in names if before.get(n) != now.get(n))
