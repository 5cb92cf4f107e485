"""The GPUs that a process may use, without torch."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: an index, or a UUID
_GPU = re.compile(r"\d+|(GPU|MIG)-.+")


def named_gpus() -> list[str] | None:
    """Return the GPUs that `CUDA_VISIBLE_DEVICES` names; None if it isn't set."""
    if (given := os.environ.get(VISIBLE)) is None:
        return None
    # as in CUDA, the first entry that names no GPU, such as -1, hides itself and all that follow
    return list(itertools.takewhile(_GPU.fullmatch, map(str.strip, given.split(","))))


def visible_gpus() -> list[str]:
    """Return the available GPUs: those in `CUDA_VISIBLE_DEVICES`, or all GPUs of this machine."""
    if (named := named_gpus()) is not None:
        return named
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
