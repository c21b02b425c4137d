"""What decodes and augments a batch.

base.py             what a backend is, and which there are
trial.py            which way images take, and whether it works here
torchvision.py      threads (cpu_decoders.py; placement.py, scratch.py, restart_rows.py), or TorchCodec (resample.py)
dali.py             NVIDIA DALI; dali_pipelines.py: its pipelines, shared by loaders
canary.py           looks at what a GPU decodes, now and then
"""

from wdsremux.loading.backends.base import BACKENDS, CPU, GPU, Backend, Batch, Plug, Setup, find

__all__ = ["BACKENDS", "CPU", "GPU", "Backend", "Batch", "Plug", "Setup", "find"]
